"""What the end of a trial's workload and the values it reported mean for the trial. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from narf.domain.workload import EndReason, Workload, WorkloadState
from narf.training.parameters import NOTHING_ARRIVED
from narf.tuning.study import Direction, Fault, Study, Trial, TrialState

Reports = Sequence[tuple[int, float]]
# How argparse, click, jsonargparse, Hydra and pydantic say that a value is not one of theirs.
_REJECTIONS = re.compile(
    r"(: error: |^Error: |Invalid value for|ConfigAttributeError|OverrideParseException|ConfigCompositionException|ValidationError|InvalidParameterError"
    r"|Could not override)",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Outcome:
    state: TrialState
    value: float | None = None
    fault: Fault | None = None
    detail: str = ""


def value_of(reports: Reports, direction: Direction, value_from: str) -> float | None:
    """The value that counts: the last one, or the best; None if there is none that is a number."""
    numbers = [value for _, value in reports if math.isfinite(value)]
    if value_from == "best":
        return (min if direction is Direction.MINIMIZE else max)(numbers, default=None)
    return reports[-1][1] if reports and math.isfinite(reports[-1][1]) else None


def outcome_of(study: Study, trial: Trial, workload: Workload, *, output: str = "", metrics: Sequence[str] = ()) -> Outcome:
    """What came of a trial whose workload has ended.

    Args:
        output: the end of what it printed. metrics: names of the metrics it reported.
    """
    value = value_of(trial.reports, study.direction, study.value_from)
    if trial.stopping is not None and workload.state is not WorkloadState.SUCCEEDED:
        return Outcome(trial.stopping, value if trial.stopping is TrialState.PRUNED else None, trial.fault, trial.detail)
    if workload.state is WorkloadState.SUCCEEDED:
        if value is not None:
            return Outcome(TrialState.SUCCEEDED, value)
        if trial.reports:
            return Outcome(TrialState.FAILED, fault=Fault.DIVERGED)
        if trial.generation > 0:
            return Outcome(TrialState.CANCELLED, detail="Nothing was left to train.")
        return Outcome(TrialState.FAILED, fault=Fault.NO_METRIC, detail=_what_it_reported(metrics))
    if workload.state is WorkloadState.CANCELLED:
        return Outcome(TrialState.CANCELLED)
    fault = {
        EndReason.OUT_OF_MEMORY: Fault.OUT_OF_MEMORY,
        EndReason.TIME_LIMIT: Fault.TIME_LIMIT,
        EndReason.START_FAILED: Fault.NOT_STARTED,
        EndReason.ENVIRONMENT_FAILED: Fault.NOT_STARTED,
        EndReason.NODE_LOST: Fault.NOT_STARTED,
    }.get(workload.end_reason or EndReason.USER_ERROR, Fault.CRASHED)
    if fault is not Fault.CRASHED:
        return Outcome(TrialState.FAILED, fault=fault, detail=workload.detail)
    _, nothing_arrived, names = output.rpartition(NOTHING_ARRIVED)
    if nothing_arrived:
        return Outcome(TrialState.FAILED, fault=Fault.UNUSED, detail=names.partition("\n")[0].strip())
    if workload.exit_code == 2 or _REJECTIONS.search(output[-4000:]):
        return Outcome(TrialState.FAILED, fault=Fault.REJECTED, detail=last_line(output))
    return Outcome(
        TrialState.FAILED, fault=Fault.CRASHED, detail=_last_words(output) or workload.detail or f"Exit code {workload.exit_code}."
    )


def _last_words(output: str) -> str:
    said = last_line(output)
    if said.startswith("EOFError"):
        return f"It asks for input on the keyboard, which a trial does not have; let it take an argument. {said}"
    return said


def is_diverging(reports: Reports) -> bool:
    """The last two values are no numbers: it will not recover."""
    return len(reports) >= 2 and not any(math.isfinite(value) for _, value in reports[-2:])


def last_line(output: str) -> str:
    """The last line that says something, as Python ends a traceback with; of click's boxed messages, what is in the box."""
    for line in reversed(output.splitlines()):
        text = line.strip().strip("│╭╰─╮╯| ").strip()
        if text and not text.startswith(("Set the environment variable HYDRA_FULL_ERROR", "For further information visit")):
            return text[:500]
    return ""


def _what_it_reported(metrics: Sequence[str]) -> str:
    if not metrics:
        return "It reported no metric at all."
    shown = ", ".join(sorted(metrics)[:12])
    return f"It reported {shown}{' and others' if len(metrics) > 12 else ''}."
