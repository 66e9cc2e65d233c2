"""Agreement within a tolerance, and the choice among candidates."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from narf.serving.package import Candidate
from narf.serving.packaging.agreement import Tolerance, choose, compare
from narf.serving.packaging.cases import cases, rows, synthetic
from narf.serving.tensors import TensorSpec

floats = arrays(np.float32, array_shapes(max_dims=3, max_side=5), elements=st.floats(width=32))


@given(floats)
def test_anything_agrees_with_itself_nan_and_infinity_included(array):
    difference = compare({"output": array}, {"output": array.copy()}, Tolerance())
    assert difference.agrees
    assert difference.max_abs_error == 0


@given(st.floats(-1e6, 1e6), st.floats(0, 3))
def test_the_tolerance_is_the_border_between_agreeing_and_not(value, units):
    tolerance = Tolerance(1e-3, 1e-3)
    off = value + units * (tolerance.absolute + tolerance.relative * abs(value))
    difference = compare({"y": np.array([value])}, {"y": np.array([off])}, tolerance)
    assert abs(difference.worst - units) < 1e-3
    if abs(units - 1) > 1e-3:
        assert difference.agrees == (units < 1)


def test_labels_agree_exactly_or_not_at_all():
    assert compare({"y": np.array([1, 2])}, {"y": np.array([1, 2], np.int32)}, Tolerance(10, 10)).agrees
    assert not compare({"y": np.array([1, 2])}, {"y": np.array([1, 3])}, Tolerance(10, 10)).agrees
    assert not compare({"y": np.array(["a"])}, {"y": np.array(["b"], object)}, Tolerance(10, 10)).agrees


def test_another_shape_name_or_a_stray_nan_disagrees():
    ones = np.ones((2, 3), np.float32)
    assert not compare({"y": ones}, {"y": ones[:1]}, Tolerance()).agrees
    assert not compare({"y": ones}, {"z": ones}, Tolerance()).agrees
    assert not compare({"y": ones}, {"y": np.full_like(ones, np.nan)}, Tolerance()).agrees


@given(st.lists(st.tuples(st.floats(0.001, 100), st.floats(0.001, 100), st.booleans()), min_size=1, max_size=6))
def test_the_chosen_candidate_is_usable_and_not_beaten_on_both_times(drawn):
    candidates = [
        Candidate(runtime=f"r{index}", milliseconds_one=one, milliseconds_batch=batch, refused="differs" if refused else "")
        for index, (one, batch, refused) in enumerate(drawn)
    ]
    candidates.append(Candidate(runtime="original", milliseconds_one=50, milliseconds_batch=50))
    chosen = choose(candidates)
    assert not chosen.refused
    for other in candidates:
        assert other.refused or not (
            other.milliseconds_one < chosen.milliseconds_one and other.milliseconds_batch < chosen.milliseconds_batch
        )


@given(st.integers(1, 20), st.integers(1, 300))
def test_rows_repeat_the_samples_in_order(have, want):
    samples = {"x": np.arange(have)}
    assert rows(samples, want)["x"].tolist() == [index % have for index in range(want)]


def test_edge_cases_hold_one_row_many_rows_and_zeros():
    samples = synthetic([TensorSpec("x", "FP32", (-1, 3)), TensorSpec("s", "BYTES", (-1,))], np.random.default_rng(0))
    sizes = {name: len(case["x"]) for name, case in cases(samples, batchable=True)}
    assert sizes["one row"] == 1 and sizes["257 rows"] == 257 and sizes["zeros"] == 1
    assert [name for name, _ in cases(samples, batchable=False)] == ["all rows"]
