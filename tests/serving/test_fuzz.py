"""Whatever is sent to a replica, it answers with a 2xx or a 4xx, at once, and lives: by its own OpenAPI, and by bytes gone wrong."""

from __future__ import annotations

import json
import random
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from packages import WEIGHTS, linear

schemathesis = pytest.importorskip("schemathesis")

MUTATIONS = 400
_PASSED = {"method", "url", "params", "json", "content", "data", "files"}
QUICK = settings(
    max_examples=60, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
)
ROW = np.arange(4, dtype=np.float32).reshape(1, 4)
JSON = json.dumps(
    {"id": "a", "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": ROW.tolist()}], "outputs": [{"name": "y"}]}
)
HEAD = json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}]})
ODD = [
    b"",
    b"\0",
    b"\xff\xfe",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"1e999",
    b"-",
    b"NaN",
    b'"\\ud800"',
    b"9" * 400,
    b"\r\n\r\n",
    b"null",
    b"true",
]


def bodies_gone_wrong(body: bytes, headers: dict[str, str], count: int, seed: int = 7) -> Iterator[tuple[bytes, dict[str, str]]]:
    """`body` with bytes changed, taken out and put in, and now and then a wrong length of its JSON part."""
    rng = random.Random(seed)
    for _ in range(count):
        wrong = bytearray(body)
        for _ in range(rng.choice([1, 1, 2, 8])):
            at = rng.randrange(len(wrong) + 1)
            kind = rng.randrange(4)
            if kind == 0 and at < len(wrong):
                wrong[at] = rng.randrange(256)
            elif kind == 1:
                del wrong[at : at + rng.randrange(1, 30)]
            elif kind == 2:
                wrong[at:at] = rng.choice(ODD)
            else:
                wrong[at:at] = wrong[: rng.randrange(40)]
        sent = dict(headers)
        if headers and rng.random() < 0.3:
            sent["Inference-Header-Content-Length"] = rng.choice(
                ["-1", "0", "999999999", "1e3", "\N{DIGIT ONE}x", "", str(rng.randrange(200))]
            )
        yield bytes(wrong), sent


def transported(client, case, base_url: str):
    """What schemathesis made up, sent by `client`."""
    request = case.as_transport_kwargs(base_url=base_url)
    kept = {key: request[key] for key in request if key in _PASSED}
    return client.request(headers=dict(request.get("headers") or {}), **kept)


@pytest.fixture
def replica(serve, tmp_path):
    return serve(linear(tmp_path / "model"))


def still_right(replica) -> bool:
    answer = replica.post("/v2/models/linear/infer", content=JSON)
    return answer.status_code == 200 and np.allclose(answer.json()["outputs"][0]["data"], (ROW @ WEIGHTS).ravel(), rtol=1e-4)


def test_no_request_of_its_own_description_makes_a_5xx(replica):
    schema = schemathesis.openapi.from_dict(replica.get("/openapi.json").json())
    faults: list[str] = []

    def attempts(operation) -> None:
        @QUICK
        @given(case=operation.as_strategy())
        def attempt(case) -> None:
            answer = transported(replica, case, str(replica.base_url))
            if answer.status_code >= 500:
                faults.append(f"{operation.method.upper()} {operation.path}: {answer.status_code} {answer.text[:200]}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()

    tried = 0
    for result in schema.get_all_operations():
        if (operation := result.ok()) is not None:
            attempts(operation)
            tried += 1
    assert tried >= 4
    assert sorted(set(faults)) == []
    assert still_right(replica)


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v2/models/linear/infer", JSON.encode(), {}),
        ("/v2/models/linear/infer", HEAD.encode() + ROW.tobytes(), {"Inference-Header-Content-Length": str(len(HEAD))}),
        ("/invocations", json.dumps({"inputs": ROW.tolist()}).encode(), {}),
        ("/predict", json.dumps({"inputs": ROW.tolist()}).encode(), {}),
    ],
    ids=["json", "binary", "invocations", "plain"],
)
def test_bytes_gone_wrong_are_a_4xx_and_the_replica_lives(replica, path, body, headers):
    assert replica.post(path, content=body, headers=headers).status_code == 200
    for wrong, sent in bodies_gone_wrong(body, headers, MUTATIONS):
        answer = replica.post(path, content=wrong, headers=sent)
        assert answer.status_code < 500, (wrong[:300], sent, answer.text[:300])
    assert still_right(replica)
