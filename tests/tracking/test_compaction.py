"""Compaction: neighbours of similar size are merged, order stays, and the work is bounded."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from narf.tracking import compaction
from narf.tracking.compaction import FAN, mergeable
from narf.tracking.metrics import TARGET
from narf.tracking.points import Points


@given(st.lists(st.integers(1, TARGET), max_size=200))
def test_what_is_merged_are_neighbours_at_the_end_and_many(counts):
    found = mergeable(counts)
    if found is not None:
        start, end = found
        assert end - start >= FAN
        assert all(count < TARGET // 2 for count in counts[start:end])


def test_appending_one_by_one_leaves_few_chunks_and_rewrites_little():
    counts: list[int] = []
    written = 0
    for _ in range(20_000):
        counts.append(1)
        while found := mergeable(counts):
            start, end = found
            whole = sum(counts[start:end])
            written += whole
            counts[start:end] = [TARGET] * (whole // TARGET) + ([whole % TARGET] if whole % TARGET else [])
    assert sum(counts) == 20_000
    assert len(counts) <= FAN * 5
    assert written < 20_000 * 6


def test_compaction_changes_no_point(tracking, run):
    rng = np.random.default_rng(1)
    expected = []
    for i in range(40):
        count = int(rng.integers(1, 30))
        part = Points(rng.integers(0, 500, count), 1_000_000 + i * 1000 + np.arange(count), rng.normal(size=count))
        tracking.append(run, {"loss": part})
        expected.append(part)
    before = tracking.history(run, "loss")
    assert tracking.compact() > 30
    after = tracking.history(run, "loss")
    assert len(after) == sum(len(p) for p in expected)
    for column in ("steps", "times", "values"):
        assert getattr(before, column).tolist() == getattr(after, column).tolist()
    assert tracking.compact() == 0
    with tracking.store.engine.connect() as connection:
        assert compaction.waiting(connection, 10) == []
