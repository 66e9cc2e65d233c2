"""Endpoints over HTTP with the real reconciler: deploy, scale, canary, roll back, follow, trace."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import queue
import threading
import time
import zlib
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from sqlalchemy import event

from narf.client import endpoints as client_endpoints
from narf.client.connection import Connection
from narf.control.endpoints import store
from narf.control.endpoints.routing import Routing
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason
from narf.scheduling.decisions import Reason, Waiting
from narf.serving.drift import Sketch, reference_from_json
from narf.serving.identity import Identities

BASE = "/api/v1/projects/default/endpoints"


def deploy(served, model, **body):
    answer = served.http.post(BASE, json={"model": model} | body)
    assert answer.status_code == 201, answer.text
    return answer.json()


def answers(requests, errors=0, slot=3):
    histogram = [0] * 16
    histogram[slot] = requests
    return {"requests": requests, "errors": errors, "rejected": 0, "histogram": histogram, "seconds": requests * 0.002}


def roles(endpoint):
    return {r["number"]: (r["role"], r["weight"]) for r in endpoint["revisions"]}


def test_a_deployed_model_gets_a_replica_and_then_all_traffic(served):
    served.register("iris", alias="champion")
    made = deploy(served, "iris@champion")
    assert made["state"] == "starting" and made["alias"] == "champion" and served.table("iris")["revisions"] == []
    found = served.settle("iris")
    assert found["state"] == "ready" and roles(found) == {1: ("active", 100.0)} and found["ready"] == 1
    assert [len(r["replicas"]) for r in served.table("iris")["revisions"]] == [1]
    workload = served.http.get(f"/api/v1/workloads/{found['replicas'][0]['workload_id']}").json()
    assert workload["kind"] == "replica" and not workload["preemptible"]


def test_a_model_is_deployed_from_python(served):
    line = Connection("http://testserver")
    line._http = served.http
    served.register("orchid", alias="champion")
    endpoint = client_endpoints.deploy("orchid@champion", replicas=(0, 2), wait=False, connection=line)
    assert endpoint.name == "orchid" and endpoint.url.endswith("/endpoints/orchid")
    assert (endpoint.facts["least"], endpoint.facts["most"]) == (0, 2)
    served.settle("orchid")
    assert client_endpoints.wait_until_serving(line, dict(endpoint.facts))["state"] == "ready"
    with pytest.raises(NarfError, match="There is no model alias 'nothing@champion'"):
        client_endpoints.deploy("nothing@champion", connection=line)


def test_an_endpoint_comes_of_its_model_versions_and_these_of_their_runs(served):
    def graph(kind: str, id: str, direction: str) -> set[tuple[str, str]]:
        where = {"kind": kind, "id": id, "direction": direction}
        found = served.http.get("/api/v1/projects/default/lineage", params=where)
        assert found.status_code == 200, found.text
        return {(edge["source"], edge["target"]) for edge in found.json()["edges"]}

    first = served.register("lupin", alias="champion")
    deploy(served, "lupin@champion")
    served.settle("lupin")
    second = served.register("lupin", alias="champion")
    served.settle("lupin")
    runs = {v: served.http.get(f"/api/v1/projects/default/models/lupin/versions/{v}").json()["run_id"] for v in (first, second)}
    edges = {(f"run:{run}", f"model_version:default/lupin@{v}") for v, run in runs.items()}
    edges |= {(f"model_version:default/lupin@{v}", "endpoint:default/lupin") for v in runs}
    assert graph("endpoint", "default/lupin", "up") == edges
    assert graph("run", runs[first], "down") == {edge for edge in edges if runs[first] in edge[0] or edge[0].endswith(f"@{first}")}


def test_an_endpoint_waits_for_its_package(served):
    version = served.register("slow", package=False)
    deploy(served, f"slow/{version}")
    served.look()
    assert served.endpoint("slow")["replicas"] == []
    served.send_package("slow", version)
    assert served.settle("slow")["state"] == "ready"


def test_it_scales_with_the_requests_down_to_none_and_back_when_somebody_waits(served):
    served.register("flex")
    deploy(served, "flex", least=0, most=4, target=10, idle_seconds=60)
    assert served.settle("flex")["ready"] == 1
    served.now += timedelta(seconds=1)
    served.report("flex", concurrency=35)
    assert served.settle("flex", 2)["ready"] == 4
    served.now += timedelta(seconds=120)
    idle = served.settle("flex")
    assert idle["ready"] == 0 and idle["state"] == "idle"
    served.report("flex", waiting=3)
    served.look(0.1)
    assert [replica["state"] for replica in served.endpoint("flex")["replicas"] if replica["state"] != "draining"] == ["starting"]


def test_moving_the_alias_rolls_the_endpoint_and_the_old_replica_stays_until_the_new_is_ready(served):
    served.register("roll", alias="champion")
    deploy(served, "roll@champion", least=1)
    served.settle("roll")
    version = served.register("roll")
    served.http.put("/api/v1/projects/default/models/roll/aliases/champion", json={"version": version})
    served.look(3)
    assert roles(served.endpoint("roll")) == {1: ("active", 100.0), 2: ("new", 0.0)}
    assert [len(r["replicas"]) for r in served.table("roll")["revisions"]] == [1]
    found = served.settle("roll")
    assert roles(found) == {1: ("retired", 0.0), 2: ("active", 100.0)} and "alias champion" in found["revisions"][1]["reason"]


def canary(served, name):
    served.register(name)
    deploy(served, name, least=1, canary=[10, 50], rollout={"least_requests": 20, "least_seconds": 1})
    served.settle(name)
    version = served.register(name)
    deploy(served, f"{name}/{version}")
    served.look()
    served.become_ready(name)
    served.look()
    endpoint = served.endpoint(name)
    assert roles(endpoint) == {1: ("active", 90.0), 2: ("active", 10.0)}
    return {r["number"]: r["id"] for r in endpoint["revisions"]}


def test_a_good_canary_is_promoted_step_by_step(served):
    ids = canary(served, "good")
    for expected in ({1: ("active", 50.0), 2: ("active", 50.0)}, {1: ("retired", 0.0), 2: ("active", 100.0)}):
        served.report("good", concurrency=1, revisions={ids[1]: answers(90), ids[2]: answers(30)})
        served.look(5)
        assert roles(served.endpoint("good")) == expected
    assert "promote" in {event["kind"] for event in served.endpoint("good")["events"]}


def test_the_share_of_a_running_canary_is_set_by_hand_and_the_rollout_goes_on_from_there(served):
    ids = canary(served, "steered")
    for wrong, field in ((0, "share"), (100, "share")):
        answer = served.http.post("/api/v1/endpoints/steered/share", json={"share": wrong})
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    shown = served.http.post("/api/v1/endpoints/steered/share", json={"share": 30}).json()
    assert roles(shown) == {1: ("active", 70.0), 2: ("active", 30.0)}
    assert (shown["canary"], shown["canary_step"]) == ([30, 50], 0)
    assert served.http.post("/api/v1/endpoints/steered/share", json={"share": 60}).json()["canary"] == [60]
    served.report("steered", concurrency=1, revisions={ids[1]: answers(90), ids[2]: answers(30)})
    served.look(5)
    assert roles(served.endpoint("steered")) == {1: ("retired", 0.0), 2: ("active", 100.0)}
    assert served.http.post("/api/v1/endpoints/steered/share", json={"share": 30}).status_code == 409


@pytest.fixture
def hook():
    """A webhook: `hook.url`, and `hook.told(kind)`, which waits for an alert of that kind."""

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            alerts.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    alerts = queue.Queue()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/"

    def told(kind):
        while (alert := alerts.get(timeout=10))["kind"] != kind:
            pass
        return alert

    server.told = told
    yield server
    server.shutdown()
    server.server_close()


def test_a_canary_with_errors_is_rolled_back_and_the_webhook_told(served, hook):
    ids = canary(served, "bad")
    served.http.patch("/api/v1/endpoints/bad", json={"webhook": hook.url})
    served.report("bad", concurrency=1, revisions={ids[1]: answers(90), ids[2]: answers(10, errors=6)})
    served.look(1)
    found = served.endpoint("bad")
    assert roles(found) == {1: ("active", 100.0), 2: ("failed", 0.0)} and "failed" in found["revisions"][1]["reason"]
    assert hook.told("rolled_back")["endpoint"] == "bad"


def test_the_webhook_hears_of_a_lost_replica_and_of_a_used_up_error_budget(served, hook):
    served.register("sick")
    deploy(served, "sick", least=1, webhook=hook.url)
    found = served.settle("sick")
    served.fail(found["replicas"][0]["workload_id"])
    served.look(1)
    assert "exit code 1" in hook.told("replica_lost")["sentence"]
    served.report_over_http("sick", {found["revisions"][0]["id"]: answers(3200, errors=20)})
    alert = hook.told("error_budget")
    assert alert["sentence"] == "20 of 3200 requests failed in the last hour; the objective of 99.5% allows 16." and alert["used"] > 1


@pytest.mark.parametrize(("requests", "errors"), [(3000, 14), (20, 9)])
def test_errors_within_the_budget_or_too_few_to_tell_alert_nobody(served, requests, errors):
    served.register("well")
    deploy(served, "well", least=1)
    revision = served.settle("well")["revisions"][0]["id"]
    served.report_over_http("well", {revision: answers(requests, errors=errors)})
    assert "error_budget" not in {event["kind"] for event in served.endpoint("well")["events"]}


def test_a_slow_canary_is_rolled_back(served):
    ids = canary(served, "tardy")
    served.report("tardy", concurrency=1, revisions={ids[1]: answers(200), ids[2]: answers(60, slot=12)})
    served.look(1)
    assert roles(served.endpoint("tardy"))[2][0] == "failed"


def test_rolling_back_by_hand_is_one_action_and_stops_following(served):
    served.register("back", alias="champion")
    deploy(served, "back@champion", least=1)
    served.settle("back")
    deploy(served, f"back/{served.register('back')}")
    served.settle("back")
    answer = served.http.post("/api/v1/endpoints/back/rollback", json={})
    assert answer.status_code == 200 and answer.json()["alias"] == ""
    found = served.settle("back")
    assert roles(found) == {1: ("active", 100.0), 2: ("retired", 0.0)}
    assert served.http.post("/api/v1/endpoints/back/rollback", json={"to": 9}).status_code == 404


def test_the_revision_before_keeps_a_replica_for_a_while_so_that_a_rollback_is_immediate(served):
    served.register("safe")
    deploy(served, "safe", least=2, most=2)
    served.settle("safe")
    deploy(served, f"safe/{served.register('safe')}")
    found = served.settle("safe")
    assert roles(found) == {1: ("retired", 0.0), 2: ("active", 100.0)} and found["ready"] == 2
    numbers = [r["revision"] for r in found["replicas"] if r["state"] == "ready"]
    assert sorted(numbers) == [1, 2, 2]
    assert len(served.table("safe")["revisions"]) == 1  # it gets nothing
    served.http.post("/api/v1/endpoints/safe/rollback", json={})
    assert roles(served.endpoint("safe")) == {1: ("active", 100.0), 2: ("retired", 0.0)}  # before anybody looks
    (part,) = served.table("safe")["revisions"]
    assert part["number"] == 1 and len(part["replicas"]) == 1
    found = served.settle("safe")
    assert [r["revision"] for r in found["replicas"] if r["state"] == "ready"] == [1, 1]  # what was rolled back keeps none


@pytest.mark.parametrize("at_once", [True, False])
def test_after_going_back_and_forward_again_the_way_back_is_kept_warm(served, at_once):
    served.register("swing")
    deploy(served, "swing", least=1)
    served.settle("swing")
    deploy(served, f"swing/{served.register('swing')}")
    served.settle("swing")
    served.http.post("/api/v1/endpoints/swing/rollback", json={})
    served.settle("swing")
    # Forward: by a replica that is started for it, or by one that is there already.
    if at_once:
        with served.platform.workloads._database.write() as connection:
            (replica,) = store.list_replicas(connection, served.endpoint("swing")["id"])
            second = served.endpoint("swing")["revisions"][1]["id"]
            store.add_replica(connection, dataclasses.replace(replica, workload_id="wl-second", revision_id=second))
    served.http.post("/api/v1/endpoints/swing/rollback", json={"to": 2})
    assert (roles(served.endpoint("swing"))[2] == ("active", 100.0)) is at_once
    served.look(0.1)
    served.become_ready("swing")
    served.look(0.1)
    served.look(30)
    found = served.endpoint("swing")
    assert roles(found) == {1: ("retired", 0.0), 2: ("active", 100.0)}
    assert 1 in {r["revision"] for r in found["replicas"] if r["state"] == "ready"}
    served.http.post("/api/v1/endpoints/swing/rollback", json={})
    assert roles(served.endpoint("swing")) == {1: ("active", 100.0), 2: ("retired", 0.0)}  # before anybody looks


def test_the_kept_replica_goes_after_a_while_or_when_somebody_needs_the_room(served):
    for name in ("later", "needed"):
        served.register(name)
        deploy(served, name, least=1)
        served.settle(name)
        deploy(served, f"{name}/{served.register(name)}")
        assert len(served.settle(name)["replicas"]) == 2
        served.look(180)
        assert len(served.endpoint(name)["replicas"]) == 2  # nobody waits for room
        if name == "later":
            served.now += timedelta(minutes=61)
        else:
            deploy(served, name, name="crowd", least=1)
            waits_for(served, Reason.NO_CAPACITY)
        served.look(0.1)
        served.look(3)
        states = sorted(r["state"] for r in served.endpoint(name)["replicas"] if r["revision"] == 1)
        assert states in ([], ["draining"])


def test_a_rollback_goes_to_what_served_last_and_not_to_what_was_rolled_back_before(served):
    served.register("twice")
    deploy(served, "twice", least=1)
    served.settle("twice")
    second, third = served.register("twice"), served.register("twice")
    deploy(served, f"twice/{second}")
    served.settle("twice")
    served.http.post("/api/v1/endpoints/twice/rollback", json={})
    served.settle("twice")
    deploy(served, f"twice/{third}")
    assert roles(served.settle("twice")) == {1: ("retired", 0.0), 2: ("retired", 0.0), 3: ("active", 100.0)}
    served.http.post("/api/v1/endpoints/twice/rollback", json={})
    assert roles(served.settle("twice"))[1] == ("active", 100.0)


def test_the_kept_replica_goes_after_two_minutes_when_other_work_waits_for_room(served):
    served.register("parked")
    deploy(served, "parked", least=1)
    served.settle("parked")
    deploy(served, f"parked/{served.register('parked')}")
    assert len(served.settle("parked")["replicas"]) == 2
    waiting = Waiting(workload="", reason=Reason.NO_CAPACITY, position=1, resource="cpu")
    (going_on, _) = (replica["workload_id"] for replica in served.endpoint("parked")["replicas"])
    before, served.reconciler.all_waiting = served.reconciler.all_waiting, lambda: {"wl-ended": waiting, going_on: waiting}
    try:
        served.look(30)
        assert len(served.endpoint("parked")["replicas"]) == 2
        served.reconciler.all_waiting = lambda: {"wl-ended": waiting}  # it waits no more
        served.look(120)
        assert len(served.endpoint("parked")["replicas"]) == 2
        served.reconciler.all_waiting = lambda: {going_on: waiting}
        served.look(1)
        served.look(3)
        assert [r["revision"] for r in served.endpoint("parked")["replicas"] if r["state"] == "ready"] == [2]
    finally:
        served.reconciler.all_waiting = before


def test_rolling_back_takes_all_traffic_at_once_where_deployments_go_by_canary(served):
    canary(served, "hasty")
    served.http.post("/api/v1/endpoints/hasty/promote")
    served.now += timedelta(minutes=61)  # nothing of the revision before is left
    served.settle("hasty")
    served.http.patch("/api/v1/endpoints/hasty", json={"most": 4})
    served.report("hasty", concurrency=40)
    assert served.settle("hasty", 3)["ready"] == 3
    assert served.http.post("/api/v1/endpoints/hasty/rollback", json={}).status_code == 200
    served.look(0.5)
    assert roles(served.endpoint("hasty"))[1] == ("new", 0.0)  # its three replicas start
    served.become_ready("hasty")
    served.look(0.5)
    assert roles(served.endpoint("hasty")) == {1: ("active", 100.0), 2: ("retired", 0.0)}


def test_a_replica_that_ends_is_replaced_and_one_that_never_starts_is_trouble(served):
    served.register("frail")
    deploy(served, "frail", least=1)
    (replica,) = served.settle("frail")["replicas"]
    served.fail(replica["workload_id"])
    found = served.settle("frail")
    assert found["ready"] == 1 and found["replicas"][0]["workload_id"] != replica["workload_id"]
    served.register("dead")
    deploy(served, "dead", least=1)
    for _ in range(12):
        served.look(30)
        for starting in served.endpoint("dead")["replicas"]:
            served.fail(starting["workload_id"])
    found = served.endpoint("dead")
    assert found["state"] == "trouble" and roles(found)[1][0] == "failed"
    assert served.table("dead")["trouble"]


def test_a_replica_that_runs_and_does_not_answer_is_replaced(served, hook):
    served.register("frozen")
    deploy(served, "frozen", least=1, webhook=hook.url)
    (replica,) = served.settle("frozen")["replicas"]
    for seconds, state in ((1, "ready"), (20, "ready"), (20, "draining")):
        served.now += timedelta(seconds=seconds)
        value = {"concurrency": 1, "waiting": 0, "arrived": 1, "revisions": {}, "ejected": [replica["workload_id"]]}
        served.reconciler._endpoints.demand.report("gw-test", served.endpoint("frozen")["id"], value, served.now)
        served.look(0.1)
        states = {r["workload_id"]: r["state"] for r in served.endpoint("frozen")["replicas"]}
        assert states[replica["workload_id"]] == state
    assert "does not answer" in hook.told("replica_lost")["sentence"]
    found = served.settle("frozen")
    assert found["ready"] == 1 and replica["workload_id"] not in {r["workload_id"] for r in found["replicas"] if r["state"] == "ready"}


def test_a_model_that_hangs_while_it_is_loaded_is_given_up_and_in_the_end_trouble(served):
    served.register("stuck")
    deploy(served, "stuck", least=1)
    served.look()
    for _ in range(3):
        (replica,) = (r for r in served.endpoint("stuck")["replicas"] if r["state"] == "starting")
        served.look(3_600)  # it waits for room: nobody is to blame
        assert [r["state"] for r in served.endpoint("stuck")["replicas"]] == ["starting"]
        served.run_workload(replica["workload_id"])
        served.look(600)
        assert [r["state"] for r in served.endpoint("stuck")["replicas"]] == ["starting"]
        served.look(301)
        assert "draining" in [r["state"] for r in served.endpoint("stuck")["replicas"] if r["workload_id"] == replica["workload_id"]]
        served.look(5)
        assert served.platform.workloads.workload(replica["workload_id"]).cancel_requested
        served.fail(replica["workload_id"], EndReason.CANCELLED)
        served.look(60)
    found = served.endpoint("stuck")
    assert found["state"] == "trouble" and roles(found)[1][0] == "failed"
    assert any(event["sentence"].startswith(f"Replica {replica['workload_id']} has run for 15 minutes") for event in found["events"])


def test_a_replica_that_leaves_answers_until_its_successor_does(served, hook):
    served.register("leaky")
    deploy(served, "leaky", least=1, webhook=hook.url)
    (replica,) = served.settle("leaky")["replicas"]
    path = f"/api/v1/replicas/{replica['workload_id']}/leaving"
    for _ in range(2):  # safe to repeat
        assert served.http.post(path, json={"sentence": "It has grown by 900 MiB."}).status_code == 204

    def answering():
        (part,) = served.table("leaky")["revisions"]
        return [each["id"] for each in part["replicas"]]

    for _ in range(3):
        served.look(30)
        found = served.endpoint("leaky")
        assert answering() == [replica["workload_id"]] and found["state"] == "ready" and found["ready"] == 1
        assert [each["state"] for each in found["replicas"]] == ["leaving", "starting"]
    assert served.http.post(f"/api/v1/replicas/{replica['workload_id']}/address", json={"url": replica["url"]}).status_code == 204
    assert served.endpoint("leaky")["replicas"][0]["state"] == "leaving"
    served.become_ready("leaky")
    assert len(answering()) == 2
    served.look(0.1)
    assert len(answering()) == 1 and replica["workload_id"] not in answering()
    assert [each["state"] for each in served.endpoint("leaky")["replicas"]] == ["draining", "ready"]
    assert "900 MiB" in hook.told("replica_leaves")["sentence"]
    events = [event["kind"] for event in served.endpoint("leaky")["events"]]
    assert events.count("replica_leaves") == 1


def test_a_replica_that_cannot_wait_for_its_successor_is_out_of_the_table_at_once(served):
    served.register("leaky")
    deploy(served, "leaky", least=1)
    (replica,) = served.settle("leaky")["replicas"]
    path = f"/api/v1/replicas/{replica['workload_id']}/leaving"
    served.http.post(path, json={"sentence": "It has grown by 900 MiB."})
    served.look(0.1)
    served.http.post(path, json={"sentence": "It has grown by 1,100 MiB.", "at_once": True})
    (part,) = served.table("leaky")["revisions"]
    assert part["replicas"] == []
    assert [each["state"] for each in served.endpoint("leaky")["replicas"]] == ["draining", "starting"]


def test_a_deleted_endpoint_is_out_of_the_table_and_its_replicas_are_stopped(served):
    served.register("gone")
    deploy(served, "gone", least=1)
    (replica,) = served.settle("gone")["replicas"]
    assert served.http.delete("/api/v1/endpoints/gone").status_code == 204
    served.look()
    assert served.table("gone") is None and served.http.get("/api/v1/endpoints/gone").status_code == 404
    assert served.http.get(f"/api/v1/workloads/{replica['workload_id']}").json()["cancel_requested"]


def test_a_model_that_serves_is_not_deleted(served):
    version = served.register("kept")
    deploy(served, "kept")
    for path in ("kept", f"kept/versions/{version}"):
        answer = served.http.delete(f"/api/v1/projects/default/models/{path}")
        assert answer.status_code == 409 and "serves endpoint" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"model": "nope@champion"}, 404),
        ({"model": "known@nope"}, 404),
        ({"model": "known/99"}, 404),
        ({"model": "known/x"}, 422),
        ({"model": ""}, 422),
        ({"model": "known", "name": "Bad Name"}, 422),
        ({"model": "known", "least": 3, "most": 2}, 422),
        ({"model": "known", "least": -1}, 422),
        ({"model": "known", "canary": [50, 10]}, 422),
        ({"model": "known", "canary": [0]}, 422),
        ({"model": "known", "target": 0}, 422),
        ({"model": "known", "webhook": "ftp://x"}, 422),
        ({"model": "known", "resources": {"cpu": 0}}, 422),
        ({}, 422),
    ],
)
def test_a_deployment_that_cannot_be_is_refused_and_changes_nothing(served, body, status):
    served.register("known")
    before = served.http.get(BASE).json()
    answer = served.http.post(BASE, json=body)
    assert answer.status_code == status and answer.json()["detail"], answer.text
    assert served.http.get(BASE).json() == before


def test_a_prediction_is_traced_to_its_run_and_counted_for_drift(served):
    served.register("seen")
    deploy(served, "seen", least=1)
    found = served.settle("seen")
    replica = found["replicas"][0]["workload_id"]
    manifest = served.http.get("/api/v1/projects/default/models/seen").json()["versions"][0]
    identities = Identities()
    ids = [identities.new().decode() for _ in range(300)]
    columns = {"ids": ids, "rows": [1] * 300, "milliseconds": [1.5] * 300, "input_means": [5.0] * 300, "output_means": [None] * 300}
    reference = _reference(served, "seen")
    sketch = Sketch(reference)
    sketch.add({"x": np.full((300, 4), 5.0)}, ("a", "b", "c", "d"))
    histogram = [0] * 16
    histogram[3] = 300
    body = {
        "model": "seen", "count": 300, "rows": 300, "milliseconds": histogram, "records": base64.b64encode(zlib.compress(json.dumps(columns).encode())).decode(),
        "inputs": sketch.as_json(), "outputs": {"numbers": {"y": [300, 1.0, 1.0, 0.0, 1.0]}, "labels": {}},
    }  # fmt: skip
    assert served.http.post(f"/api/v1/replicas/{replica}/predictions", json=body).json() == {"reference": None}
    traced = served.http.get(f"/api/v1/predictions/{ids[7]}").json()
    assert traced["endpoint"] == "seen" and traced["milliseconds"] == 1.5 and traced["lineage"]["run"] == manifest["run_id"]
    drift = served.http.get("/api/v1/endpoints/seen/drift").json()
    assert {f["name"]: f["drifted"] for f in drift["revisions"][0]["features"]} == dict.fromkeys("abcd", True)
    served.reconciler.tidy.__self__._alerted.clear()  # as after a restart
    served.http.post(f"/api/v1/replicas/{replica}/predictions", json=body)
    assert [event["kind"] for event in served.endpoint("seen")["events"]].count("drift") == 1
    assert served.http.get("/api/v1/endpoints/seen/predictions").json()["items"][0]["id"] == max(ids)
    assert served.http.get("/api/v1/predictions/pred-unknown").status_code == 404
    for wrong in ("", "!!", base64.b64encode(b"x").decode(), base64.b64encode(zlib.compress(b"{}")).decode()):
        assert served.http.post(f"/api/v1/replicas/{replica}/predictions", json=body | {"records": wrong}).status_code == 422


def _reference(served, model):
    inference = served.reconciler
    package = inference._models.package("default", model, 1)
    return reference_from_json(package.manifest["reference"]["features"])


def test_traffic_is_summed_by_minute_with_percentiles_and_error_budget(served):
    served.register("busy")
    deploy(served, "busy", least=1)
    revision = served.settle("busy")["revisions"][0]["id"]
    served.report_over_http("busy", {revision: answers(990)})
    served.report_over_http("busy", {revision: answers(10, errors=5, slot=10)})
    traffic = served.http.get("/api/v1/endpoints/busy/traffic").json()
    assert traffic["requests"] == 1000 and traffic["errors"] == 5 and sum(m["requests"] for m in traffic["minutes"]) == 1000
    assert (
        traffic["percentiles"]["p50"] == 2.5 and traffic["percentiles"]["p99"] <= 500 and abs(traffic["error_budget"]["used"] - 1.0) < 1e-6
    )


def test_a_replica_speaks_for_itself_only(served):
    served.register("own")
    deploy(served, "own", least=1)
    (replica,) = served.settle("own")["replicas"]
    _, other = served.platform.access.create_token("admin", name="w", by="admin", workload_id="wl-other", projects_limit=("default",))
    headers = {"Authorization": f"Bearer {other}"}
    path = f"/api/v1/replicas/{replica['workload_id']}/address"
    assert served.http.post(path, json={"url": "http://evil"}, headers=headers).status_code in (403, 404)
    assert served.http.get("/api/v1/gateway/table", headers=headers).status_code == 403
    for url in ("", "file:///etc/passwd", "http://a b"):
        assert served.http.post(path, json={"url": url}).status_code == 422


def test_the_table_is_answered_when_it_changes(served):
    known = served.http.get("/api/v1/gateway/table").json()["version"]
    same = served.http.get("/api/v1/gateway/table", params={"known": known, "wait": 0.1}).json()
    assert same["version"] == known
    served.register("fresh")
    deploy(served, "fresh")
    assert served.http.get("/api/v1/gateway/table", params={"known": known, "wait": 5}).json()["version"] != known


def test_the_wait_for_another_table_ends_as_soon_as_it_changes(served):
    routing = Routing(served.platform.workloads._database)

    async def wait_for_a_change() -> float:
        began = time.monotonic()
        asyncio.get_running_loop().call_later(0.05, lambda: threading.Thread(target=routing.changed).start())
        await routing.wait(routing.count, 30)
        return time.monotonic() - began

    assert asyncio.run(wait_for_a_change()) < 5
    asyncio.run(asyncio.wait_for(routing.wait(routing.count - 1, 30), 5))  # it changed before the wait began
    asyncio.run(asyncio.wait_for(routing.wait(routing.count, 0.01), 5))  # nothing changes


def test_endpoints_at_rest_are_looked_at_together_whatever_their_number(served):
    def queries_of_a_pass() -> int:
        seen: list[str] = []

        def hear(*said: object) -> None:
            seen.append(str(said[2]))

        engines = {served.platform.workloads._database.engine, registry_engine}
        for engine in engines:
            event.listen(engine, "before_cursor_execute", hear)
        served.now += timedelta(seconds=2.5)  # aliases are looked at, too
        assert served.reconciler.pass_once(served.now) is False
        for engine in engines:
            event.remove(engine, "before_cursor_execute", hear)
        return len(seen)

    registry_engine = served.reconciler._models.registry._registry.engine
    served.register("poppy", alias="champion")
    deploy(served, "poppy@champion", name="poppy-0")
    served.settle("poppy-0")
    alone = queries_of_a_pass()
    for number in range(1, 6):
        deploy(served, "poppy@champion", name=f"poppy-{number}", least=number % 2)
        served.settle(f"poppy-{number}")
    assert [served.endpoint(f"poppy-{number}")["ready"] for number in range(6)] == [1] * 6
    assert queries_of_a_pass() == alone
    served.now += timedelta(minutes=10)
    for number in range(6):
        served.settle(f"poppy-{number}")
    assert [served.endpoint(f"poppy-{number}")["ready"] for number in range(6)] == [0, 1, 0, 1, 0, 1]
    assert queries_of_a_pass() == alone


def waits_for(served, reason, *, resource="cpu"):
    """Every replica that starts waits, because of `reason`."""
    served.reconciler.waits = lambda workload: Waiting(workload=workload, reason=reason, position=1, resource=resource)


def test_an_endpoint_that_rests_makes_room_for_one_that_is_called(served):
    served.register("tulip")
    for name in ("longest", "later", "called"):
        deploy(served, "tulip", name=name, least=0, most=1, idle_seconds=300)
        served.settle(name)
    deploy(served, "tulip", name="always", least=1, most=1)
    served.settle("always")
    served.now += timedelta(minutes=10)
    served.settle("called")
    for name in ("longest", "later"):
        served.report(name, concurrency=1, waiting=1)
        served.settle(name)
    served.report("later", concurrency=1)
    served.now += timedelta(seconds=20)
    ready = {name: served.endpoint(name)["ready"] for name in ("longest", "later", "always", "called")}
    assert ready == {"longest": 1, "later": 1, "always": 1, "called": 0}
    served.report("called", concurrency=1, waiting=1)
    waits_for(served, Reason.NO_CAPACITY)
    served.look(0.1)
    states = {name: [r["state"] for r in served.endpoint(name)["replicas"]] for name in ready}
    assert states == {"longest": ["draining"], "later": ["ready"], "always": ["ready"], "called": ["starting"]}
    event = served.endpoint("longest")["events"][0]
    assert (event["kind"], event["sentence"].partition(": ")[2]) == ("sleep", "endpoint 'called' waits for room.")
    served.look(2)  # one made room: nobody else has to
    assert [r["state"] for r in served.endpoint("later")["replicas"]] == ["ready"]
    waits_for(served, Reason.STOPPING)
    served.settle("called")
    assert served.settle("longest")["ready"] == 0 and served.endpoint("called")["ready"] == 1
    served.report("longest", concurrency=1, waiting=1)  # who sleeps is woken by the next request
    served.look(0.1)
    assert "starting" in [r["state"] for r in served.endpoint("longest")["replicas"]]


@pytest.mark.parametrize("reason", [Reason.NEVER_FITS, Reason.NO_NODE_MATCHES, Reason.STOPPING])
def test_nobody_is_put_to_sleep_where_that_helps_nobody(served, reason):
    served.register("daisy")
    deploy(served, "daisy", name="resting", least=0, most=1)
    served.settle("resting")
    served.now += timedelta(seconds=60)
    deploy(served, "daisy", name="hopeless")
    waits_for(served, reason)
    served.look(0.1)
    assert [r["state"] for r in served.endpoint("resting")["replicas"]] == ["ready"]
