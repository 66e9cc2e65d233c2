"""What differs between runs, sorted by what it is about."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from narf.tracking.compare import SECTIONS, Recorded, compare

NAMES = st.sampled_from(["lr", "depth", "git.branch", "os", "system/cpu", "narf.data.x", "mlflow.user"])
RECORDED = st.builds(
    Recorded,
    params=st.dictionaries(NAMES, st.sampled_from("ab")),
    tags=st.dictionaries(NAMES, st.sampled_from("ab")),
    metrics=st.dictionaries(NAMES, st.sampled_from([1.0, 2.0, math.nan])),
    datasets=st.dictionaries(NAMES, st.sampled_from("ab")),
)


@given(RECORDED)
def test_a_run_differs_in_nothing_from_itself(run):
    found = compare([run, run, run])
    assert all(not found.different[section] for section in SECTIONS)


@given(st.lists(RECORDED, min_size=2, max_size=4))
def test_every_difference_is_one_and_has_a_value_for_each_run(runs):
    found = compare(runs)
    for section in SECTIONS:
        for values in found.different[section].values():
            assert len(values) == len(runs)
            assert any(value != values[0] for value in values[1:])
    names = {name for run in runs for name in run.params}
    assert len(found.different["params"]) + found.same["params"] == len(names)


def test_tags_are_sorted_by_what_they_are_about():
    one = Recorded(
        tags={
            "mlflow.source.git.commit": "a",
            "python.version": "3.11",
            "narf.data.digits": "v1",
            "mlflow.user": "me",
            "narf.workload": "w1",
        },
        metrics={"loss": 0.5, "system/cpu_percent": 10.0},
        environment={"package numpy": "1"},
    )
    other = Recorded(
        tags={
            "mlflow.source.git.commit": "b",
            "python.version": "3.12",
            "narf.data.digits": "v2",
            "mlflow.user": "you",
            "narf.workload": "w2",
        },
        metrics={"loss": 0.5, "system/cpu_percent": 90.0},
        environment={"package numpy": "2"},
    )
    found = compare([one, other]).different
    assert dict(found["code"]) == {"mlflow.source.git.commit": ("a", "b")}
    assert dict(found["environment"]) == {"package numpy": ("1", "2"), "python.version": ("3.11", "3.12")}
    assert dict(found["data"]) == {"narf.data.digits": ("v1", "v2")}
    assert dict(found["metrics"]) == {} and dict(found["params"]) == {}
