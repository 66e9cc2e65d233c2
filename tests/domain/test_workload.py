"""The life cycle table covers every state, and names and resources are valid from birth."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.domain.errors import BadInput, IllegalTransition
from narf.domain.names import check_name, new_id
from narf.domain.workload import FINISHED, NEXT, EndReason, Resources, Workload, WorkloadKind, WorkloadState


def workload(state: WorkloadState) -> Workload:
    return Workload(
        id="wl-1", project="p", owner="o", name="n", kind=WorkloadKind.TRAINING, created_at=datetime(2026, 1, 1, tzinfo=UTC),
        resources=Resources(), state=state,
    )  # fmt: skip


def test_every_state_has_its_next_ones_and_the_finished_have_none():
    assert set(NEXT) == set(WorkloadState)
    assert {state for state, following in NEXT.items() if not following} == FINISHED


@given(st.sampled_from(WorkloadState), st.sampled_from(WorkloadState))
def test_only_legal_moves_are_made(old: WorkloadState, new: WorkloadState):
    if new in NEXT[old]:
        assert workload(old).to(new).state is new
    else:
        with pytest.raises(IllegalTransition):
            workload(old).to(new)


def test_going_back_to_the_queue_begins_the_next_attempt():
    assert workload(WorkloadState.RUNNING).to(WorkloadState.QUEUED).attempt == 2


@pytest.mark.parametrize("reason", EndReason)
def test_every_reason_has_a_sentence(reason: EndReason):
    assert reason.sentence(exit_code=1).endswith(".") or "--" in reason.sentence(exit_code=1)


@pytest.mark.parametrize("state", WorkloadState)
def test_every_state_has_a_sentence(state: WorkloadState):
    assert workload(state).sentence()


@pytest.mark.parametrize(
    "fields", [{"cpu": 0}, {"cpu": -1}, {"cpu": float("nan")}, {"gpu": 1.5}, {"gpu": -1}, {"memory_bytes": -1}, {"gpu": float("inf")}]
)
def test_absurd_resources_are_refused(fields: dict):
    with pytest.raises(BadInput):
        Resources(**fields)


@given(st.text(max_size=80))
def test_a_name_is_refused_or_safe_in_a_path(text: str):
    try:
        check_name(text, kind="thing")
    except BadInput:
        return
    assert "/" not in text
    assert ".." not in text
    assert 0 < len(text) <= 63


def test_ids_are_unique():
    assert len({new_id("wl") for _ in range(10_000)}) == 10_000
