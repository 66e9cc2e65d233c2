"""Open Inference Protocol V2 over a real replica: what is right is answered right, what is wrong gets a sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packages import WEIGHTS, identity, linear

from narf.serving.tensors import DTYPES, TensorSpec

INFER = "/v2/models/linear/infer"
ROW = [1.0, 2.0, 3.0, 4.0]


def tensor(**changes):
    value = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": ROW, **changes}
    return {key: item for key, item in value.items() if item is not ...}


@pytest.fixture
def client(serve, tmp_path):
    return serve(linear(tmp_path / "linear"))


def test_an_inference_equals_the_computation_in_process(client):
    rows = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    body = {"id": "mine", "inputs": [tensor(shape=[5, 4], data=rows.ravel().tolist())]}
    answer = client.post(INFER, json=body)
    assert answer.status_code == 200
    value = answer.json()
    assert value["id"] == "mine" and value["model_name"] == "linear" and value["model_version"] == "1"
    (output,) = value["outputs"]
    assert output["shape"] == [5, 3] and output["datatype"] == "FP32"
    np.testing.assert_array_equal(np.array(output["data"], np.float32).reshape(5, 3), client.models[0]._runtime.run({"x": rows})["y"])


def test_nested_data_the_version_path_and_a_gzip_body_are_the_same(client):
    import gzip

    flat = client.post(INFER, json={"inputs": [tensor()]}).json()["outputs"]
    assert client.post(INFER, json={"inputs": [tensor(data=[ROW])]}).json()["outputs"] == flat
    assert client.post("/v2/models/linear/versions/1/infer", json={"inputs": [tensor()]}).json()["outputs"] == flat
    packed = gzip.compress(json.dumps({"inputs": [tensor()]}).encode())
    assert client.post(INFER, content=packed, headers={"content-encoding": "gzip"}).json()["outputs"] == flat
    np.testing.assert_allclose(flat[0]["data"], np.array(ROW, np.float32) @ WEIGHTS, rtol=1e-5)


def test_metadata_health_and_openapi_say_what_is_served(client):
    assert client.get("/v2").json()["extensions"]
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    metadata = client.get("/v2/models/linear").json()
    assert metadata["versions"] == ["1"] and metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get("/v2/models/linear/versions/1").json() == metadata
    assert client.get("/v2/models/linear/ready").status_code == 200
    assert "/v2/models/linear/infer" in client.get("/openapi.json").json()["paths"]
    assert 'narf_model_requests_total{model="linear"' in client.get("/metrics").text


def binary_body(tensors, **request):
    header = json.dumps({**request, "inputs": [{key: item for key, item in t.items() if key != "raw"} for t in tensors]}).encode()
    return header + b"".join(t["raw"] for t in tensors), {"inference-header-content-length": str(len(header))}


def test_binary_tensors_go_in_and_come_out(client):
    rows = np.arange(8, dtype="<f4").reshape(2, 4)
    body, headers = binary_body(
        [{"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": 32}, "raw": rows.tobytes()}],
        parameters={"binary_data_output": True},
    )
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.content[:length])["outputs"]
    assert output["parameters"]["binary_data_size"] == len(answer.content) - length == 24
    np.testing.assert_allclose(np.frombuffer(answer.content[length:], "<f4").reshape(2, 3), rows @ WEIGHTS, rtol=1e-5)


WRONG = {
    "not json": b"{not json",
    "empty": b"",
    "a list": b"[]",
    "NaN literal": json.dumps({"inputs": [tensor(data=[float("nan")] * 4)]}).encode(),
    "no inputs": b"{}",
    "inputs no list": b'{"inputs": {}}',
    "missing tensor": b'{"inputs": []}',
    "element no object": b'{"inputs": [1]}',
    "unknown tensor": {"inputs": [tensor(name="z")]},
    "twice": {"inputs": [tensor(), tensor()]},
    "wrong datatype": {"inputs": [tensor(datatype="FP64")]},
    "unknown datatype": {"inputs": [tensor(datatype="FLOAT")]},
    "datatype no text": {"inputs": [tensor(datatype=["FP32"])]},
    "wrong shape": {"inputs": [tensor(shape=[1, 5], data=[1.0] * 5)]},
    "wrong rank": {"inputs": [tensor(shape=[4])]},
    "negative shape": {"inputs": [tensor(shape=[-1, 4])]},
    "huge shape": {"inputs": [tensor(shape=[10**30, 4])]},
    "shape of floats": {"inputs": [tensor(shape=[1.0, 4.0])]},
    "shape of truth": {"inputs": [tensor(shape=[True, 4])]},
    "no rows": {"inputs": [tensor(shape=[0, 4], data=[])]},
    "too few": {"inputs": [tensor(data=[1.0])]},
    "too many": {"inputs": [tensor(data=[1.0] * 5)]},
    "text": {"inputs": [tensor(data=["1", "2", "3", "4"])]},
    "truth": {"inputs": [tensor(data=[True, True, True, True])]},
    "truth among numbers": {"inputs": [tensor(data=[1, True, 2, 3])]},
    "null": {"inputs": [tensor(data=[1.0, None, 2.0, 3.0])]},
    "null data": {"inputs": [tensor(data=None)]},
    "no data": {"inputs": [tensor(data=...)]},
    "object data": {"inputs": [tensor(data={"a": 1})]},
    "ragged": {"inputs": [tensor(shape=[2, 4], data=[[1.0, 2.0], [1.0]])]},
    "too large for FP32": {"inputs": [tensor(data=[1e300] * 4)]},
    "deep nesting": b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep data": {"inputs": [tensor(data=eval("[" * 70 + "1.0" + "]" * 70))]},
    "id no text": {"id": 7, "inputs": [tensor()]},
    "unknown output": {"inputs": [tensor()], "outputs": [{"name": "nope"}]},
    "outputs no list": {"inputs": [tensor()], "outputs": 3},
    "parameters no object": {"inputs": [tensor()], "parameters": 3},
    "timeout": {"inputs": [tensor()], "parameters": {"timeout": -1}},
    "binary size without bytes": {"inputs": [tensor(data=..., parameters={"binary_data_size": 16})]},
    "binary and data": {"inputs": [tensor(parameters={"binary_data_size": 0})]},
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_a_400_with_a_sentence_and_the_replica_goes_on(client, name):
    body = WRONG[name]
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(INFER, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"].endswith((".", ")", "?")) or len(answer.json()["error"]) > 10
    assert client.post(INFER, json={"inputs": [tensor()]}).status_code == 200


@pytest.mark.parametrize(
    ("header_length", "raw", "size"),
    [
        ("9999", b"\0" * 16, 16),
        ("x", b"\0" * 16, 16),
        (None, b"\0" * 15, 15),
        (None, b"\0" * 15, 16),
        (None, b"\0" * 17, 16),
        (None, b"\0" * 16, -1),
        (None, b"\xff" * 16, 16),
    ],
)
def test_truncated_or_miscounted_binary_data_and_nan_are_400s(client, header_length, raw, size):
    body, headers = binary_body([{"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}, "raw": raw}])
    if header_length is not None:
        headers["inference-header-content-length"] = header_length
    answer = client.post(INFER, content=body, headers=headers)
    assert answer.status_code == 400 and answer.json()["error"]


def test_unknown_models_versions_addresses_and_methods(client):
    unknown = client.post("/v2/models/nope/infer", json={})
    assert unknown.status_code == 404 and "nope" in unknown.json()["error"] and "linear" in unknown.json()["error"]
    assert client.get("/v2/models/nope").status_code == 404
    assert client.post("/v2/models/linear/versions/9/infer", json={}).status_code == 404
    assert client.get("/nowhere").status_code == 404
    assert client.get(INFER).status_code == 405
    assert client.post("/v2/models/linear", json={}).status_code == 405


ALL = [TensorSpec(f"t_{datatype.lower()}", datatype, (-1, -1)) for datatype in DTYPES]


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    import httpx

    from narf.serving.model import ServedModel
    from narf.serving.replica import start_in_thread

    model = ServedModel(identity(tmp_path_factory.mktemp("identity"), ALL))
    model.start()
    server = start_in_thread([model])
    with httpx.Client(base_url=server.url) as client:
        yield client
    server.close()
    model.stop()


def values(datatype):
    dtype = DTYPES[datatype]
    if datatype == "BYTES":
        return st.text(max_size=5)
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=dtype.itemsize * 8, allow_nan=False, allow_infinity=False)
    limits = np.iinfo(dtype)
    return st.integers(int(limits.min), int(limits.max))


@given(st.data(), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_datatype_survives_the_way_through_json_and_binary(echo, data, rows, width, binary_in, binary_out):
    sent, inputs, raws = {}, [], []
    for spec in ALL:
        elements = data.draw(st.lists(values(spec.datatype), min_size=rows * width, max_size=rows * width))
        sent[spec.name] = elements
        item = {"name": spec.name, "datatype": spec.datatype, "shape": [rows, width]}
        if binary_in:
            array = np.array([text.encode() for text in elements], object) if spec.datatype == "BYTES" else np.array(elements, spec.dtype)
            raw = b"".join(len(e).to_bytes(4, "little") + e for e in array) if spec.datatype == "BYTES" else array.tobytes()
            inputs.append({**item, "parameters": {"binary_data_size": len(raw)}})
            raws.append(raw)
        else:
            inputs.append({**item, "data": elements})
    header = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": binary_out}}).encode()
    headers = {"inference-header-content-length": str(len(header))} if binary_in else {}
    answer = echo.post("/v2/models/identity/infer", content=header + b"".join(raws), headers=headers)
    assert answer.status_code == 200, answer.text
    length = int(answer.headers.get("inference-header-content-length", len(answer.content)))
    tail = answer.content[length:]
    for output in json.loads(answer.content[:length])["outputs"]:
        name = output["name"].removesuffix("_out")
        dtype = DTYPES[output["datatype"]]
        if not binary_out:
            got = output["data"]
        else:
            size = output["parameters"]["binary_data_size"]
            raw, tail = tail[:size], tail[size:]
            if output["datatype"] == "BYTES":
                got = []
                while raw:
                    count = int.from_bytes(raw[:4], "little")
                    got.append(raw[4 : 4 + count].decode())
                    raw = raw[4 + count :]
            else:
                got = np.frombuffer(raw, dtype).tolist()
        assert np.array(got, dtype).tolist() == np.array(sent[name], dtype).tolist()


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_who_sends_pythons_nan_is_told_that_json_has_none(client, literal):
    for path, body in (
        ("/predict", f'{{"inputs": [["é", {literal}]]}}'),
        ("/v2/models/linear/infer", f'{{"inputs": [{{"data": [{literal}]}}]}}'),
    ):
        answer = client.post(path, content=body.encode())
        assert answer.status_code == 400 and "JSON has no NaN" in answer.json()["remedy"]
