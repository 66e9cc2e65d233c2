"""What a study does next: begin trials, stop trials, end. Pure: the same record and time give the same decision."""

from __future__ import annotations

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from narf.tuning.study import Direction, Fault, Study, StudyEnd, StudyState, Trial, TrialState, best_of

SAME_FAILURES = 3  # so many trials in a row that fail alike, and none that worked: the rest would too
HUNG_FACTOR = 10.0
HUNG_LEAST_SECONDS = 60.0
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|-?\d+(\.\d+)?([eE][-+]?\d+)?")


@dataclass(frozen=True, slots=True)
class Step:
    """ask: how many trials to begin. stop: (number, what it becomes, fault) of trials to stop. end: why the study ends now."""

    ask: int = 0
    stop: tuple[tuple[int, TrialState, Fault | None], ...] = ()
    end: StudyEnd | None = None
    detail: str = ""


def decide(
    study: Study, trials: Sequence[Trial], now: datetime, *, waiting: int = 0, exhausted: bool = False, ready: int | None = None
) -> Step:
    """The next step of a running or paused study.

    Args:
        trials: all of them. waiting: how many are in the queue without capacity; while there is one, no more are begun, so that
            a study takes what is idle and no more.
        exhausted: the sampler has proposed every point. ready: how many it can propose now, None: any number.
    """
    running = [trial for trial in trials if trial.state is TrialState.RUNNING]
    if study.state.is_finished:
        return Step(stop=_all(running, TrialState.CANCELLED))
    if found := _same_failure(study, trials):
        return Step(stop=_all(running, TrialState.CANCELLED), end=StudyEnd.ALL_FAIL, detail=found)
    hung = tuple((trial.number, TrialState.FAILED, Fault.HUNG) for trial in running if _is_hung(trial, trials, now))
    limit = limit_reached(study, trials, now)
    if limit is not None and limit is not StudyEnd.TRIALS:
        if not running:
            return _ended(study, trials, limit)
        return Step(stop=_all(running, TrialState.CANCELLED))
    if limit is StudyEnd.TRIALS or exhausted:
        if running:
            return Step(stop=hung)
        return _ended(study, trials, limit or StudyEnd.EXHAUSTED)
    if study.state is StudyState.PAUSED:
        return Step(stop=hung)
    room = _room(study, trials, len(running), waiting)
    return Step(ask=room if ready is None else min(room, ready), stop=hung)


def wants_more(study: Study, trials: Sequence[Trial]) -> bool:
    """Whether it would begin another trial now if none waited for capacity."""
    running = sum(trial.state is TrialState.RUNNING for trial in trials)
    return study.state is StudyState.RUNNING and _room(study, trials, running, 0) > 0


def _room(study: Study, trials: Sequence[Trial], running: int, waiting: int) -> int:
    room = study.parallel - running
    if study.budget.trials is not None:
        room = min(room, study.budget.trials - len(trials))
    return max(0, min(room, 1 - waiting if waiting else room))


def limit_reached(study: Study, trials: Sequence[Trial], now: datetime) -> StudyEnd | None:
    """The limit of its budget that ends it; None: it may go on."""
    budget = study.budget
    if budget.seconds is not None and study.spent_seconds(now) >= budget.seconds:
        return StudyEnd.TIME
    if budget.gpu_hours is not None and sum(trial.gpu_seconds for trial in trials) >= budget.gpu_hours * 3600:
        return StudyEnd.GPU_HOURS
    if budget.least_gain is not None:
        gain = expected_gain(study.direction, trials)
        if gain is not None and gain < budget.least_gain:
            return StudyEnd.PLATEAU
    if budget.trials is not None and len(trials) >= budget.trials:
        return StudyEnd.TRIALS
    return None


def expected_gain(direction: Direction, trials: Sequence[Trial]) -> float | None:
    """By how much as many trials again as the last window would better the best value, if they did as well as that window.

    None while fewer than two windows have ended. The window is a third of the trials, and ten at least.
    """
    values = [trial.value for trial in sorted(trials, key=lambda t: t.told_at or 0) if trial.state is TrialState.SUCCEEDED]
    known = [value for value in values if value is not None]
    window = max(10, len(known) // 3)
    if len(known) < 2 * window:
        return None
    pick = min if direction is Direction.MINIMIZE else max
    return abs(pick(known) - pick(known[:-window]))


def _ended(study: Study, trials: Sequence[Trial], why: StudyEnd) -> Step:
    if best_of(list(trials), study.direction) is not None:
        return Step(end=why)
    failed = [trial for trial in trials if trial.state is TrialState.FAILED]
    pruned = any(trial.state is TrialState.PRUNED for trial in trials)
    if failed and not pruned:
        return Step(end=StudyEnd.NOTHING_WORKED, detail=_about(study, failed[-1]))
    none = f"the pruner {study.search.pruner} stopped each that it was shown." if pruned else "none had ended by then."
    return Step(end=StudyEnd.NOTHING_WORKED, detail=f"{none} {why.sentence()}")


def _same_failure(study: Study, trials: Sequence[Trial]) -> str:
    """The sentence of the one failure that all trials so far share, "" if there is no such."""
    if not fail_alike(trials, study.budget.trials):
        return ""
    return _about(study, [trial for trial in trials if trial.state is TrialState.FAILED][-1])


def fail_alike(trials: Sequence[Trial], budget: int | None) -> bool:
    """Whether all that were told of have failed in one way, and they are enough (of a budget of so many) to expect it of the others."""
    told = [trial for trial in trials if trial.state.is_finished and trial.state is not TrialState.CANCELLED]
    failed = [trial for trial in told if trial.state is TrialState.FAILED]
    if len(failed) < min(SAME_FAILURES, budget or SAME_FAILURES) or len(failed) != len(told):
        return False
    return len({(trial.fault, _NUMBERS.sub("#", trial.detail)) for trial in failed}) == 1


def _about(study: Study, trial: Trial) -> str:
    assert trial.fault is not None
    return f"trial {trial.number}: {trial.fault.sentence(metric=study.metric, detail=trial.detail)}"


def _is_hung(trial: Trial, trials: Sequence[Trial], now: datetime) -> bool:
    """Ten times as long as the median of at least five that worked, and a minute at least."""
    if trial.started_at is None or trial.stopping is not None:
        return False
    return (now - trial.started_at).total_seconds() > longest_of(trials)


def longest_of(trials: Sequence[Trial]) -> float:
    """How many seconds a trial may take before it hangs, by those of `trials` that worked."""
    return longest_seconds([trial.seconds for trial in trials if trial.state is TrialState.SUCCEEDED and trial.seconds is not None])


def longest_seconds(times: Sequence[float]) -> float:
    """How long a trial may take, those that worked having taken `times`, before it hangs. Without at least five of them, for ever."""
    return max(HUNG_LEAST_SECONDS, HUNG_FACTOR * statistics.median(times)) if len(times) >= 5 else float("inf")


def _all(running: Sequence[Trial], state: TrialState) -> tuple[tuple[int, TrialState, Fault | None], ...]:
    return tuple((trial.number, state, None) for trial in running if trial.stopping is None)
