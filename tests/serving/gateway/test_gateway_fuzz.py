"""Whatever callers send through the gateway, they get an answer that is no 5xx, and gateway and replica live."""

from __future__ import annotations

import json
import random
import socket
import warnings

import httpx
import numpy as np
import pytest
from hypothesis import given
from packages import WEIGHTS, identity, linear
from test_fuzz import HEAD, JSON, QUICK, ROW, bodies_gone_wrong, transported

from narf.serving.tensors import TensorSpec

schemathesis = pytest.importorskip("schemathesis")
TYPES = ["FP32", "FP64", "FP16", "BOOL", "BYTES", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"]


@pytest.fixture
def through(control, gateway, serve, tmp_path):
    """A gateway before one replica of the linear model."""
    control.set((1, [serve(linear(tmp_path / "model")).server.url]))
    return gateway()


def still_right(through) -> bool:
    answer = through.post("/endpoints/digits/v2/models/linear/infer", content=JSON)
    return answer.status_code == 200 and np.allclose(answer.json()["outputs"][0]["data"], (ROW @ WEIGHTS).ravel(), rtol=1e-4)


def faults_by_description(client, prefix: str) -> tuple[int, list[str]]:
    schema = schemathesis.openapi.from_dict(client.get(f"{prefix}/openapi.json").json())
    faults: list[str] = []
    tried = 0

    def attempts(operation) -> None:
        @QUICK
        @given(case=operation.as_strategy())
        def attempt(case) -> None:
            answer = transported(client, case, str(client.base_url).rstrip("/") + prefix)
            if answer.status_code >= 500:
                faults.append(f"{operation.method.upper()} {operation.path}: {answer.status_code} {answer.text[:200]}")

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            attempt()

    for result in schema.get_all_operations():
        if (operation := result.ok()) is not None:
            attempts(operation)
            tried += 1
    return tried, sorted(set(faults))


def test_no_request_of_an_endpoints_description_makes_a_5xx(through):
    tried, faults = faults_by_description(through, "/endpoints/digits")
    assert tried >= 4 and faults == [] and still_right(through)


@pytest.mark.slow
def test_no_request_for_a_model_of_every_type_makes_a_5xx(control, gateway, serve, tmp_path):
    specs = [TensorSpec(f"t{number}", kind, (-1, 2) if number % 2 else (-1, -1)) for number, kind in enumerate(TYPES)]
    control.set((1, [serve(identity(tmp_path / "model", specs)).server.url]))
    tried, faults = faults_by_description(gateway(), "/endpoints/digits")
    assert tried >= 4 and faults == []


@pytest.mark.parametrize(
    ("path", "body", "headers"),
    [
        ("/v2/models/linear/infer", JSON.encode(), {}),
        ("/v2/models/linear/infer", HEAD.encode() + ROW.tobytes(), {"Inference-Header-Content-Length": str(len(HEAD))}),
        ("/predict", json.dumps({"inputs": ROW.tolist()}).encode(), {}),
    ],
    ids=["json", "binary", "plain"],
)
def test_bodies_gone_wrong_are_a_4xx_through_the_gateway(through, path, body, headers):
    for wrong, sent in bodies_gone_wrong(body, headers, count=200):
        answer = through.post(f"/endpoints/digits{path}", content=wrong, headers=sent)
        assert answer.status_code < 500, (wrong[:300], sent, answer.text[:300])
    assert still_right(through)


def test_http_gone_wrong_is_refused_or_hung_up_on_and_the_gateway_lives(through):
    """Bytes on the wire, request line and headers included: whatever comes back is an answer below 500 but "not implemented", or nothing."""
    host, port = through.base_url.host, through.base_url.port
    body = json.dumps({"inputs": ROW.tolist()}).encode()
    request = (
        b"POST /endpoints/digits/predict HTTP/1.1\r\nhost: x\r\nauthorization: Bearer dev\r\ncontent-type: application/json\r\n"
        b"narf-timeout-ms: 2000\r\nnarf-prediction: pred-a\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    )
    rng = random.Random(11)
    odd = [b"\r\n", b"\r\n\r\n", b"\0", b": ", b"transfer-encoding: chunked\r\n", b"content-length: -1\r\n", b"expect: 100-continue\r\n", b"%00%ff", b"?", b"\xff" * 9, b"HTTP/9.9"]  # fmt: skip
    answered = 0
    for _ in range(300):
        wrong = bytearray(request)
        for _ in range(rng.choice([1, 1, 2, 5])):
            at = rng.randrange(len(wrong))
            kind = rng.randrange(3)
            if kind == 0:
                wrong[at] = rng.randrange(256)
            elif kind == 1:
                del wrong[at : at + rng.randrange(1, 20)]
            else:
                wrong[at:at] = rng.choice(odd)
        with socket.create_connection((host, port), 5) as wire:
            wire.sendall(bytes(wrong))
            wire.shutdown(socket.SHUT_WR)
            got = b""
            while piece := wire.recv(65536):
                got += piece
        for line in [part for part in got.split(b"\r\n") if part.startswith(b"HTTP/1.1 ")]:
            answered += 1
            assert int(line[9:12]) < 500, (bytes(wrong), got[:500])
    assert answered > 50
    assert through.process.poll() is None and still_right(through)


@pytest.mark.parametrize("path", ["/endpoints/", "/endpoints//predict", "/endpoints/digits/../../x", "/endpoints/digits/%2e%2e/", "/endpoints/digits?x", "/%", "/endpoints/" + "a" * 9000])  # fmt: skip
def test_odd_addresses_are_answered(through, path):
    answer = httpx.Request("GET", through.base_url)
    answer.url = answer.url.copy_with(raw_path=path.encode())
    assert through.send(answer).status_code in (400, 401, 404, 405, 431)
