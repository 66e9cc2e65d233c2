"""Whom a change of a workload concerns: the reconcilers that may have something to decide because of it."""

from __future__ import annotations

from narf.domain.workload import Workload, WorkloadKind, WorkloadState

_STUDIES = (WorkloadKind.TRIAL, WorkloadKind.STUDY)


def concerned(workload: Workload, *, asks_on: bool = True) -> frozenset[str]:
    """The names of those that look at once. The others find what they need when they look by themselves, seconds later.

    asks_on: there is a study that would begin another trial if none waited.

    A pass costs milliseconds of the control plane, and a workload changes five times in its life.
    """
    state = workload.state
    names = set()
    if state is WorkloadState.QUEUED or state.is_finished:  # one more that waits, or room for those that do
        names.add("admission")
    if state in (WorkloadState.ADMITTED, WorkloadState.PREEMPTING) or (workload.cancel_requested and not state.is_finished):
        names.add("progress")
    if workload.kind in _STUDIES and ((asks_on and state is WorkloadState.ADMITTED) or state.is_finished):
        names.add("studies")
    if workload.kind is WorkloadKind.DATA and state.is_finished:
        names.add("packaging")
    if workload.kind is WorkloadKind.REPLICA:
        names.add("endpoints")
    return frozenset(names)
