"""Charts: never more buckets than asked for, and no extreme is lost, from points and from pyramids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.tracking.points import Points
from narf.tracking.series import from_bytes, reduce_cells, reduce_points, to_bytes


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=True), max_size=300), st.integers(1, 50))
def test_buckets_keep_the_extremes_and_the_number(values, buckets):
    points = Points(np.arange(len(values)), np.arange(len(values)) * 10, np.array(values, np.float64))
    series = reduce_points(points, buckets)
    assert len(series.steps) == min(len(values), buckets)
    assert series.count == len(values)
    if series.maxima is not None and not np.isnan(points.values).all():
        assert np.nanmax(series.maxima) == np.nanmax(points.values)
        assert np.nanmin(series.minima) == np.nanmin(points.values)


def test_cells_of_overlapping_attempts_are_put_in_order():
    steps = np.array([0, 10, 5, 15])
    series = reduce_cells(steps, steps, np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4]), 4, 8)
    assert series.steps.tolist() == [0, 5, 10, 15]
    assert series.minima.tolist() == [1, 3, 2, 4]


def test_the_binary_body_gives_back_what_was_put_in():
    raw = reduce_points(Points(np.arange(3), np.arange(3) * 1000 + 5, np.array([1.0, np.nan, np.inf])), 10)
    cut = reduce_points(Points(np.arange(100), np.arange(100), np.arange(100.0)), 10)
    body = to_bytes([("r1", "a", raw), ("r2", "größe", cut)])
    assert body.index(b"\n") % 8 == 7  # the arrays are aligned
    for given_back, (run, key, one) in zip(from_bytes(body), [("r1", "a", raw), ("r2", "größe", cut)], strict=True):
        assert given_back[:2] == (run, key)
        for column in ("steps", "times", "minima", "maxima"):
            there, back = getattr(one, column), getattr(given_back[2], column)
            assert (there is None and back is None) or np.array_equal(there, back, equal_nan=True)


@pytest.fixture(scope="module")
def long_run(tracking) -> tuple[str, Points]:
    """300,000 points in uneven appends, with spikes that a chart must show."""
    run = tracking.create_run(project="default")
    count, rng = 300_000, np.random.default_rng(3)
    values = rng.normal(size=count)
    values[[123_456, 200_001]] = [50.0, -60.0]
    whole = Points(np.arange(count) * 2, 1_700_000_000_000 + np.arange(count), values)
    at = 0
    for size in [70_000, 3, 100, 129_897, 90_000, 10_000]:
        tracking.append(run, {"m": whole.take(slice(at, at + size))})
        at += size
    return run, whole


def test_a_chart_of_many_points_shows_every_spike(tracking, long_run):
    run, _ = long_run
    series = tracking.store.chart(run, "m", buckets=1000)
    assert series.count == 300_000 and len(series.steps) == 1000
    assert series.maxima.max() == 50.0 and series.minima.min() == -60.0
    assert (np.diff(series.steps) > 0).all()


@pytest.mark.parametrize(("low", "high"), [(0, 100), (200_000, 260_000), (None, 150_000), (599_990, None), (700_000, 800_000)])
def test_zooming_in_shows_the_points_of_that_range(tracking, long_run, low, high):
    run, whole = long_run
    series = tracking.store.chart(run, "m", buckets=500, from_step=low, to_step=high)
    inside = (whole.steps >= (low or 0)) & (whole.steps <= (1 << 62 if high is None else high))
    if not inside.any():
        assert len(series.steps) == 0
        return
    assert len(series.steps) <= 500
    assert series.steps[0] >= (low or 0)
    top = series.minima if series.maxima is None else series.maxima
    if inside.sum() < 500 * 128:
        assert series.count == inside.sum()
        assert top.max() == whole.values[inside].max()


def test_no_such_metric(tracking, run):
    assert tracking.store.chart(run, "nothing", buckets=10) is None
    assert tracking.series([run], ["nothing"]) == []
