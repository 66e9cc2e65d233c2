"""Drift: sketches add up, an unchanged distribution is quiet and a shifted one is loud."""

from __future__ import annotations

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.serving.drift import (
    Sketch,
    merge,
    merged_summaries,
    psi,
    reference_from_json,
    reference_of,
    reference_of_summary,
    report,
    summary_of,
)


def sketch_of(reference, values):
    sketch = Sketch(reference)
    sketch.add({"x": values})
    return sketch.as_json()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=25)
def test_the_same_distribution_is_stable_and_a_shift_is_not(seed, width):
    rng = np.random.default_rng(seed)
    reference = reference_of({"x": rng.normal(size=(4000, width))})
    same = report(reference, sketch_of(reference, rng.normal(size=(4000, width))))
    moved = report(reference, sketch_of(reference, rng.normal(2.0, size=(4000, width))))
    assert all(not drift.drifted and drift.psi < 0.05 and drift.ks < 0.08 for drift in same)
    assert all(drift.drifted and drift.psi > 1 and drift.ks > 0.5 for drift in moved)


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=20), min_size=2, max_size=5))
def test_merging_parts_is_the_sketch_of_the_whole(parts):
    reference = reference_of({"x": np.linspace(-1, 1, 50)})
    merged: dict = {}
    for part in parts:
        merged = merge(merged, json.loads(json.dumps(sketch_of(reference, np.array(part)))))
    whole = sketch_of(reference, np.concatenate([np.array(part) for part in parts]))
    assert merged["x"][:3] == whole["x"][:3] and merged["x"][4] == whole["x"][4]
    assert np.isclose(merged["x"][3], whole["x"][3])


def test_missing_and_out_of_range_values_are_counted():
    reference = reference_of({"x": np.linspace(0, 1, 100)})
    (drift,) = report(reference, sketch_of(reference, np.array([np.nan, 0.5, 7.0, 0.2])))
    assert drift.missing == 0.25 and abs(drift.out_of_range - 1 / 3) < 1e-9 and drift.drifted


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=10))
def test_psi_is_never_negative_and_zero_rows_say_nothing(counts):
    expected = [1 / len(counts)] * len(counts)
    assert psi(expected, counts) >= 0
    assert psi(expected, [0] * len(counts)) == 0


def test_an_image_is_watched_through_four_numbers_and_a_reference_survives_json():
    reference = reference_of({"image": np.random.default_rng(0).normal(size=(50, 32, 32))})
    assert [feature.name for feature in reference] == ["image.mean", "image.std", "image.min", "image.max"]
    assert reference_from_json(json.loads(json.dumps([feature.as_json() for feature in reference]))) == reference


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from(["normal", "skewed", "years", "few"]))
@settings(max_examples=40)
def test_a_summary_of_many_parts_describes_the_data_as_the_training_data_would(seed, parts, kind):
    rng = np.random.default_rng(seed)
    draw = {
        "normal": lambda count: rng.normal(size=(count, 2)),
        "skewed": lambda count: rng.lognormal(3, 2, size=(count, 2)),
        "years": lambda count: rng.integers(2015, 2027, size=(count, 2)).astype(float),
        "few": lambda count: rng.choice([0.0, 1.0, np.nan], p=[0.6, 0.3, 0.1], size=(count, 2)),
    }[kind]
    pieces = [draw(max(2, 4000 // parts)) for _ in range(parts)]
    summary: dict = {}
    for piece in pieces:
        summary = json.loads(json.dumps(merged_summaries(summary, summary_of({"x": piece}, ("a", "b")))))
    assert all(len(values[4]) <= 512 for values in summary.values())
    reference = reference_of_summary(summary)
    whole = np.concatenate(pieces)
    for feature, exact in zip(reference, reference_of({"x": whole}, ("a", "b")), strict=True):
        assert (feature.name, feature.least, feature.greatest) == (exact.name, exact.least, exact.greatest)
        assert np.isclose(feature.missing, exact.missing) and np.isclose(sum(feature.expected), 1)
    sketch = Sketch(reference)
    sketch.add({"x": draw(4000)}, ("a", "b"))
    assert all(not drift.drifted and drift.psi < 0.1 for drift in report(reference, sketch.as_json()))
    sketch = Sketch(reference)
    sketch.add({"x": draw(4000) + 10 * np.nanstd(whole)}, ("a", "b"))
    assert all(drift.drifted for drift in report(reference, sketch.as_json()))


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), min_size=1, max_size=6))
def test_summaries_keep_counts_and_ends_whatever_comes(parts):
    summary: dict = {}
    for part in parts:
        summary = merged_summaries(summary, summary_of({"x": np.array(part)}))
    together = [value for part in parts for value in part]
    rows, missing, least, greatest, points = summary["x"]
    assert (rows, missing, least, greatest) == (len(together), 0, min(together), max(together))
    assert np.isclose(sum(weight for _, weight in points), rows)
    assert points == sorted(points, key=lambda point: point[0]) and all(least <= value <= greatest for value, _ in points)


def test_nothing_known_is_no_reference():
    summary = summary_of({"x": np.array([[np.nan], [np.nan]])})
    assert reference_of_summary(summary) == () and reference_of_summary({}) == ()
    assert reference_of_summary(merged_summaries(summary, summary_of({"x": np.array([[1.0]])})))[0].missing == 2 / 3
