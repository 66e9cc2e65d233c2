"""Whom a change of a workload concerns."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from narf.control.workloads.concern import concerned
from narf.domain.workload import Resources, Workload, WorkloadKind, WorkloadState

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def workload(kind: WorkloadKind = WorkloadKind.TRAINING, state: WorkloadState = WorkloadState.QUEUED) -> Workload:
    return Workload(id="wl-1", project="p", owner="o", name="n", kind=kind, created_at=NOW, resources=Resources(), state=state)


@pytest.mark.parametrize("kind", list(WorkloadKind))
def test_whoever_waits_or_gives_back_room_concerns_admission(kind: WorkloadKind) -> None:
    for state in WorkloadState:
        wakes = "admission" in concerned(workload(kind, state))
        assert wakes == (state is WorkloadState.QUEUED or not (state.holds_capacity or state is WorkloadState.QUEUED))


def test_what_is_to_be_started_or_stopped_concerns_progress() -> None:
    assert "progress" in concerned(workload(state=WorkloadState.ADMITTED))
    assert "progress" in concerned(workload(state=WorkloadState.PREEMPTING))
    assert "progress" not in concerned(workload(state=WorkloadState.RUNNING))
    assert "progress" in concerned(replace(workload(state=WorkloadState.RUNNING), cancel_requested=True))


@pytest.mark.parametrize("kind", list(WorkloadKind))
def test_the_end_of_a_workload_concerns_who_asked_for_it(kind: WorkloadKind) -> None:
    asked_by = {
        WorkloadKind.TRIAL: {"studies"},
        WorkloadKind.STUDY: {"studies"},
        WorkloadKind.DATA: {"packaging"},
        WorkloadKind.REPLICA: {"endpoints"},
    }
    for state in WorkloadState:
        if state.is_finished:
            assert concerned(workload(kind, state)) - {"admission"} == asked_by.get(kind, set())


def test_a_trial_that_got_its_room_lets_its_study_ask_for_the_next() -> None:
    admitted = workload(WorkloadKind.TRIAL, WorkloadState.ADMITTED)
    assert "studies" in concerned(admitted)
    assert concerned(admitted, asks_on=False) == {"progress"}
