"""Population-based training (Jaderberg et al. 2017): members train in segments; those behind go on from a copy of one ahead.

A trial is one segment of one member. A member in the lowest share of the population takes over the checkpoint and the values of one
of the highest share (exploit) and its continuous values are perturbed or drawn anew (explore); others go on as they are. What cannot
change under a checkpoint, such as sizes and choices, is inherited and never perturbed.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from narf.domain.errors import BadInput
from narf.tuning.proposer import Earlier, Proposal, Proposer, usable
from narf.tuning.space import Kind, Parameter, Scale, Space, Values
from narf.tuning.study import Direction, Search, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    """reports: how many values of the metric a segment gives. share: of the population that is behind, and ahead.

    resample: how often a value is drawn anew when it is explored; else it is multiplied or divided by `factor`.
    """

    size: int = 8
    reports: int = 1
    share: float = 0.25
    resample: float = 0.25
    factor: float = 1.25

    def __post_init__(self) -> None:
        if not 2 <= self.size <= 10_000:
            raise _refusal(f"a population has 2 to 10,000 members, not {self.size}")
        if not 1 <= self.reports <= 1_000_000:
            raise _refusal(f"a segment gives at least one report, not {self.reports}")
        if not 0 < self.share <= 0.5 or not 0 <= self.resample <= 1 or not 1 < self.factor <= 100:
            raise _refusal("share lies between 0 and 0.5, resample between 0 and 1, factor above 1")


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of training. source: the trial whose checkpoint it goes on from; None at birth."""

    member: int
    generation: int
    source: int | None
    values: Values
    exploits: bool = False


def next_segment(
    trials: Sequence[Trial], number: int, space: Space, direction: Direction, population: Population, seed: int
) -> Segment | None:
    """The next segment of the member that has waited longest; None while nobody is ready. The same record gives the same answer.

    Members that are not born yet are the caller's: this is about those that have trained.
    """
    standing = standing_of(trials)
    ready = [trial for trial in latest_of(trials).values() if can_go_on(trial, standing, direction)]
    if not ready:
        return None
    own = min(ready, key=lambda trial: (trial.told_at if trial.told_at is not None else math.inf, trial.number))
    rng = random.Random(f"{seed}:{number}")
    ranked = ranking(standing, direction)
    count = max(1, int(len(ranked) * population.share))
    behind = {trial.number for trial in ranked[-count:]} if len(ranked) > count else set()
    ahead = [trial for trial in ranked[:count] if trial.number != own.number]
    assert own.member is not None
    if ahead and (own.number in behind or own.state is TrialState.FAILED):
        source = ahead[rng.randrange(len(ahead))]
        values = {
            parameter.name: explore(parameter, source.values[parameter.name], population, rng)
            for parameter in space
            if parameter.name in source.values
        }
        return Segment(own.member, own.generation + 1, source.number, values, exploits=True)
    return Segment(own.member, own.generation + 1, own.number, dict(own.values))


def latest_of(trials: Iterable[Trial]) -> dict[int, Trial]:
    """The newest segment of each member."""
    latest: dict[int, Trial] = {}
    for trial in sorted(trials, key=lambda trial: trial.number):
        if trial.member is not None:
            latest[trial.member] = trial
    return latest


def standing_of(trials: Iterable[Trial]) -> dict[int, Trial]:
    """The newest segment of each member that has ended: what the members are measured by while some train."""
    return latest_of(trial for trial in trials if trial.state.is_finished)


def can_go_on(trial: Trial, standing: dict[int, Trial], direction: Direction) -> bool:
    """Whether its member can train on: it has ended a segment well, or there is one to copy."""
    if trial.state is TrialState.SUCCEEDED:
        return True
    return trial.state is TrialState.FAILED and any(other.number != trial.number for other in ranking(standing, direction))


def ranking(standing: dict[int, Trial], direction: Direction) -> list[Trial]:
    """Members by the value of the newest segment they ended, the best first."""
    sign = 1 if direction is Direction.MINIMIZE else -1
    known = [trial for trial in standing.values() if trial.state is TrialState.SUCCEEDED and trial.value is not None]
    return sorted(known, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


def explore(parameter: Parameter, value: object, population: Population, rng: random.Random) -> bool | int | float | str | None:
    """Another value near by. Only continuous parameters change: a checkpoint fits no other size or choice."""
    if parameter.kind is not Kind.FLOAT or isinstance(value, bool) or not isinstance(value, int | float):
        assert value is None or isinstance(value, bool | int | float | str)
        return value
    assert parameter.low is not None and parameter.high is not None
    if rng.random() < population.resample:
        if parameter.scale is Scale.LOG:
            drawn = math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high)))
        else:
            drawn = rng.uniform(parameter.low, parameter.high)
    else:
        drawn = value * population.factor if rng.random() < 0.5 else value / population.factor
    drawn = min(max(drawn, parameter.low), parameter.high)
    if parameter.step is not None:
        drawn = min(parameter.low + round((drawn - parameter.low) / parameter.step) * parameter.step, parameter.high)
    return drawn


def lineage(trials: Sequence[Trial], last: Trial) -> list[Trial]:
    """The segments that led to `last`, the first one first: the schedule that was learned."""
    by_number = {trial.number: trial for trial in trials}
    chain = [last]
    while chain[-1].source is not None and chain[-1].source in by_number and len(chain) <= len(trials):
        chain.append(by_number[chain[-1].source])
    return list(reversed(chain))


class PbtProposer:
    """Asked and told as `Proposer` is; all it knows is the record, so there is nothing to replay."""

    def __init__(
        self, space: Space, direction: Direction, search: Search, initial: Sequence[Values] = (), earlier: Iterable[Earlier] = ()
    ) -> None:
        self.population = population_of(search)
        self._space, self._direction, self._seed = space, direction, search.seed
        self._births = Proposer(space, direction, Search(sampler="random", seed=search.seed), initial)
        best = sorted(earlier, key=lambda trial: trial.value if direction is Direction.MINIMIZE else -trial.value)
        whole = [values for trial in best if (values := usable(trial.values, space, search))]
        self._inherited = whole[: self.population.size // 4]
        self._trials: dict[int, Trial] = {}
        self._segments: dict[int, Segment] = {}

    @property
    def is_exhausted(self) -> bool:
        """Every member has trained to its end, or failed with none to copy."""
        return self.ready == 0 and not self.running and self._born >= self.population.size

    @property
    def running(self) -> frozenset[int]:
        return frozenset(number for number, trial in self._trials.items() if trial.state is TrialState.RUNNING)

    @property
    def ready(self) -> int:
        """How many segments can begin now."""
        standing = standing_of(self._trials.values())
        idle = sum(can_go_on(trial, standing, self._direction) for trial in latest_of(self._trials.values()).values())
        return max(0, self.population.size - self._born) + idle

    @property
    def _born(self) -> int:
        return len({trial.member for trial in self._trials.values()})

    def know(self, trials: Iterable[Trial]) -> None:
        """Take the record as it is now."""
        self._trials = {trial.number: trial for trial in trials}

    def replay(self, trials: Sequence[Trial]) -> None:
        self.know(trials)
        for number in range(self._born):
            self._birth(number)  # so that those to come are what they would have been

    def propose(self, number: int) -> Proposal:
        """The segment of trial `number`. Ask only while `ready`."""
        if self._born < self.population.size:
            return Proposal(self._birth(self._born), self._born)
        segment = next_segment(list(self._trials.values()), number, self._space, self._direction, self.population, self._seed)
        assert segment is not None, "asked while no member is ready"
        return Proposal(segment.values, segment.member, segment.generation, segment.source)

    def report(self, number: int, value: float) -> bool:
        """Nobody is stopped early: whoever is behind goes on from a better place."""
        return False

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """The record says it all."""

    def _birth(self, number: int) -> Values:
        values = self._births.ask(number)
        if number < len(self._inherited) and set(self._inherited[number]) == set(values):
            return dict(self._inherited[number])
        return values


def population_of(search: Search) -> Population:
    """Raises BadInput: an option is unknown or makes no sense."""
    kinds = {"population": int, "reports": int, "share": float, "resample": float, "factor": float}
    given: dict[str, float] = {}
    for name, value in search.sampler_options:
        if name not in kinds:
            raise _refusal(f"pbt has no option {name[:60]!r}; it has {', '.join(kinds)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or (kinds[name] is int and value != int(value)):
            raise _refusal(f"option {name} of pbt is a number, not {value!r}")
        given["size" if name == "population" else name] = kinds[name](value)
    return Population(**given)  # type: ignore[arg-type]


def _refusal(what: str) -> BadInput:
    return BadInput(f"{what[0].upper()}{what[1:]}.", field="sampler_options", code="bad_sampler")
