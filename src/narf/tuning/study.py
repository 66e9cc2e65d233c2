"""The nouns of tuning: a study, its trials, what ends either, and what a study may spend."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from narf.domain.errors import BadInput, IllegalTransition
from narf.domain.workload import Program, Resources
from narf.tuning.discovery.found import Passing
from narf.tuning.space import Space, Value, Values


class Direction(StrEnum):
    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"

    def better(self, one: float, other: float) -> bool:
        return one < other if self is Direction.MINIMIZE else one > other


class Engine(StrEnum):
    EMBEDDED = "embedded"  # Optuna proposes, every trial is a workload of its own
    RAY = "ray"  # one workload drives Ray Tune, which runs the trials


class StudyState(StrEnum):
    RUNNING = "running"
    PAUSED = "paused"  # running trials end, no new one begins
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self in (StudyState.SUCCEEDED, StudyState.FAILED, StudyState.CANCELLED)


_S = StudyState
# A finished study goes on when its budget is extended.
NEXT: dict[StudyState, frozenset[StudyState]] = {
    _S.RUNNING: frozenset({_S.PAUSED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PAUSED: frozenset({_S.RUNNING, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset({_S.RUNNING}),
    _S.FAILED: frozenset({_S.RUNNING}),
    _S.CANCELLED: frozenset({_S.RUNNING}),
}


class StudyEnd(StrEnum):
    """Why a study ended."""

    TRIALS = "trials"
    TIME = "time"
    GPU_HOURS = "gpu_hours"
    PLATEAU = "plateau"
    EXHAUSTED = "exhausted"
    ALL_FAIL = "all_fail"
    NOTHING_WORKED = "nothing_worked"
    DRIVER_FAILED = "driver_failed"
    SEARCH_FAILED = "search_failed"
    CANCELLED = "cancelled"

    def sentence(self, detail: str = "") -> str:
        text = {
            StudyEnd.TRIALS: "All trials of the budget are done.",
            StudyEnd.TIME: "The time of the budget is used up.",
            StudyEnd.GPU_HOURS: "The GPU-hours of the budget are used up.",
            StudyEnd.PLATEAU: "More trials would gain less than the least gain that was asked for.",
            StudyEnd.EXHAUSTED: "Every point of the space has been tried.",
            StudyEnd.ALL_FAIL: "Every trial fails in the same way, so the study stopped early:",
            StudyEnd.NOTHING_WORKED: "No trial gave a value:",
            StudyEnd.DRIVER_FAILED: "The program that drives the trials cannot go on:",
            StudyEnd.SEARCH_FAILED: "Nothing more could be proposed:",
            StudyEnd.CANCELLED: "It was cancelled.",
        }[self]
        return f"{text} {detail}".strip()


class TrialState(StrEnum):
    RUNNING = "running"  # proposed; its workload waits or runs
    PAUSED = "paused"  # a member of a population that Ray has put aside: it goes on when its turn comes
    SUCCEEDED = "succeeded"
    PRUNED = "pruned"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self not in (TrialState.RUNNING, TrialState.PAUSED)


class Fault(StrEnum):
    """What went wrong with a trial."""

    CRASHED = "crashed"
    REJECTED = "rejected"
    UNUSED = "unused"
    DIVERGED = "diverged"
    NO_METRIC = "no_metric"
    HUNG = "hung"
    TIME_LIMIT = "time_limit"
    OUT_OF_MEMORY = "out_of_memory"
    NOT_STARTED = "not_started"

    def sentence(self, *, metric: str = "", detail: str = "") -> str:
        text = {
            Fault.CRASHED: "The script failed.",
            Fault.REJECTED: "The script does not accept these values.",
            Fault.UNUSED: "None of its values reached the script, so all trials would be the same:",
            Fault.DIVERGED: f"{metric} became infinite or no number.",
            Fault.NO_METRIC: f"The script ended without reporting {metric}.",
            Fault.HUNG: "It ran more than ten times as long as its like and was stopped.",
            Fault.TIME_LIMIT: "It reached the time limit of a trial and was stopped.",
            Fault.OUT_OF_MEMORY: "It used more memory than it asked for and was stopped.",
            Fault.NOT_STARTED: "It could not be started.",
        }[self]
        return f"{text} {detail}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a study ends: whichever of these comes first. None: without limit.

    least_gain: it ends when as many trials again are expected to better the best value by less than this.
    """

    trials: int | None = None
    seconds: float | None = None
    gpu_hours: float | None = None
    least_gain: float | None = None

    def __post_init__(self) -> None:
        for name in ("trials", "seconds", "gpu_hours", "least_gain"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e12:
                raise BadInput(f"A budget's {name} must be above 0, not {value:g}.", field=f"budget.{name}", code="bad_budget")
        if self.trials is None and self.seconds is None and self.gpu_hours is None:
            raise BadInput(
                "A study needs an end.", remedy="Give a number of trials, a time or GPU-hours.", field="budget", code="bad_budget"
            )
        if self.trials is not None and self.trials > 100_000:
            raise BadInput("A study has at most 100,000 trials.", field="budget.trials", code="bad_budget")

    def to_json(self) -> dict[str, Any]:
        return {"trials": self.trials, "seconds": self.seconds, "gpu_hours": self.gpu_hours, "least_gain": self.least_gain}


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """How points are chosen and trials stopped early: names of a sampler and a pruner with their options."""

    sampler: str = "tpe"
    sampler_options: tuple[tuple[str, Any], ...] = ()
    pruner: str = "none"
    pruner_options: tuple[tuple[str, Any], ...] = ()
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """One search over a space. `version` guards writes.

    value_from: which value of the metric's series counts for a trial: "last" or "best".
    parallel: at most so many trials at once; the scheduler may grant fewer. events: how many asks and tells there were.
    """

    id: str
    project: str
    owner: str
    name: str
    created_at: datetime
    program: Program
    resources: Resources
    space: Space
    bindings: tuple[tuple[str, Passing], ...]
    metric: str
    direction: Direction
    search: Search = field(default_factory=Search)
    budget: Budget
    parallel: int = 4
    engine: Engine = Engine.EMBEDDED
    value_from: str = "last"
    initial: tuple[Values, ...] = ()
    warm_from: tuple[str, ...] = ()
    trial_time_limit_seconds: float | None = None
    priority: int = 0
    experiment: str = ""
    state: StudyState = StudyState.RUNNING
    run_id: str | None = None
    workload_id: str | None = None  # the driver, of an engine that has one
    ended_at: datetime | None = None
    end: StudyEnd | None = None
    detail: str = ""
    active_seconds: float = 0.0  # spent running before `active_since`
    active_since: datetime | None = None
    events: int = 0
    version: int = 0

    def to(self, state: StudyState) -> Study:
        """This study in `state`.

        Raises:
            IllegalTransition: `state` does not follow the current one.
        """
        if state not in NEXT[self.state]:
            raise IllegalTransition(f"Study {self.name}", self.state, state)
        return replace(self, state=state)

    def spent_seconds(self, now: datetime) -> float:
        """Time in which it was running, without pauses."""
        running = (now - self.active_since).total_seconds() if self.active_since is not None else 0.0
        return self.active_seconds + max(running, 0.0)

    def sentence(self) -> str:
        if self.end is not None and self.state.is_finished:
            return self.end.sentence(self.detail)
        return {StudyState.RUNNING: "It runs.", StudyState.PAUSED: "It is paused."}.get(self.state, f"It {self.state.value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One point of a study's space and what came of it.

    asked_at, told_at: the place of its proposal and of its result in the study's order of events.
    reports: values of the metric as (step, value), in the order in which they came.
    """

    study_id: str
    number: int
    values: Values
    state: TrialState = TrialState.RUNNING
    workload_id: str | None = None
    run_id: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    value: float | None = None
    reports: tuple[tuple[int, float], ...] = ()
    fault: Fault | None = None
    detail: str = ""
    asked_at: int = 0
    told_at: int | None = None
    gpu_seconds: float = 0.0
    stopping: TrialState | None = None  # asked to stop; this is what it becomes
    member: int | None = None  # of a population: the trial is one segment of this member's training
    generation: int = 0
    source: int | None = None  # the trial whose checkpoint it goes on from

    @property
    def seconds(self) -> float | None:
        if self.started_at is None or self.ended_at is None:
            return None
        return (self.ended_at - self.started_at).total_seconds()


def best_of(trials: list[Trial], direction: Direction) -> Trial | None:
    """The best trial that has a value, finished or put aside; the earlier one of two equals."""
    done = [trial for trial in trials if trial.state in (TrialState.SUCCEEDED, TrialState.PAUSED) and trial.value is not None]
    if not done:
        return None
    sign = 1 if direction is Direction.MINIMIZE else -1
    return min(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))


__all__ = ["Budget", "Direction", "Engine", "Fault", "Search", "Study", "StudyEnd", "StudyState", "Trial", "TrialState", "Value", "best_of"]
