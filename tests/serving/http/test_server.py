"""The HTTP server itself, spoken to in raw bytes."""

from __future__ import annotations

import json
import re
import socket
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packages import linear, with_processing

from narf.serving.http.server import Limits

BODY = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1.0, 2.0, 3.0, 4.0]}]}).encode()


def post(body=BODY, *, path=b"/v2/models/linear/infer", headers=b"", length=None):
    return b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n%s" % (path, len(body) if length is None else length, headers, body)


def exchange(client, *chunks, end=False, seconds=10.0):
    """Send and read until the server closes, or an answer to each of the `chunks` is whole."""
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=seconds) as connection:
        for chunk in chunks:
            connection.sendall(chunk)
        if end:
            connection.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            try:
                data = connection.recv(65536)
            except (TimeoutError, ConnectionResetError):
                return received
            if not data:
                return received
            received += data


def statuses(received):
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


@pytest.fixture
def client(serve, tmp_path):
    return serve(linear(tmp_path / "linear"), limits=Limits(body_bytes=10_000, header_bytes=4096, request_seconds=1.5))


def test_pipelined_requests_are_answered_in_order(client):
    ids = [f"id-{index}" for index in range(50)]
    bodies = [BODY[:-1] + b', "id": "%s"}' % name.encode() for name in ids]
    received = exchange(client, b"".join(post(body) for body in bodies[:-1]) + post(bodies[-1], headers=b"Connection: close\r\n"))
    assert statuses(received) == [200] * 50
    assert [json.loads(part.split(b"\r\n\r\n", 1)[1])["id"] for part in received.split(b"HTTP/1.1 200 OK\r\n")[1:]] == ids


def test_a_request_may_come_byte_by_byte_and_in_chunks(client):
    close = b"Connection: close\r\n"
    assert statuses(exchange(client, *[bytes([byte]) for byte in post(headers=close)])) == [200]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(BODY[i : i + 7]), BODY[i : i + 7]) for i in range(0, len(BODY), 7)) + b"0\r\n\r\n"
    head = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    assert statuses(exchange(client, head + chunked)) == [200]


def test_a_body_over_the_limit_is_refused_before_it_is_read_and_after(client):
    assert statuses(exchange(client, post(b"", length=100 << 20))) == [413]
    head = b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert statuses(exchange(client, head + b"4000\r\n" + b"x" * 0x4000 + b"\r\n")) == [413]
    assert client.get("/v2/health/live").status_code == 200


def test_expect_100_continue_is_answered_before_the_body_comes(client):
    with socket.create_connection(("127.0.0.1", client.server.port), timeout=5) as connection:
        connection.sendall(post(headers=b"Expect: 100-continue\r\n")[: -len(BODY)])
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")
        connection.sendall(BODY)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 10, 400),  # TLS spoken to a plain port
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + b"X-Long: " + b"y" * 9000 + b"\r\n\r\n", 431),
        (b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /v2/models/linear/infer HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400),
    ],
)
def test_what_is_not_http_is_refused_and_the_connection_closed(client, request_bytes, status):
    assert statuses(exchange(client, request_bytes)) == [status]


def test_a_request_that_never_ends_is_given_up(client):
    begin = time.monotonic()
    assert statuses(exchange(client, post()[:-10])) == [408]
    assert time.monotonic() - begin < 8


def test_head_has_no_body_and_http_1_0_closes(client):
    received = exchange(client, b"HEAD /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert statuses(received) == [200] and received.endswith(b"\r\n\r\n")
    assert statuses(exchange(client, b"GET /v2 HTTP/1.0\r\n\r\n")) == [200]


@given(st.lists(st.tuples(st.integers(0, len(post()) - 1), st.binary(min_size=0, max_size=3)), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_mangled_requests_never_crash_hang_or_give_a_500(client, changes):
    mangled = post(headers=b"Connection: close\r\n")
    for position, replacement in changes:
        mangled = mangled[:position] + replacement + mangled[position + 1 :]
    found = statuses(exchange(client, mangled, end=True, seconds=4))
    assert all(status < 500 for status in found), mangled
    assert client.get("/v2/health/live").status_code == 200


SLOW = "import time\ndef preprocess(inputs):\n    time.sleep(float(inputs['x'][0, 0]))\n    return inputs\n"


def test_drain_finishes_what_has_begun_and_takes_nothing_new(serve, tmp_path):
    import asyncio
    import threading

    client = serve(with_processing(tmp_path / "slow", SLOW))
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.post("/predict", json={"inputs": [[0.5, 0, 0, 0]]})))
    thread.start()
    model = client.models[0]
    until = time.monotonic() + 5
    while not model.running_since and time.monotonic() < until:
        time.sleep(0.005)
    drained = asyncio.run_coroutine_threadsafe(client.server.server.drain(5), client.server._loop).result(10)
    thread.join(10)
    assert drained and answers[0].status_code == 200 and answers[0].headers["connection"] == "close"
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", client.server.port), timeout=1)
