"""A served model under bad company: it throws, it is slow, its queue is full, its clients leave."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import httpx
import numpy as np
import pytest
from packages import WEIGHTS, linear, with_processing

from narf.serving.batching import Policy

THROWS = "def preprocess(inputs):\n    if (inputs['x'] < 0).any(): raise RuntimeError('no negatives')\n    return inputs\n"
SLEEPS = "import time\ndef preprocess(inputs):\n    time.sleep(float(inputs['x'].max()))\n    return inputs\n"


def in_parallel(client, rows, **options):
    """The answers to one request a row, all sent at once."""
    answers = [None] * len(rows)

    def ask(index):
        with httpx.Client(base_url=client.base_url, timeout=30) as own:
            answers[index] = own.post("/predict", json={"inputs": [rows[index]]}, **options)

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(len(rows))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return answers


def test_requests_that_wait_are_batched_and_each_gets_its_own_answer(serve, tmp_path):
    client = serve(with_processing(tmp_path / "slow", "import time\ndef preprocess(inputs):\n    time.sleep(0.05)\n    return inputs\n"))
    rows = np.random.default_rng(0).normal(size=(40, 4)).round(3).tolist()
    answers = in_parallel(client, rows)
    for row, answer in zip(rows, answers, strict=True):
        np.testing.assert_allclose(answer.json()["outputs"]["y"][0], np.array(row, np.float32) @ WEIGHTS, rtol=1e-4, atol=1e-5)
    assert client.models[0].counters.batches < 20


def test_a_request_on_which_the_model_throws_fails_alone(serve, tmp_path):
    client = serve(
        with_processing(
            tmp_path / "throws",
            "import time\n" + THROWS.replace("def preprocess(inputs):\n", "def preprocess(inputs):\n    time.sleep(0.02)\n"),
        )
    )
    answers = in_parallel(client, [[1.0, 1, 1, 1], [-1.0, 0, 0, 0], [2.0, 2, 2, 2], [3.0, 1, 1, 1]] * 3)
    assert [answer.status_code for answer in answers] == [200, 500, 200, 200] * 3
    failed = answers[1].json()
    assert failed["code"] == "model_failed" and "no negatives" in failed["error"]


@pytest.mark.parametrize("returned", ["None", "[1]", "{}", "{'y': 3}", "{'y': outputs['y'][:0]}", "{'y': outputs['y'].sum()}"])
def test_processing_that_returns_nonsense_is_the_models_failure(serve, tmp_path, returned):
    client = serve(with_processing(tmp_path / "bad", f"def postprocess(outputs):\n    return {returned}\n"))
    answer = client.post("/predict", json={"inputs": [[1, 2, 3, 4]]})
    assert answer.status_code == 500 and answer.json()["code"] == "model_failed"


def test_a_full_queue_is_a_429_that_says_when_to_come_back(serve, tmp_path):
    client = serve(with_processing(tmp_path / "slow", SLEEPS), policy=Policy(batch_rows=1, queue_requests=3))
    body = json.dumps({"inputs": [[0.5, 0, 0, 0]]}).encode()
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    connections = [socket.create_connection(("127.0.0.1", client.server.port), timeout=30) for _ in range(12)]
    for connection in connections:
        connection.sendall(request)
    answers = [connection.makefile("rb").read() for connection in connections]
    for connection in connections:
        connection.close()
    codes = [int(answer[9:12]) for answer in answers]
    assert codes.count(429) >= 6 and codes.count(200) >= 3 and set(codes) == {200, 429}
    refused = next(answer for answer in answers if answer[9:12] == b"429")
    assert int(re.search(rb"retry-after: (\d+)", refused)[1]) >= 1


def test_a_deadline_is_kept_whether_the_request_waits_or_runs(serve, tmp_path):
    client = serve(with_processing(tmp_path / "slow", SLEEPS), policy=Policy(batch_rows=1))
    begin = time.monotonic()
    answers = in_parallel(client, [[0.6, 0, 0, 0]] * 3, headers={"narf-timeout-ms": "200"})
    assert {answer.status_code for answer in answers} <= {504, 429}
    assert 504 in {answer.status_code for answer in answers}
    assert time.monotonic() - begin < 3
    assert client.post("/predict", json={"inputs": [[0.0, 0, 0, 0]]}).status_code == 200
    assert client.post("/predict", json={"inputs": [[0.0, 0, 0, 0]]}, headers={"narf-timeout-ms": "soon"}).status_code == 400


def test_a_client_that_leaves_is_not_computed_for(serve, tmp_path):
    client = serve(with_processing(tmp_path / "slow", SLEEPS), policy=Policy(batch_rows=1))
    body = json.dumps({"inputs": [[0.4, 0, 0, 0]]}).encode()
    request = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    connections = [socket.create_connection(("127.0.0.1", client.server.port)) for _ in range(5)]
    for connection in connections:
        connection.sendall(request)
    model = client.models[0]
    until = time.monotonic() + 5
    while model.waiting < 5 and time.monotonic() < until:
        time.sleep(0.005)
    for connection in connections:
        connection.close()
    while model.waiting and time.monotonic() < until:
        time.sleep(0.01)
    assert model.counters.batches <= 2 + 1  # what ran already; the others were dropped


def replica(tmp_path, folder, *arguments):
    announce = tmp_path / "endpoint.json"
    announce.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "narf.serving.replica", "--package", folder, "--announce", announce, *arguments],
        stderr=subprocess.PIPE, env={**os.environ, "NARF_URL": "", "NARF_JOB_DIR": ""},
    )  # fmt: skip
    until = time.monotonic() + 20
    while not announce.exists() and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    return process, json.loads(announce.read_text())["url"]


def test_a_replica_process_serves_and_ends_gracefully_on_sigterm(tmp_path):
    process, url = replica(tmp_path, linear(tmp_path / "linear"))
    try:
        assert httpx.post(f"{url}/predict", json={"inputs": [[1, 2, 3, 4]]}).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0


def test_a_model_that_hangs_ends_its_replica_so_that_it_is_replaced(tmp_path):
    process, url = replica(tmp_path, with_processing(tmp_path / "hangs", SLEEPS), "--timeout", "0.5", "--hang-seconds", "0.5")
    try:
        answer = httpx.post(f"{url}/predict", json={"inputs": [[60.0, 0, 0, 0]]}, headers={"narf-timeout-ms": "200"})
        assert answer.status_code == 504
        assert process.wait(10) == 70  # though its caller asked for less time than the endpoint gives
    finally:
        process.kill()
        process.wait()


def test_a_long_run_is_no_hang_while_its_caller_waits(tmp_path):
    process, url = replica(tmp_path, with_processing(tmp_path / "long", SLEEPS), "--timeout", "0.1", "--hang-seconds", "0.2")
    try:
        answer = httpx.post(f"{url}/predict", json={"inputs": [[1.5, 0, 0, 0]]}, headers={"narf-timeout-ms": "10000"})
        assert answer.status_code == 200 and process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_what_waits_behind_a_model_that_hangs_is_answered_at_its_deadline(serve, tmp_path):
    client = serve(with_processing(tmp_path / "hangs", SLEEPS), policy=Policy(batch_rows=1))
    body = {"inputs": [[3.0, 0, 0, 0]]}
    hanging = threading.Thread(target=lambda: client.post("/predict", json=body, headers={"narf-timeout-ms": "2000"}))
    hanging.start()
    until = time.monotonic() + 5
    while not client.models[0].running_since and time.monotonic() < until:
        time.sleep(0.005)
    began = time.monotonic()
    answer = client.post("/predict", json={"inputs": [[0.0, 0, 0, 0]]}, headers={"narf-timeout-ms": "300"})
    assert answer.status_code == 504 and time.monotonic() - began < 1.5
    hanging.join(10)


def test_a_broken_package_is_refused_in_a_sentence(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "narf.serving.replica", "--package", tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "not a serving package" in done.stderr and "Traceback" not in done.stderr
