"""From a run to an endpoint that answers, on a platform with real replicas and a real gateway."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

TRAIN = """
import mlflow, numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])
y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])
for factor in (2, 3):
    weight = numpy_helper.from_array(np.full(2, factor, np.float32), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "scaled", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), f"by{factor}.onnx")
    mlflow.log_artifact(f"by{factor}.onnx")
"""
BEHAVIOUR = """
import os
import time
import numpy as np
KEPT = []
def preprocess(inputs):
    asked = float(inputs["x"][0, 0])
    if asked == 1001:
        KEPT.append(np.ones(320 << 17))  # 320 MiB
    if asked == 1002:
        time.sleep(1000)
    if asked == 1003:
        os._exit(9)
    return inputs
"""
LEAK, HANG, DIE = 1001, 1002, 1003


class Endpoint:
    """A deployed model, called with its own client."""

    def __init__(self, narf: Any, shown: dict[str, Any]) -> None:
        self.narf, self.name, self.url = narf, shown["name"], shown["url"]
        self.client = httpx.Client(headers={"authorization": f"Bearer {narf.token}"}, timeout=30)

    def ask(self, value: float = 1.0, **headers: str) -> httpx.Response:
        return self.client.post(f"{self.url}/predict", json={"inputs": [[value, 0.0]]}, headers=headers)

    def show(self) -> dict[str, Any]:
        return self.narf.json("endpoints", "show", self.name)

    def events(self) -> list[str]:
        return [event["sentence"] for event in self.show()["events"]]


@pytest.fixture(scope="module")
def served(narf: Any) -> Any:
    """The platform with versions 1 (doubles) and 2 (triples) of "plain", and 1 of "odd", which leaks, hangs or dies when it is asked to."""
    narf.script("train.py", TRAIN)
    narf.script("steps.py", BEHAVIOUR)
    run = narf.json("run", "train.py", "--follow")["run_id"]
    for file, name, more in (("by2.onnx", "plain", ()), ("by3.onnx", "plain", ()), ("by2.onnx", "odd", ("--processing", "steps.py"))):
        narf("models", "register", f"{run}:{file}", "--name", name, *more)
    narf.token = json.loads((narf.home / "run" / "server.json").read_text())["token"]
    return narf


@pytest.fixture
def deploy(served: Any) -> Iterator[Callable[..., Endpoint]]:
    made: list[str] = []

    def deployed(*arguments: str) -> Endpoint:
        shown = served.json("deploy", *arguments)
        made.append(shown["name"])
        return Endpoint(served, shown)

    yield deployed
    for name in dict.fromkeys(made):
        served("endpoints", "delete", name, code=None)


@contextmanager
def calling(*endpoints: Endpoint) -> Iterator[list[int]]:
    """Call them in turn, one request after the other, meanwhile: the statuses."""
    statuses: list[int] = []
    stop = threading.Event()

    def call() -> None:
        with httpx.Client(headers=endpoints[0].client.headers, timeout=30) as client:
            while not stop.is_set():
                for endpoint in endpoints:
                    statuses.append(client.post(f"{endpoint.url}/predict", json={"inputs": [[1.0, 0.0]]}).status_code)

    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def record_of(served: Any, prediction: str) -> Any:
    """What is on record of a prediction; nothing while that is still on its way."""
    done = served("trace", prediction, "--json", code=None)
    return json.loads(done.stdout) if done.returncode == 0 else {}


def eventually(check: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_model_that_leaks_is_replaced_and_no_call_fails(served: Any, deploy: Any) -> None:
    endpoint = deploy("odd", "--name", "leaking", "--replicas", "1")
    before = endpoint.show()["replicas"][0]["workload_id"]
    assert endpoint.ask().json()["outputs"] == {"y": [[2.0, 0.0]]}
    assert [endpoint.ask(LEAK).status_code for _ in range(2)] == [200, 200]
    statuses, answering = [], []

    def replaced() -> bool:
        statuses.append(endpoint.ask().status_code)
        shown = endpoint.show()
        answering.append(shown["ready"])
        return [replica["workload_id"] for replica in shown["replicas"] if replica["state"] == "ready"] not in ([before], [])

    eventually(replaced)
    assert set(statuses) == {200} and min(answering) >= 1  # the successor was ready before it left
    assert any("has grown by " in sentence and before in sentence for sentence in endpoint.events()), endpoint.events()
    shown = served.json("models", "show", "odd/1")["package"]["evidence"]
    assert shown["growth_allowed_bytes"] == 2 * shown["memory_bytes"] + (512 << 20)


def test_small_models_share_a_process_and_each_has_its_own_answers_trace_and_rollout(served: Any, deploy: Any) -> None:
    doubles, triples = deploy("plain/1", "--name", "doubles", "--shared"), deploy("plain/2", "--name", "triples", "--shared")
    again = deploy("plain/1", "--name", "again", "--shared", "--replicas", "0..1")
    answers = [endpoint.ask(1.0).json() for endpoint in (doubles, triples, again)]
    assert [answer["outputs"]["y"][0][0] for answer in answers] == [2.0, 3.0, 2.0]
    processes = {replica["workload_id"] for endpoint in (doubles, triples, again) for replica in endpoint.show()["replicas"]}
    assert len(processes) == 1 and triples.show()["replicas"][0]["shared"]
    assert doubles.ask("x").status_code == 400  # type: ignore[arg-type]

    def traced() -> bool:
        found = [record_of(served, answer["id"]) for answer in answers]
        return [(f.get("endpoint"), f.get("lineage", {}).get("version")) for f in found] == [("doubles", 1), ("triples", 2), ("again", 1)]

    eventually(traced)
    with calling(again, triples) as statuses:
        served("deploy", "plain/2", "--name", "doubles")
        eventually(lambda: doubles.ask().json()["outputs"]["y"][0][0] == 3.0)
        served("endpoints", "rollback", "doubles")
        eventually(lambda: doubles.ask().json()["outputs"]["y"][0][0] == 2.0)
    assert set(statuses) == {200} and len(statuses) > 20
    assert {replica["workload_id"] for replica in doubles.show()["replicas"]} == processes


def test_a_model_that_takes_its_process_with_it_does_so_once_and_then_alone(served: Any, deploy: Any) -> None:
    good, bad = deploy("plain/1", "--name", "good", "--shared", "--replicas", "1"), deploy("odd/1", "--name", "bad", "--shared")
    (process,) = {replica["workload_id"] for endpoint in (good, bad) for replica in endpoint.show()["replicas"]}
    with calling(good) as statuses:
        bad.ask(DIE, **{"narf-timeout-ms": "2000"})
        eventually(lambda: [r["workload_id"] for r in good.show()["replicas"] if r["state"] == "ready"] not in ([process], []))
        (own,) = (replica["workload_id"] for replica in good.show()["replicas"])
        assert bad.ask().status_code == 200
        bad.ask(DIE, **{"narf-timeout-ms": "2000"})
        assert bad.ask().status_code == 200
        assert [replica["workload_id"] for replica in good.show()["replicas"]] == [own]
    assert set(statuses) == {200}
    assert not any(replica["shared"] for endpoint in (good, bad) for replica in endpoint.show()["replicas"])


def test_payloads_are_kept_where_a_policy_says_so_and_shown_by_trace(served: Any, deploy: Any) -> None:
    endpoint = deploy("plain/1", "--name", "kept", "--keep-payloads", "errors", "--for", "12h")
    good, bad = endpoint.ask(1.0), endpoint.ask("x")  # type: ignore[arg-type]
    assert (good.status_code, bad.status_code) == (200, 400)
    eventually(lambda: served("trace", bad.headers["narf-prediction"], code=None).returncode == 0)
    shown = served("trace", bad.headers["narf-prediction"]).stdout
    assert '{"inputs":[["x",0.0]]}' in shown.replace(": ", ":").replace(", ", ",") and "status 400" in shown and "plain" in shown
    eventually(lambda: served("trace", good.headers["narf-prediction"], code=None).returncode == 0)
    assert not served.json("trace", good.headers["narf-prediction"])["payload"]
    assert "keeps payloads: errors, for 0.5 days" in served("endpoints", "show", "kept").stdout


def test_where_no_training_data_was_given_the_first_thousand_rows_of_requests_are_the_baseline(served: Any, deploy: Any) -> None:
    endpoint = deploy("plain/1", "--name", "unknown", "--replicas", "1")
    random = Random(1)

    def ask(mean: float, rows: int) -> None:
        inputs = [[random.gauss(mean, 1), random.gauss(0, 1)] for _ in range(rows)]
        assert endpoint.client.post(f"{endpoint.url}/predict", json={"inputs": inputs}).status_code == 200

    def drift() -> dict[str, Any]:
        found = served.json("endpoints", "drift", "unknown")["revisions"]
        return found[0] if found else {"note": "", "baseline": "", "features": []}  # type: ignore[no-any-return]

    ask(0, 400)
    eventually(lambda: "400 have come" in drift()["note"])
    ask(0, 700)
    eventually(lambda: drift()["baseline"].startswith("its first 1,100 rows of live requests"))
    ask(0, 500)
    eventually(lambda: [feature["rows"] for feature in drift()["features"]] == [500, 500])
    assert not any(feature["drifted"] for feature in drift()["features"])
    ask(5, 500)
    eventually(lambda: [feature["drifted"] for feature in drift()["features"]] == [True, False])
    assert any("are not what its first requests were" in sentence for sentence in endpoint.events())
    assert "compared with its first 1,100 rows of live requests" in served("endpoints", "drift", "unknown").stdout


@contextmanager
def gateway_by_hand(served: Any, folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """One more, as on a further machine: it knows the control plane and a token."""
    said = json.loads((served.home / "run" / "server.json").read_text())
    place = folder / "far.json"
    command = [sys.executable, "-m", "narf.serving.gateway", "--host", "127.0.0.1", "--port", "0", "--announce", str(place)]
    environment = served.environment | {"NARF_URL": said["url"], "NARF_TOKEN": said["token"]}
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        eventually(place.exists)
        yield json.loads(place.read_text())["url"], process
    finally:
        process.kill()
        process.wait()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/readyz").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_gateway_that_is_started_by_hand_serves_the_same_endpoints_and_each_goes_on_without_the_other(
    served: Any, deploy: Any, tmp_path: Path
) -> None:
    near = deploy("plain/1", "--name", "both", "--replicas", "1")
    with gateway_by_hand(served, tmp_path) as (address, process):
        far = Endpoint(served, near.show())
        far.url = f"{address}/endpoints/both"
        assert [each.ask().json()["outputs"]["y"][0][0] for each in (near, far, near, far, far)] == [2.0] * 5
        assert httpx.post(f"{far.url}/predict", json={"inputs": [[1.0, 0.0]]}).status_code == 401
        prediction = far.ask().headers["narf-prediction"]
        served("deploy", "plain/2", "--name", "both")
        eventually(lambda: [each.ask().json()["outputs"]["y"][0][0] for each in (near, far)] == [3.0, 3.0])
        eventually(lambda: record_of(served, prediction).get("revision") == 1)
        asleep = deploy("plain/1", "--name", "asleep", "--replicas", "0..1", "--idle", "1")
        eventually(lambda: asleep.show()["replicas"] == [])
        asleep.url = f"{address}/endpoints/asleep"
        assert asleep.ask().status_code == 200  # it is woken, and the request waits here
        before = near.show()
        with calling(far) as statuses:
            for place in (served.home / "run").glob("gateway*.json"):
                os.kill(json.loads(place.read_text())["pid"], signal.SIGKILL)
            eventually(lambda: len(statuses) > 100)
        assert set(statuses) == {200}
        eventually(lambda: is_ready(near.url.partition("/endpoints")[0]))
        with calling(near) as statuses:
            process.kill()
            eventually(lambda: len(statuses) > 100)
        assert set(statuses) == {200} and before["url"] == near.show()["url"]


def test_gateways_whose_control_plane_was_killed_end_with_narf_down(fresh: Any) -> None:
    fresh("up", NARF_GATEWAYS="3")
    places = ["gateway.json", "gateway-2.json", "gateway-3.json"]
    eventually(lambda: all((fresh.home / "run" / place).exists() for place in places))
    pids = [json.loads((fresh.home / "run" / place).read_text())["pid"] for place in places]
    os.kill(json.loads((fresh.home / "run" / "server.json").read_text())["pid"], signal.SIGKILL)
    fresh("down")
    eventually(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids))
    assert not list((fresh.home / "run").glob("gateway*.json"))
