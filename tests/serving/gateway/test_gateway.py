"""The gateway as a process, before real replicas, with a small control plane that says what the table is."""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from packages import linear, with_processing

from narf.serving.gateway.payloads import KeepPolicy, Payloads, keep_policy
from narf.serving.http.message import Request, Response

BODY = {"inputs": [[1.0, 2.0, 3.0, 4.0]]}


def eventually(check, seconds=10):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.01)
    return False


def test_a_prediction_goes_through_with_its_id_and_every_form_and_error_as_the_replica_says(control, gateway, serve, tmp_path):
    replica = serve(linear(tmp_path / "linear"), revision="rev-1")
    control.set((1, [replica.server.url]))
    client = gateway()
    direct, through = replica.post("/predict", json=BODY).json(), client.post("/endpoints/digits/predict", json=BODY)
    assert through.status_code == 200 and through.json()["outputs"] == direct["outputs"]
    assert through.headers["narf-prediction"].startswith("pred-") and through.headers["narf-revision"] == "rev-1"
    assert through.json()["id"] == through.headers["narf-prediction"]
    assert client.get("/endpoints/digits/v2/models/linear").json() == replica.get("/v2/models/linear").json()
    wrong = client.post("/endpoints/digits/predict", json={"inputs": "x"})
    assert wrong.status_code == 400 and wrong.json()["error"]
    assert client.get("/endpoints/digits/openapi.json").status_code == 200
    assert client.get("/nowhere").status_code == 404
    assert 'narf_endpoint_requests_total{endpoint="digits",revision="1"' in client.get("/metrics").text
    assert eventually(lambda: any("rev-1" in report["endpoints"]["ep-1"]["revisions"] for report in control.reports))


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (None, 401),
        ("Bearer nobody", 401),
        ("Bearer dev", 200),
        ("Bearer admin", 200),
        ("Bearer viewer", 403),
        ("Bearer other", 404),
        ("Bearer narrow", 404),
    ],
)
def test_roles_decide_who_may_call(control, gateway, serve, tmp_path, token, status):
    control.set((1, [serve(linear(tmp_path / "linear")).server.url]))
    client = gateway()
    headers = {"authorization": token} if token else {}
    answer = httpx.post(f"{client.base_url}/endpoints/digits/predict", json=BODY, headers=headers)
    assert answer.status_code == status and (status == 200 or answer.json()["error"])
    missing = httpx.post(f"{client.base_url}/endpoints/missing/predict", json=BODY, headers=headers)
    assert missing.status_code == (401 if status == 401 else 404)


def test_a_gateway_that_has_just_started_holds_requests_until_it_knows_the_endpoints(control, gateway, serve, tmp_path):
    replica = serve(linear(tmp_path / "linear"))
    control.set((1, [replica.server.url]))
    control.knows.clear()
    client = gateway(ready=False)
    assert client.get("/readyz").status_code == 503
    statuses = []

    def call(name):
        with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=30) as own:
            statuses.append((name, own.post(f"/endpoints/{name}/predict", json=BODY).status_code))

    callers = [threading.Thread(target=call, args=(name,)) for name in ("digits", "digits", "nothing")]
    for caller in callers:
        caller.start()
    callers[0].join(0.3)
    assert statuses == []
    control.knows.set()
    for caller in callers:
        caller.join(20)
    assert sorted(statuses) == [("digits", 200), ("digits", 200), ("nothing", 404)]


def test_known_tokens_and_replicas_work_on_when_the_control_plane_is_gone(control, gateway, serve, tmp_path):
    control.set((1, [serve(linear(tmp_path / "linear")).server.url]))
    client = gateway()
    assert client.post("/endpoints/digits/predict", json=BODY).status_code == 200
    control.is_gone = True
    control.server.shutdown()
    control.server.server_close()
    assert client.post("/endpoints/digits/predict", json=BODY).status_code == 200
    unknown = client.post("/endpoints/digits/predict", json=BODY, headers={"authorization": "Bearer admin"})
    assert unknown.status_code == 503 and "retry-after" in unknown.headers


def test_requests_are_held_during_a_cold_start_and_all_answered(control, gateway, serve, tmp_path):
    replica = serve(linear(tmp_path / "linear"))
    control.set((1, []))
    woken = []

    def start_it(report):
        if report["endpoints"]["ep-1"]["waiting"] and not woken:
            woken.append(time.monotonic())
            control.set((1, [replica.server.url]))

    control.on_report = start_it
    client = gateway()
    begun = time.monotonic()
    answers = []
    threads = [
        threading.Thread(
            target=lambda: answers.append(
                httpx.post(f"{client.base_url}/endpoints/digits/predict", json=BODY, headers=client.headers, timeout=20).status_code
            )
        )
        for _ in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert answers == [200] * 10
    assert woken[0] - begun < 5


def test_a_cold_start_that_fails_or_never_comes_is_a_503_with_a_reason(control, gateway):
    control.set((1, []))
    client = gateway("--cold-start-seconds", "0.5")
    answer = client.post("/endpoints/digits/predict", json=BODY)
    assert answer.status_code == 503 and answer.json()["code"] == "cold_start_timeout"
    control.set((1, []), trouble="no node has 8 GPUs.")
    assert eventually(lambda: "8 GPUs" in client.post("/endpoints/digits/predict", json=BODY).text)


def test_a_replica_that_is_killed_costs_no_request(control, gateway, tmp_path):
    folder = linear(tmp_path / "linear")
    replicas = []
    for index in range(2):
        announce = tmp_path / f"r{index}.json"
        process = subprocess.Popen(
            [sys.executable, "-m", "narf.serving.replica", "--package", folder, "--announce", announce], stderr=subprocess.DEVNULL
        )
        replicas.append((process, announce))
    try:
        assert eventually(lambda: all(announce.exists() for _, announce in replicas), 20)
        urls = [json.loads(announce.read_text())["url"] for _, announce in replicas]
        control.set((1, urls))
        client = gateway()
        codes, stop = [], threading.Event()

        def ask():
            with httpx.Client(base_url=client.base_url, headers=client.headers, timeout=20) as own:
                while not stop.is_set():
                    codes.append(own.post("/endpoints/digits/predict", json=BODY).status_code)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: len(codes) > 50, 20)
        replicas[0][0].send_signal(signal.SIGKILL)
        at_kill = len(codes)
        assert eventually(lambda: len(codes) > at_kill + 100, 20)
        stop.set()
        for thread in threads:
            thread.join(20)
        assert set(codes) == {200}
    finally:
        for process, _ in replicas:
            process.kill()
            process.wait()


def test_a_replica_that_says_nothing_at_all_is_a_504_and_left_out(control, gateway, serve, tmp_path):
    frozen = socket.create_server(("127.0.0.1", 0))  # takes connections, as the system does for a process that is stopped
    living = serve(linear(tmp_path / "linear"))
    control.set((1, [f"http://127.0.0.1:{frozen.getsockname()[1]}"]))
    client = gateway()
    with ThreadPoolExecutor(3) as callers:
        began = time.monotonic()
        asked = [callers.submit(client.post, "/endpoints/digits/predict", json=BODY, headers={"narf-timeout-ms": "100"}) for _ in range(3)]
        for answer in asked:
            assert answer.result().status_code == 504 and answer.result().json()["code"] == "deadline_exceeded"
    assert 5 < time.monotonic() - began < 15
    assert eventually(lambda: any(report["endpoints"]["ep-1"]["ejected"] for report in control.reports))
    control.set((1, [f"http://127.0.0.1:{frozen.getsockname()[1]}", living.server.url]))
    # Each call that still meets the silent one takes 5 s: one before the new table is there, one when it has come back on probation.
    assert eventually(
        lambda: client.post("/endpoints/digits/predict", json=BODY, headers={"narf-timeout-ms": "100"}).status_code == 200, 40
    )
    frozen.close()


def test_weights_split_the_traffic_and_a_change_loses_nothing(control, gateway, serve, tmp_path):
    one, two = serve(linear(tmp_path / "a"), revision="rev-1"), serve(linear(tmp_path / "b"), revision="rev-2")
    control.set((80, [one.server.url]), (20, [two.server.url]))
    client = gateway()
    seen = [client.post("/endpoints/digits/predict", json=BODY).headers["narf-revision"] for _ in range(300)]
    assert 25 <= seen.count("rev-2") <= 110
    control.set((0, [one.server.url]), (100, [two.server.url]))

    def revisions():
        return {client.post("/endpoints/digits/predict", json=BODY).headers["narf-revision"] for _ in range(30)}

    assert eventually(lambda: revisions() == {"rev-2"})


def test_a_caller_that_hangs_up_frees_its_place(control, gateway, serve, tmp_path):
    replica = serve(
        with_processing(
            tmp_path / "slow", "import time\ndef preprocess(inputs):\n    time.sleep(float(inputs['x'].max()))\n    return inputs\n"
        )
    )
    control.set((1, [replica.server.url]))
    client = gateway()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{client.base_url}/endpoints/digits/predict", json={"inputs": [[1.5, 0, 0, 0]]}, headers=client.headers, timeout=0.3)
    assert eventually(lambda: 'narf_endpoint_in_flight{endpoint="digits",gateway="1"} 0' in client.get("/metrics").text)


def test_a_replica_that_answers_nonsense_is_a_502_or_another_is_asked(control, gateway, serve, tmp_path):
    import socket

    listener = socket.create_server(("127.0.0.1", 0))

    def nonsense():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.recv(65536)
            connection.sendall(b"I am no web server\r\n\r\n")
            connection.close()

    threading.Thread(target=nonsense, daemon=True).start()
    bad = f"http://127.0.0.1:{listener.getsockname()[1]}"
    control.set((1, [bad, serve(linear(tmp_path / "linear")).server.url]))
    client = gateway()
    assert {client.post("/endpoints/digits/predict", json=BODY).status_code for _ in range(30)} == {200}
    listener.close()


def test_an_only_replica_that_refused_once_is_asked_again_and_one_that_is_gone_is_not(control, gateway, serve, tmp_path):
    listener = socket.create_server(("127.0.0.1", 0))
    answers = ["503 Service Unavailable", "503 Service Unavailable", "200 OK"]

    def refuse_twice():
        for answer in answers:
            connection, _ = listener.accept()
            connection.recv(65536)
            connection.sendall(f"HTTP/1.1 {answer}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            connection.close()

    replica = threading.Thread(target=refuse_twice, daemon=True)
    replica.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    control.set((1, [url]))
    client = gateway()
    began = time.monotonic()
    assert client.post("/endpoints/digits/predict", json=BODY).status_code == 200
    assert 1.5 < time.monotonic() - began < 15
    replica.join(5)
    listener.close()
    with ThreadPoolExecutor(1) as callers:  # nobody listens there any more: held until another comes
        asked = callers.submit(client.post, "/endpoints/digits/predict", json=BODY)
        time.sleep(2.5)
        assert not asked.done()
        control.set((1, [url, serve(linear(tmp_path / "linear")).server.url]))
        assert asked.result(20).status_code == 200


def test_gateways_on_one_port_show_the_metrics_of_all(control, serve, tmp_path):
    control.set((1, [serve(linear(tmp_path / "linear")).server.url]))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "NARF_URL": control.url, "NARF_TOKEN": "gateway"}
    places = [tmp_path / "gateway.json", tmp_path / "gateway-2.json"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "narf.serving.gateway", "--port", str(port), "--reuse-port", "--slot", str(slot), "--announce", place],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        for slot, place in enumerate(places, 1)
    ]
    try:
        assert eventually(lambda: all(place.exists() for place in places), 20)
        url = f"http://127.0.0.1:{port}/endpoints/digits/predict"
        for _ in range(40):  # each on a connection of its own: the system gives them to one or the other
            assert httpx.post(url, json=BODY, headers={"authorization": "Bearer dev"}).status_code == 200
        lines = httpx.get(f"http://127.0.0.1:{port}/metrics").text.splitlines()
        counted = {
            line.partition('gateway="')[2][:1]: int(line.rpartition(" ")[2]) for line in lines if line.startswith("narf_endpoint_requests")
        }
        assert sum(counted.values()) == 40 and set(counted) == {"1", "2"} and all(counted.values())
        assert sum(line.startswith("# TYPE narf_endpoint_requests_total") for line in lines) == 1
        processes[1].kill()
        processes[1].wait()
        assert 'gateway="1"' in httpx.get(f"http://127.0.0.1:{port}/metrics").text
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_payloads_are_kept_only_where_a_policy_says_so_and_only_of_predictions(control, gateway, serve, tmp_path):
    control.set((1, [serve(linear(tmp_path / "linear")).server.url]), keep={"percent": 0, "errors": True, "days": 30})
    client = gateway()
    assert client.post("/endpoints/digits/predict", json=BODY).status_code == 200
    wrong = client.post("/endpoints/digits/predict", json={"inputs": "x"})
    assert client.get("/endpoints/digits/nothing").status_code == 404
    assert eventually(lambda: control.payloads)
    time.sleep(1.2)
    (item,) = [item for block in control.payloads for item in unpacked(block["ep-1"])]
    assert (item["id"], item["status"], item["revision"]) == (wrong.headers["narf-prediction"], 400, "rev-1")
    assert json.loads(base64.b64decode(item["request"])) == {"inputs": "x"} and base64.b64decode(item["response"]) == wrong.content


def unpacked(block):
    return json.loads(zlib.decompress(base64.b64decode(block)))


def test_what_is_kept_of_payloads_is_bounded():
    policy, payloads = keep_policy({"percent": 100}), Payloads()
    for number in range(100):
        request = Request(lambda _: None)
        request.body = bytes(1 << 20)
        payloads.see("ep-1", policy, b"pred-%d" % number, "rev-1", request, Response(200, b"x"))
    (block,) = payloads.take().values()
    kept = unpacked(block)
    assert 0 < len(kept) <= 16 and payloads.dropped == 100 - len(kept)
    assert all(len(base64.b64decode(item["request"])) == 256 << 10 and item["request_bytes"] == 1 << 20 for item in kept)
    assert payloads.take() == {}


@given(st.floats(0, 1, exclude_max=True), st.floats(0, 1), st.integers(200, 599))
def test_a_policy_takes_its_share_and_all_errors_where_it_says_so(draw, share, status):
    assert KeepPolicy(share, False).takes(status, draw) == (draw < share)
    assert KeepPolicy(share, True).takes(status, draw) == (draw < share or status >= 400)
    assert keep_policy({}) is None and keep_policy({"percent": 0, "errors": False}) is None
