"""Which replicas to start and stop: a simulated endpoint reaches what is wanted and never loses its last replica on the way."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from narf.control.endpoints.plan import DRAIN, Drain, Replica, ReplicaState, Revision, Role, Start, Stop, replica_actions, warm_revisions

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def revision(number, role, weight=0.0, **values):
    return Revision(id=f"rev-{number}", number=number, role=role, weight=weight, **values)


def step(revisions, replicas, wanted, now, *, ready=True):
    """Apply the actions: what is started is ready at the next look."""
    actions = replica_actions(revisions, replicas, wanted, now)
    kept = {replica.id: replica for replica in replicas}
    for action in actions:
        if isinstance(action, Start):
            name = f"{action.revision}-{len(kept)}-{now.timestamp()}"
            kept[name] = Replica(id=name, revision=action.revision, state=ReplicaState.STARTING, since=now)
        elif isinstance(action, Drain):
            old = kept[action.replica]
            kept[action.replica] = Replica(id=old.id, revision=old.revision, state=ReplicaState.DRAINING, since=now)
        else:
            assert isinstance(action, Stop)
            del kept[action.replica]
    if ready:
        kept = {
            name: Replica(id=r.id, revision=r.revision, state=ReplicaState.READY, since=r.since) if r.state is ReplicaState.STARTING else r
            for name, r in kept.items()
        }
    return list(kept.values()), actions


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6))
def test_the_number_of_replicas_follows_what_is_wanted_and_then_rests(wishes):
    revisions, replicas, now = [revision(1, Role.ACTIVE, 100.0)], [], NOW
    for wanted in wishes:
        for _ in range(4):
            replicas, actions = step(revisions, replicas, wanted, now)
            now += DRAIN
        assert len(replicas) == wanted
        assert actions == []


@given(st.integers(1, 5), st.integers(1, 99))
def test_a_canary_has_at_least_one_replica_and_so_has_the_old_revision(wanted, share):
    revisions = [revision(1, Role.ACTIVE, 100.0 - share), revision(2, Role.ACTIVE, float(share))]
    replicas, _ = step(revisions, [], wanted, NOW)
    counts = [sum(r.revision == f"rev-{number}" for r in replicas) for number in (1, 2)]
    assert min(counts) >= 1 and sum(counts) == max(wanted, 2)


def test_after_a_switch_the_old_replicas_stay_until_a_new_one_is_ready():
    ready = [Replica(id="a", revision="rev-1", state=ReplicaState.READY, since=NOW)]
    revisions = [revision(1, Role.RETIRED), revision(2, Role.ACTIVE, 100.0)]
    actions = replica_actions(revisions, ready, 1, NOW)
    assert actions == [Start("rev-2")]
    both = [*ready, Replica(id="b", revision="rev-2", state=ReplicaState.READY, since=NOW)]
    assert replica_actions(revisions, both, 1, NOW) == [Drain("a")]


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4))
def test_who_leaves_answers_until_others_do_and_is_replaced(wanted, ready, starting, leaving):
    states = [ReplicaState.READY] * ready + [ReplicaState.STARTING] * starting + [ReplicaState.LEAVING] * leaving
    replicas = [Replica(id=f"r{n}", revision="rev-1", state=state, since=NOW) for n, state in enumerate(states)]
    revisions = [revision(1, Role.ACTIVE, 100.0)]
    assert replica_actions(revisions, replicas, wanted, NOW).count(Start("rev-1")) == max(0, wanted - ready - starting)
    now = NOW
    for _ in range(8):
        answered = sum(replica.state.answers for replica in replicas)
        replicas, _ = step(revisions, replicas, wanted, now, ready=False)
        assert sum(replica.state.answers for replica in replicas) >= min(wanted, answered)
        starts = [replica for replica in replicas if replica.state is ReplicaState.STARTING]
        if starts:  # one becomes ready at each look
            replicas[replicas.index(starts[0])] = replace(starts[0], state=ReplicaState.READY)
        now += DRAIN
    assert [replica.state for replica in replicas] == [ReplicaState.READY] * wanted


def test_who_leaves_and_was_rolled_back_answers_until_somebody_else_can():
    revisions = [revision(1, Role.RETIRED), revision(2, Role.ACTIVE, 100.0)]
    old = Replica(id="a", revision="rev-1", state=ReplicaState.LEAVING, since=NOW)
    assert replica_actions(revisions, [old], 1, NOW) == [Start("rev-2")]
    new = Replica(id="b", revision="rev-2", state=ReplicaState.READY, since=NOW)
    assert replica_actions(revisions, [old, new], 1, NOW) == [Drain("a")]
    assert replica_actions(revisions, [old, new], 1, NOW, warm={"rev-1"}) == [Drain("a")]


def test_a_drained_replica_is_stopped_after_gateways_had_time_to_hear_of_it():
    draining = [Replica(id="a", revision="rev-1", state=ReplicaState.DRAINING, since=NOW)]
    revisions = [revision(1, Role.ACTIVE, 100.0)]
    assert replica_actions(revisions, draining, 0, NOW + DRAIN / 2) == []
    assert replica_actions(revisions, draining, 0, NOW + DRAIN) == [Stop("a")]


@given(st.integers(1, 20), st.floats(0, 120))
def test_a_revision_that_fails_is_tried_again_more_and_more_slowly(failures, seconds):
    failing = revision(1, Role.ACTIVE, 100.0, failures=failures, last_failure=NOW)
    actions = replica_actions([failing], [], 1, NOW + timedelta(seconds=seconds))
    assert (actions == [Start("rev-1")]) == (seconds >= min(60.0, 0.5 * 2.0**failures))


def test_a_new_revision_gets_a_replica_even_when_nobody_asks():
    assert replica_actions([revision(1, Role.NEW)], [], 0, NOW) == [Start("rev-1")]


@given(st.integers(0, 10_000), st.booleans(), st.booleans())
def test_a_revision_is_kept_for_an_hour_or_for_two_minutes_where_its_room_is_dear(seconds, has_gpu, crowded):
    retired = Revision(id="r", number=1, role=Role.RETIRED, weight=0.0, retired_at=NOW)
    kept = warm_revisions([retired], NOW + timedelta(seconds=seconds), has_gpu=has_gpu, crowded=crowded)
    assert bool(kept) == (seconds < (120 if has_gpu or crowded else 3600))
    others = [replace(retired, role=Role.ACTIVE), replace(retired, retired_at=None)]
    assert not warm_revisions(others, NOW, has_gpu=False, crowded=False)
    assert not warm_revisions([retired], NOW, has_gpu=False, crowded=False, cooled_at=NOW)
