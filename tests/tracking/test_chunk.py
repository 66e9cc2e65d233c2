"""Chunks give back what was put in, bit by bit, and pyramids hold the extremes of their cells."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from narf.tracking.chunk import CELL, cells_of, pack, pyramid, unpack
from narf.tracking.points import Points

COUNTS = st.one_of(st.integers(0, 40), st.integers(250, 700))


@st.composite
def points(draw: st.DrawFn) -> Points:
    count = draw(COUNTS)
    kind = draw(st.sampled_from(["any", "ramp", "jitter"]))
    if kind == "any":
        steps = draw(arrays(np.int64, count, elements=st.integers(-(2**63), 2**63 - 1)))
    else:
        steps = draw(st.integers(-1000, 10**15)) + draw(st.integers(-5, 5)) * np.arange(count, dtype=np.int64)
    times = np.cumsum(draw(arrays(np.int64, count, elements=st.integers(0, 2**20)))) + 1_700_000_000_000
    width = draw(st.sampled_from([32, 64]))
    values = draw(arrays(np.float64, count, elements=st.floats(width=width), fill=st.nothing()))
    return Points(steps.astype(np.int64), times, values)


def same(one: Points, other: Points) -> bool:
    return all(getattr(one, c).tobytes() == getattr(other, c).tobytes() for c in ("steps", "times", "values"))


@settings(max_examples=150, deadline=None)
@given(points())
def test_unpacking_gives_back_every_bit(some):
    assert same(unpack(pack(some)), some)


def test_nan_payloads_signed_zeros_and_infinities_stay():
    values = np.array([0x7FF8000000000001, 0xFFF0000000000000, 0x8000000000000000, 0x7FF0000000000000] * 10, np.uint64).view(np.float64)
    some = Points(np.arange(40), np.arange(40), values)
    assert same(unpack(pack(some)), some)


def test_a_chunk_of_a_later_version_is_not_misread():
    data = bytearray(pack(Points(np.arange(3), np.arange(3), np.arange(3.0))))
    data[0] = 9
    with pytest.raises(ValueError, match="version 9"):
        unpack(bytes(data))


@settings(max_examples=60, deadline=None)
@given(points())
def test_a_pyramid_holds_the_extremes_of_its_cells(some):
    data = pyramid(some)
    if len(some) < 2 * CELL:
        assert data is None
        return
    steps, times, minima, maxima = cells_of(data)
    for i, start in enumerate(range(0, len(some), CELL)):
        cell = some.values[start : start + CELL]
        assert (steps[i], times[i]) == (some.steps[start], some.times[start])
        numbers = cell[~np.isnan(cell)]
        if len(numbers):
            assert (minima[i], maxima[i]) == (numbers.min(), numbers.max())
        else:
            assert np.isnan(minima[i])


def test_a_training_curve_takes_less_than_ten_bytes_a_point():
    count, rng = 50_000, np.random.default_rng(0)
    losses = (np.exp(-np.arange(count) / count) + rng.normal(size=count) * 0.01).astype(np.float32).astype(np.float64)
    curve = Points(np.arange(count), 1_700_000_000_000 + np.cumsum(rng.integers(8, 14, count)), losses)
    assert len(pack(curve)) + len(pyramid(curve)) < 5 * count
