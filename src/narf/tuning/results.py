"""What the trials of a study tell: history, parallel coordinates, slices, importance, and a board across studies. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from narf.tuning.proposer import Proposer
from narf.tuning.space import Kind, Parameter, Value, Values
from narf.tuning.study import Direction, Search, Study, Trial, TrialState, best_of

LEAST_FOR_IMPORTANCE = 5
_BEST_SHARE = 4  # the best quarter of the trials is the best known region


@dataclass(frozen=True, slots=True)
class History:
    numbers: list[int]
    values: list[float]
    best: list[float]
    states: list[str]


@dataclass(frozen=True, slots=True)
class ParallelCoordinates:
    axes: list[Parameter]
    numbers: list[int]
    lines: list[list[Value]]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Region:
    """Where the best trials lie: a range of numbers, or the choices among them."""

    low: Value = None
    high: Value = None
    choices: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """The studies of one script and metric."""

    script: str
    metric: str
    direction: Direction
    studies: list[str]
    trials: int
    best_value: float | None
    best_values: Values
    best_study: str | None
    importance: dict[str, float]
    regions: dict[str, Region]


def valued(trials: Sequence[Trial]) -> list[Trial]:
    """Trials that gave a number, in the order in which they ended."""
    found = [
        trial
        for trial in trials
        if trial.state in (TrialState.SUCCEEDED, TrialState.PRUNED) and trial.value is not None and math.isfinite(trial.value)
    ]
    return sorted(found, key=lambda trial: (trial.told_at if trial.told_at is not None else math.inf, trial.number))


def history(trials: Sequence[Trial], direction: Direction) -> History:
    """Values by the number of the trial, and the best of those up to it."""
    done = sorted(valued(trials), key=lambda trial: trial.number)
    best: list[float] = []
    current: float | None = None
    for trial in done:
        assert trial.value is not None
        if trial.state is TrialState.SUCCEEDED and (current is None or direction.better(trial.value, current)):
            current = trial.value
        best.append(trial.value if current is None else current)
    return History(
        [trial.number for trial in done], [trial.value for trial in done if trial.value is not None], best, [t.state.value for t in done]
    )


def parallel_coordinates(study: Study, trials: Sequence[Trial]) -> ParallelCoordinates:
    done = valued(trials)
    return ParallelCoordinates(
        list(study.space),
        [trial.number for trial in done],
        [[trial.values.get(name) for name in study.space.names] for trial in done],
        [trial.value for trial in done if trial.value is not None],
    )


def slices(study: Study, trials: Sequence[Trial]) -> dict[str, dict[str, list[Any]]]:
    """For each parameter: its values and the results, of the trials in which it was present."""
    done = valued(trials)
    found: dict[str, dict[str, list[Any]]] = {}
    for name in study.space.names:
        present = [trial for trial in done if name in trial.values]
        found[name] = {
            "values": [trial.values[name] for trial in present],
            "results": [trial.value for trial in present],
            "numbers": [trial.number for trial in present],
        }
    return found


def importance(study: Study, trials: Sequence[Trial]) -> dict[str, float]:
    """How much of the variation each parameter explains (PED-ANOVA), most first; empty while there are too few trials."""
    done = [trial for trial in trials if trial.state is TrialState.SUCCEEDED and trial.value is not None]
    if len(done) < LEAST_FOR_IMPORTANCE:
        return {}
    proposer = Proposer(study.space, study.direction, Search())
    proposer.feed(done)
    return proposer.importance()


def board(studies: Sequence[tuple[Study, Sequence[Trial]]]) -> list[Group]:
    """One group for each script and metric, the one with most trials first."""
    groups: dict[tuple[str, str, Direction], list[tuple[Study, Sequence[Trial]]]] = {}
    for study, trials in studies:
        groups.setdefault((study.program.script or "", study.metric, study.direction), []).append((study, trials))
    return sorted((_group(*key, members) for key, members in groups.items()), key=lambda group: (-group.trials, group.script))


def _group(script: str, metric: str, direction: Direction, members: Sequence[tuple[Study, Sequence[Trial]]]) -> Group:
    done = [
        (study, trial) for study, trials in members for trial in trials if trial.state is TrialState.SUCCEEDED and trial.value is not None
    ]
    bests = [(study, best) for study, trials in members if (best := best_of(list(trials), direction)) is not None]
    sign = 1 if direction is Direction.MINIMIZE else -1
    study, best = min(bests, key=lambda pair: sign * (pair[1].value or 0.0), default=(None, None))
    ranked = sorted(done, key=lambda pair: sign * (pair[1].value or 0.0))
    top = [trial for _, trial in ranked[: max(1, len(ranked) // _BEST_SHARE)]] if ranked else []
    parameters = {parameter.name: parameter for one, _ in members for parameter in one.space}
    return Group(
        script=script,
        metric=metric,
        direction=direction,
        studies=[one.name for one, _ in members],
        trials=sum(len(trials) for _, trials in members),
        best_value=best.value if best else None,
        best_values=dict(best.values) if best else {},
        best_study=study.name if study else None,
        importance=_together([(importance(one, trials), len(trials)) for one, trials in members]),
        regions={name: _region(parameter, top) for name, parameter in parameters.items()},
    )


def _together(found: Sequence[tuple[Mapping[str, float], int]]) -> dict[str, float]:
    """Importance over several studies, each weighed by its trials."""
    totals: dict[str, float] = {}
    weights: dict[str, int] = {}
    for shares, weight in found:
        for name, share in shares.items():
            totals[name] = totals.get(name, 0.0) + share * weight
            weights[name] = weights.get(name, 0) + weight
    return dict(sorted(((name, total / weights[name]) for name, total in totals.items()), key=lambda item: -item[1]))


def _region(parameter: Parameter, top: Sequence[Trial]) -> Region:
    values = [trial.values[parameter.name] for trial in top if parameter.name in trial.values]
    if not values:
        return Region()
    if parameter.kind in (Kind.FLOAT, Kind.INT):
        numbers = [value for value in values if isinstance(value, int | float)]
        return Region(min(numbers), max(numbers)) if numbers else Region()
    return Region(choices=tuple(sorted(set(values), key=lambda value: (-values.count(value), str(value)))))
