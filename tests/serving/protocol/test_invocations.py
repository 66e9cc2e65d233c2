"""MLflow's `/invocations` and the plain form answer as the protocol's own form does."""

from __future__ import annotations

import json

import numpy as np
import pytest
from packages import WEIGHTS, identity, linear

from narf.serving.tensors import TensorSpec

ROWS = [[1.0, 2, 3, 4], [0, -1, 0.5, 2]]
FORMS = {
    "inputs": {"inputs": ROWS},
    "inputs by name": {"inputs": {"x": ROWS}},
    "instances": {"instances": ROWS},
    "split": {"dataframe_split": {"columns": ["d", "c", "b", "a"], "data": [row[::-1] for row in ROWS]}},
    "records": {"dataframe_records": [dict(zip("abcd", row, strict=True)) for row in ROWS]},
    "columns": {"inputs": {name: [row[i] for row in ROWS] for i, name in enumerate("abcd")}},
}


@pytest.fixture
def client(serve, tmp_path):
    return serve(linear(tmp_path / "linear"))


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_predictions(client, form):
    answer = client.post("/invocations", json=FORMS[form])
    assert answer.status_code == 200, answer.text
    np.testing.assert_allclose(answer.json()["predictions"], np.array(ROWS, np.float32) @ WEIGHTS, rtol=1e-5)
    plain = client.post("/predict", json=FORMS[form]).json()
    assert plain["outputs"]["y"] == answer.json()["predictions"] and plain["model"] == "linear" and plain["id"].startswith("pred-")


def test_csv_is_read_by_its_header(client):
    answer = client.post("/invocations", content="b,a,c,d\n2,1,3,4\n", headers={"content-type": "text/csv"})
    np.testing.assert_allclose(answer.json()["predictions"], np.array(ROWS[:1], np.float32) @ WEIGHTS, rtol=1e-5)


def test_a_single_row_may_come_without_its_batch_dimension(client):
    assert len(client.post("/predict", json={"inputs": ROWS[0]}).json()["outputs"]["y"]) == 1


def test_models_in_one_process_are_told_apart_by_their_path(serve, tmp_path):
    client = serve(linear(tmp_path / "a", name="a"), linear(tmp_path / "b", name="b", version="7"))
    assert client.post("/models/b/predict", json=FORMS["inputs"]).json()["version"] == "7"
    assert (
        client.post(
            "/v2/models/a/infer", json={"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROWS[0]}]}
        ).status_code
        == 200
    )
    assert client.post("/invocations", json=FORMS["inputs"]).status_code == 404
    assert {model["name"] for model in client.get("/v2/repository/index").json()} == {"a", "b"}


def test_a_table_of_mixed_types_becomes_named_tensors(serve, tmp_path):
    specs = [TensorSpec("age", "INT64", (-1,)), TensorSpec("name", "BYTES", (-1,))]
    client = serve(identity(tmp_path / "table", specs))
    answer = client.post("/invocations", json={"dataframe_records": [{"name": "ann", "age": 3}, {"name": "bob", "age": 4}]})
    assert answer.json() == {"predictions": {"age_out": [3, 4], "name_out": ["ann", "bob"]}}
    assert client.post("/invocations", json={"dataframe_records": [{"name": "ann", "age": 3.5}]}).status_code == 400
    assert client.post("/invocations", json={"dataframe_records": [{"name": "ann"}]}).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {}, [], {"inputs": ROWS, "instances": ROWS}, {"inputs": None}, {"inputs": []}, {"inputs": "text"}, {"inputs": {"nope": ROWS}}, {"inputs": [[1, 2]]},
        {"dataframe_split": {"columns": ["a"], "data": [[1]]}}, {"dataframe_split": {"columns": ["a", "b", "c", "d"], "data": [[1, 2]]}}, {"dataframe_split": []},
        {"dataframe_split": {"columns": 3, "data": [[1]]}}, {"dataframe_records": []}, {"dataframe_records": [1]}, {"dataframe_records": [{"a": 1}, {"b": 1}]},
        {"inputs": [[None, 1, 2, 3]]}, {"inputs": [["1", 1, 2, 3]]},
    ],
)  # fmt: skip
def test_wrong_bodies_are_400s_with_a_sentence(client, body):
    for path in ("/invocations", "/predict"):
        answer = client.post(path, content=json.dumps(body))
        assert answer.status_code == 400 and answer.json()["error"], answer.text


def test_wrong_csv_is_a_400(client):
    for content in (b"", b"a,b,c,d\n", b"a,b,c,d\n1,2\n", b"a,b,c,d\n1,2,x,4\n", b"\xff\xfe\n\xff", b"q,r,s,t\n1,2,3,4\n"):
        assert client.post("/invocations", content=content, headers={"content-type": "text/csv"}).status_code == 400
