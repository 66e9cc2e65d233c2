"""What may be deleted: never what is held, never artifacts, the longest unneeded first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.control.retention.policy import Keep, Kept, Kind, RetentionPolicy, parse_policy, to_delete, warnings
from narf.domain.errors import BadInput

NOW = datetime(2026, 5, 1, tzinfo=UTC)
GIB = 1 << 30


def thing(id: str, days: float, size: int = 1, kind: Kind = Kind.JOBS, held: str = "") -> Kept:
    return Kept(kind=kind, id=id, size_bytes=size, needed_at=NOW - timedelta(days=days), held=held)


def ids(things: list[Kept]) -> list[str]:
    return [thing.id for thing in things]


def test_what_is_older_than_its_period_goes():
    policy = RetentionPolicy(keep={Kind.JOBS: Keep(period=timedelta(days=30))})
    assert ids(to_delete([thing("old", 31), thing("young", 29)], policy, NOW)) == ["old"]


def test_the_longest_unneeded_go_until_the_quota_holds():
    policy = RetentionPolicy(keep={Kind.JOBS: Keep(quota_bytes=10)})
    things = [thing("a", 1, 5), thing("b", 3, 5), thing("c", 2, 5)]
    assert ids(to_delete(things, policy, NOW)) == ["b"]


def test_what_is_held_stays_whatever_its_age_and_the_quota():
    policy = RetentionPolicy(keep={Kind.JOBS: Keep(period=timedelta(days=1), quota_bytes=1)})
    assert to_delete([thing("undelivered", 400, 100, held="its metrics have not been delivered")], policy, NOW) == []


@given(
    st.lists(
        st.builds(thing, st.text("abc", min_size=1, max_size=3), st.floats(0, 100), st.integers(0, 50), st.sampled_from(Kind), st.sampled_from(["", "it runs"]))
    ),
    st.integers(0, 100),
)  # fmt: skip
def test_a_quota_is_kept_where_it_can_be_and_no_more_is_deleted_than_it_needs(things: list[Kept], quota: int):
    policy = RetentionPolicy(keep={kind: Keep(quota_bytes=quota) for kind in Kind})
    gone = to_delete(things, policy, NOW)
    assert not any(thing.held or thing.kind is Kind.ARTIFACTS for thing in gone)
    for kind in Kind:
        left = sum(t.size_bytes for t in things if t.kind is kind) - sum(t.size_bytes for t in gone if t.kind is kind)
        deleted = [t for t in gone if t.kind is kind]
        loose = sum(t.size_bytes for t in things if t.kind is kind and not t.held and t.kind is not Kind.ARTIFACTS)
        assert not quota or left <= quota or loose == sum(t.size_bytes for t in deleted)
        if deleted:
            assert left + deleted[-1].size_bytes > quota  # without the last one it would not have held


def test_artifacts_are_warned_of_and_never_deleted():
    policy = parse_policy("artifacts=1d/10Gi")
    assert to_delete([thing("a", 400, 20 * GIB, Kind.ARTIFACTS)], policy, NOW) == []
    (said,) = warnings({"artifacts": 9 * GIB}, policy, free_bytes=100 * GIB, total_bytes=1000 * GIB, where="/home")
    assert said.startswith("Artifacts take 9.0 of the 10.0 GiB that they may.")


def test_a_disk_that_runs_low_is_said_before_it_is_full():
    (said,) = warnings({}, RetentionPolicy(), free_bytes=4 * GIB, total_bytes=50 * GIB, where="/home/narf")
    assert "4.3 GB are free below /home/narf" in said and "narf gc" in said
    assert warnings({}, RetentionPolicy(), free_bytes=40 * GIB, total_bytes=50 * GIB, where="/home/narf") == []


def test_a_policy_is_read_from_words():
    keep = parse_policy("jobs=2w/50Gi, checkpoints=ever, environments=/20Gi").keep
    assert keep[Kind.JOBS] == Keep(period=timedelta(days=14), quota_bytes=50 * GIB)
    assert keep[Kind.CHECKPOINTS] == Keep(period=None)
    assert keep[Kind.ENVIRONMENTS] == Keep(period=timedelta(days=30), quota_bytes=20 * GIB)
    assert keep[Kind.OBJECTS] == RetentionPolicy().keep[Kind.OBJECTS]


@pytest.mark.parametrize("text", ["jobs", "jobs=", "jobs=30", "jobs=30y", "models=3d", "jobs=-3d", "jobs=30d/lots"])
def test_what_is_no_policy_is_refused(text: str):
    with pytest.raises(BadInput, match="NARF_RETENTION"):
        parse_policy(text)
