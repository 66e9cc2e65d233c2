"""Records and identities: every prediction is remembered once, with statistics and without its payload."""

from __future__ import annotations

import zlib

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st
from packages import WEIGHTS, linear

from narf.serving.identity import Identities, milliseconds_of
from narf.serving.records import Recorder


def test_a_record_of_each_prediction_with_latency_rows_and_means(serve, tmp_path):
    client = serve(linear(tmp_path / "linear"), revision="rev-1")
    ids = []
    for value in range(5):
        answer = client.post("/predict", json={"inputs": [[value] * 4, [value] * 4]})
        ids.append(answer.headers["narf-prediction"])
        assert answer.headers["narf-revision"] == "rev-1"
    report = client.server.application.models["linear"].recorder.report()
    records = orjson.loads(zlib.decompress(report["records"]))
    assert records["ids"] == ids and records["rows"] == [2] * 5 and report["rows"] == 10
    assert records["input_means"] == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(records["output_means"], [v * float(WEIGHTS.sum()) / 3 for v in range(5)], rtol=1e-3, atol=1e-6)
    assert all(value > 0 for value in records["milliseconds"]) and sum(report["milliseconds"]) == 5
    assert report["inputs"]["a"][0] == 10
    assert client.server.application.models["linear"].recorder.report() is None


def test_the_gateways_id_is_kept_and_a_wicked_one_is_not(serve, tmp_path):
    client = serve(linear(tmp_path / "linear"))
    body = {"inputs": [[1, 2, 3, 4]]}
    assert client.post("/predict", json=body, headers={"narf-prediction": "pred-abc"}).headers["narf-prediction"] == "pred-abc"
    assert client.post("/predict", json=body, headers={"narf-prediction": "a b"}).headers["narf-prediction"].startswith("pred-1")
    assert len(client.post("/predict", json=body, headers={"narf-prediction": "x" * 65}).headers["narf-prediction"]) == 30


def test_ids_are_unique_and_tell_their_time():
    import time

    identities = Identities()
    made = [identities.new().decode() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert abs(milliseconds_of(made[-1]) - time.time() * 1000) < 5000
    assert milliseconds_of("pred-zzz") is None and milliseconds_of("run-1") is None


def test_a_recorder_that_is_never_read_stays_small(tmp_path):
    from narf.serving.model import Prediction
    from narf.serving.package import read_manifest

    recorder = Recorder(read_manifest(linear(tmp_path / "linear")))
    ones = np.ones((64, 4), np.float32)
    batch = [Prediction({"x": ones[:1]}, 1, None, 0.0, lambda *_: None, b"pred-x") for _ in range(64)]
    for _ in range(3000):
        recorder.observe(batch, {"x": ones}, {"y": ones}, 0.001)
    assert recorder.dropped > 0
    assert recorder.report()["count"] <= 100_000


def test_without_training_data_a_report_has_a_summary_until_there_is_something_to_compare_with(tmp_path):
    from dataclasses import replace

    from narf.serving.drift import reference_of
    from narf.serving.model import Prediction
    from narf.serving.package import read_manifest

    recorder = Recorder(replace(read_manifest(linear(tmp_path / "linear")), reference={}))

    def report(rows):
        batch = [Prediction({"x": rows}, len(rows), None, 0.0, lambda *_: None, b"pred-x")]
        recorder.observe(batch, {"x": rows}, {"y": rows}, 0.001)
        return recorder.report()

    first = report(np.arange(8.0).reshape(2, 4))
    assert first["inputs"] == {} and set(first["summary"]) == set("abcd")
    assert first["summary"]["a"] == [2, 0, 0.0, 4.0, [[0.0, 1.0], [4.0, 1.0]]]
    reference = [feature.as_json() for feature in reference_of({"x": np.arange(80.0).reshape(20, 4)}, tuple("abcd"))]
    recorder.compare_with(reference)
    second = report(np.arange(8.0).reshape(2, 4))
    assert second["summary"] == {} and second["inputs"]["a"][0] == 2


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 3), min_size=1, max_size=4), st.booleans(), st.sampled_from([1, 2])), min_size=1, max_size=12
    )
)
def test_a_report_says_the_same_however_its_predictions_were_batched(parts):
    from types import SimpleNamespace

    from narf.serving.drift import reference_of
    from narf.serving.model import Prediction

    rng = np.random.default_rng(0)
    reference = {"features": [feature.as_json() for feature in reference_of({"x": rng.normal(size=(60, 1))})]}

    def observed(recorder, rows, values):
        ids = [Prediction({}, count, None, 0.0, lambda *_: None, b"pred-%d" % index) for index, count in enumerate(rows)]
        recorder.observe(ids, {"x": values}, {"y": values.sum(axis=1), "label": np.where(values[:, 0] > 0, "a", "b")}, 0.001)

    whole, each = Recorder(SimpleNamespace(columns=(), reference=reference)), Recorder(SimpleNamespace(columns=(), reference=reference))
    for rows, one_by_one, width in parts:
        values = rng.normal(size=(sum(rows), width))
        observed(whole, rows, values)
        start = 0
        for count in rows if one_by_one else [sum(rows)]:
            observed(each, [count] if one_by_one else rows, values[start : start + count])
            start += count
    one, other = whole.report(), each.report()
    first, second = (orjson.loads(zlib.decompress(report["records"])) for report in (one, other))
    assert first["rows"] == second["rows"] and first["output_means"] == second["output_means"]
    np.testing.assert_allclose(first["input_means"], second["input_means"], rtol=1e-4, atol=1e-9)
    assert one["outputs"]["labels"] == other["outputs"]["labels"]
    assert {name: values[:3] + values[4:] for name, values in one["inputs"].items()} == {
        name: values[:3] + values[4:] for name, values in other["inputs"].items()
    }
