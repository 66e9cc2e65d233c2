"""Quotas, explanations, history and what-if, on the platform that bootstrap builds; the reconciler is stepped by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from narf.backends.protocol import Node
from narf.bootstrap import Platform, build
from narf.control.first_start import prepare
from narf.control.workloads.admission import Cluster
from narf.scheduling import plan
from narf.scheduling.recording import load
from narf.settings import Settings
from narf.testing.fake_backend import FakeBackend


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def small(home: Path) -> Iterator[Platform]:
    """A platform with two pretended GPUs."""
    made = build(Settings(home=home, simulate_gpus=2), "http://127.0.0.1:1")
    yield made
    made.close()


@pytest.fixture
def client(small: Platform) -> Iterator[TestClient]:
    local = prepare(small.access, small.projects, "")
    made = TestClient(small.app, headers={"Authorization": f"Bearer {local.token}"}, raise_server_exceptions=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One for all tests that change nothing."""
    made = build(Settings(home=tmp_path_factory.mktemp("home"), simulate_gpus=2), "http://127.0.0.1:1")
    local = prepare(made.access, made.projects, "")
    client = TestClient(made.app, headers={"Authorization": f"Bearer {local.token}"}, raise_server_exceptions=False)
    yield client
    client.close()
    made.close()


def submit(client: TestClient, gpu: float = 1.0) -> str:
    body = {"name": "w", "command": ["true"], "resources": {"gpu": gpu, "cpu": 0.1}}
    answer = client.post("/api/v1/projects/default/workloads", json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def step(platform: Platform) -> None:
    """One pass of the reconciler that admits."""
    admission = next(loop for loop in platform.loops if loop._reconciler.name == "admission")
    admission._reconciler.pass_once(datetime.now(UTC))


def test_a_quota_is_set_listed_and_taken_away(client: TestClient) -> None:
    answer = client.put("/api/v1/quotas/default", json={"quota": {"gpu": 1}, "limit": {"gpu": 2}, "weight": 2})
    assert answer.status_code == 200, answer.text
    assert answer.json()["warnings"] == []
    listed = {q["queue"]: q for q in client.get("/api/v1/quotas").json()["items"]}
    assert listed["default"]["quota"] == {"gpu": 1.0}
    assert listed["default"]["parent"] == "department:default"
    assert client.delete("/api/v1/quotas/default").status_code == 204
    assert client.delete("/api/v1/quotas/default").status_code == 404


def test_quotas_beyond_the_cluster_are_a_warning(client: TestClient) -> None:
    warnings = client.put("/api/v1/quotas/default", json={"quota": {"gpu": 5}}).json()["warnings"]
    assert warnings == ["The quotas of all projects come to 5 GPUs; the cluster has 2 GPUs."]


def test_departments_promised_more_than_the_cluster_has_are_a_warning(client: TestClient) -> None:
    warnings = client.put("/api/v1/quotas/department:default", json={"quota": {"gpu": 5}}).json()["warnings"]
    assert warnings == ["The quotas of all departments come to 5 GPUs; the cluster has 2 GPUs."]


def test_projects_promised_more_than_their_department_are_a_warning(client: TestClient) -> None:
    client.put("/api/v1/quotas/default", json={"quota": {"gpu": 2}})
    warnings = client.put("/api/v1/quotas/department:default", json={"quota": {"gpu": 1}}).json()["warnings"]
    assert warnings == ["The projects of department 'default' are promised 2 GPUs; it has 1 GPU."]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"quota": {"gpu": -1}}, "quota.gpu"),
        ({"quota": {"bananas": 1}}, "quota.bananas"),
        ({"quota": {"gpu": 3}, "limit": {"gpu": 2}}, "quota.gpu"),
        ({"weight": 0}, "weight"),
        ({"limit": {"gpu:": 1}}, "limit.gpu:"),
        ({"quota": {"gpu:nosuch": 1}}, "quota.gpu:nosuch"),
        ({"limit": {"gpu:nosuch": 1}}, "limit.gpu:nosuch"),
        ({"quota": {"gpu:simulated": 3}, "limit": {"gpu": 2}}, "limit.gpu"),
        ({"quota": {"memory": -1}}, "quota.memory"),
        ({"quota": {"cpu": 1e30}}, "quota.cpu"),
    ],
)
def test_a_quota_that_makes_no_sense_changes_nothing(refusing: TestClient, body: dict[str, object], field: str) -> None:
    before = refusing.get("/api/v1/quotas").json()
    answer = refusing.put("/api/v1/quotas/default", json=body)
    assert answer.status_code == 422 or answer.status_code == 400
    assert answer.json()["field"] == field
    assert answer.json()["remedy"]
    assert refusing.get("/api/v1/quotas").json() == before


def test_projects_are_not_guaranteed_more_than_their_department_may_hold(client: TestClient) -> None:
    assert client.post("/api/v1/projects", json={"name": "other"}).status_code == 201
    assert client.put("/api/v1/quotas/department:default", json={"limit": {"gpu": 2}}).status_code == 200
    assert client.put("/api/v1/quotas/other", json={"quota": {"gpu:simulated": 1}}).status_code == 200
    answer = client.put("/api/v1/quotas/default", json={"quota": {"gpu": 2}})
    assert (answer.status_code, answer.json()["field"]) == (422, "quota.gpu")
    assert answer.json()["detail"] == "The projects of department 'default' would be guaranteed 3 GPUs; it may hold 2 GPUs at most."
    assert client.put("/api/v1/quotas/default", json={"quota": {"gpu": 1}}).status_code == 200
    answer = client.put("/api/v1/quotas/department:default", json={"limit": {"gpu": 1}})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit.gpu")


def test_why_says_from_whom_it_may_take_and_when(client: TestClient, small: Platform) -> None:
    assert client.post("/api/v1/projects", json={"name": "other"}).status_code == 201
    client.put("/api/v1/quotas/other", json={"quota": {"gpu": 1}})
    running = submit(client, 2)
    step(small)
    body = {"name": "w", "command": ["true"], "resources": {"gpu": 1, "cpu": 0.1}}
    waits = client.post("/api/v1/projects/other/workloads", json=body).json()["id"]
    why = client.get(f"/api/v1/workloads/{waits}/why").json()
    assert (why["takes_back"]["reason"], why["takes_back"]["victims"]) == ("quota", [running])
    assert 0 < why["takes_back"]["seconds"] <= 1802
    assert f"If nothing ends before, it takes the place of {running}, which borrows what this project is guaranteed, in" in why["sentence"]


def test_a_project_does_not_move_to_a_department_that_cannot_keep_its_quota(client: TestClient) -> None:
    assert client.post("/api/v1/projects", json={"name": "other", "department": "retail"}).status_code == 201
    for queue, body in (
        ("department:retail", {"quota": {"gpu": 1}, "limit": {"gpu": 2}}),
        ("other", {"quota": {"gpu": 1}}),
        ("default", {"quota": {"gpu": 2}}),
    ):
        assert client.put(f"/api/v1/quotas/{queue}", json=body).status_code == 200
    answer = client.patch("/api/v1/projects/default", json={"department": "retail", "description": "moved"})
    assert (answer.status_code, answer.json()["field"]) == (422, "department")
    assert answer.json()["detail"] == "The projects of department 'retail' would be guaranteed 3 GPUs; it may hold 2 GPUs at most."
    assert "Lower the quota of 'default' first" in answer.json()["remedy"]
    kept = client.get("/api/v1/projects/default").json()
    assert (kept["department"], kept["description"] == "moved") == ("default", False)
    client.put("/api/v1/quotas/default", json={"quota": {"gpu": 1}})
    moved = client.patch("/api/v1/projects/default", json={"department": "retail"})
    assert (moved.status_code, moved.json()["department"]) == (200, "retail")
    assert moved.json()["warnings"] == ["The projects of department 'retail' are promised 2 GPUs; it has 1 GPU."]
    parents = {quota["queue"]: quota["parent"] for quota in client.get("/api/v1/quotas").json()["items"]}
    assert parents["default"] == "department:retail"


def test_who_maintains_a_project_describes_it_and_does_not_move_it(client: TestClient, small: Platform) -> None:
    token = client.post("/api/v1/tokens", json={"name": "t", "role_limit": "maintainer"}).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert client.patch("/api/v1/projects/default", json={"department": "retail"}, headers=headers).status_code == 403
    described = client.patch("/api/v1/projects/default", json={"description": "ours", "department": "default"}, headers=headers)
    assert (described.status_code, described.json()["description"]) == (200, "ours")


def test_a_quota_of_nobody_is_not_found(refusing: TestClient) -> None:
    assert refusing.put("/api/v1/quotas/nobody", json={}).status_code == 404


def test_the_limit_holds_and_why_says_so(client: TestClient, small: Platform) -> None:
    client.put("/api/v1/quotas/default", json={"limit": {"gpu": 1}})
    first, second = submit(client), submit(client)
    step(small)
    assert client.get(f"/api/v1/workloads/{first}").json()["state"] != "queued"
    why = client.get(f"/api/v1/workloads/{second}/why").json()
    assert (why["reason"], why["queue"], why["position"]) == ("limit", "default", 1)
    assert why["sentence"].startswith("It asks for 1 GPU, and 'default' may take 0 GPUs more")
    assert [h["workload"] for h in why["holders"]] == [first]
    assert why["remedy"] == "Wait for its own to end, or ask for a higher limit: narf quota set."


def test_why_says_that_a_cluster_may_grow_to_what_never_fits_now(client: TestClient, small: Platform) -> None:
    grows = Cluster({"local": FakeBackend([Node(name="n0", cpu=8, memory_bytes=1 << 34, gpus=2)])}, growing=lambda: ["local"])
    next(loop for loop in small.loops if loop._reconciler.name == "admission")._reconciler._cluster = grows
    workload = submit(client, 8)
    step(small)
    why = client.get(f"/api/v1/workloads/{workload}/why").json()
    assert why["reason"] == "never_fits"
    assert "in a shape that no node of this cluster has now." in why["sentence"]
    assert why["remedy"].startswith("It starts if the cluster local gets such nodes.")
    assert "2 GPUs on one node" in why["remedy"]


@pytest.mark.parametrize(
    ("asked", "code", "field", "remedy"),
    [
        ({"resources": {"gpu": 8}}, "never_fits", "resources.gpu", "2 GPUs on one node."),
        ({"resources": {"gpu": 1}, "replicas": 3}, "never_fits", "replicas", "2 replicas of that size."),
        ({"resources": {"cpu": 4000}}, "never_fits", "resources.cpu", "on one node beside the rest."),
        ({"resources": {"memory_bytes": 1 << 49}}, "never_fits", "resources.memory_bytes", "GiB of memory on one node beside the rest."),
        ({"resources": {"gpu": 1, "flavor": "nosuch"}}, "unknown_flavor", "resources.flavor", "simulated"),
        ({"resources": {"node_selector": {"zone": "b"}}}, "no_node_matches", "resources.node_selector", "abels"),
        ({"resources": {"gpu": -1}}, "bad_resources", "resources.gpu", "range"),
        ({"resources": {"gpu": 0.001}}, "bad_resources", "resources.gpu", "more"),
        ({"resources": {"cpu": 1e9}}, "bad_resources", "resources.cpu", "range"),
        ({"resources": {"gpu_memory_bytes": 1}}, "bad_resources", "resources.gpu_memory_bytes", "GPU"),
        ({"replicas": 100_000}, "bad_input", "replicas", ""),
    ],
)
def test_what_can_never_start_is_refused_at_once_with_the_largest_that_could(
    refusing: TestClient, asked: dict[str, object], code: str, field: str, remedy: str
) -> None:
    answer = refusing.post("/api/v1/projects/default/workloads", json={"name": "w", "command": ["true"], **asked})
    assert answer.status_code in (400, 422), answer.text
    body = answer.json()
    assert (body["code"], body["field"]) == (code, field), body
    assert remedy in body["remedy"], body
    assert refusing.get("/api/v1/projects/default/workloads").json()["items"] == []


def test_a_request_above_the_limit_of_its_department_is_refused(client: TestClient) -> None:
    client.put("/api/v1/quotas/department:default", json={"limit": {"gpu": 1}})
    body = {"name": "w", "command": ["true"], "resources": {"gpu": 2, "cpu": 0.1}}
    answer = client.post("/api/v1/projects/default/workloads", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "over_limit")
    assert answer.json()["detail"] == "It asks for 2 GPUs; 'department:default' may hold 1 GPU at most."


def test_what_may_not_borrow_is_refused_above_its_quota(client: TestClient) -> None:
    client.put("/api/v1/quotas/default", json={"quota": {"gpu": 1}})
    body = {"name": "w", "command": ["true"], "resources": {"gpu": 2, "cpu": 0.1}, "preemptible": False}
    answer = client.post("/api/v1/projects/default/workloads", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "over_quota")
    assert "Mark it preemptible" in answer.json()["remedy"]
    assert client.post("/api/v1/projects/default/workloads", json=body | {"preemptible": True}).status_code == 201


def test_the_past_is_kept_with_its_reasons(client: TestClient, small: Platform) -> None:
    client.put("/api/v1/quotas/default", json={"limit": {"gpu": 1}})
    submit(client)
    waiting = submit(client)
    step(small)
    client.delete("/api/v1/quotas/default")
    step(small)
    rows = client.get(f"/api/v1/workloads/{waiting}/decisions").json()["items"]
    assert [(row["kind"], row["reason"]) for row in rows] == [("waiting", "limit"), ("admitted", "admitted")]
    assert rows[0]["until_at"] == rows[1]["from_at"]
    assert rows[0]["sentence"].startswith(
        "It asks for 1 GPU, and 'default' may take 0 GPUs more before it reaches its limit. It was number 1"
    )
    assert rows[1]["sentence"].startswith("It was given local/")


def test_the_past_is_told_of_the_time_that_is_asked_about(client: TestClient, small: Platform) -> None:
    """Why did it wait from 10:00 to 11:30? First for the limit, then for those that ran."""
    morning = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)

    def at(hours: float) -> str:
        return (morning + timedelta(hours=hours)).isoformat()

    def pass_at(hours: float) -> None:
        reconciler = next(loop for loop in small.loops if loop._reconciler.name == "admission")._reconciler
        reconciler.pass_once(morning + timedelta(hours=hours))

    client.put("/api/v1/quotas/default", json={"limit": {"gpu": 2}})
    submit(client, 2)
    pass_at(0)
    waiting = submit(client)
    pass_at(0.25)  # 9:45, for the limit
    client.delete("/api/v1/quotas/default")
    pass_at(1)  # 10:30, for room

    def told(after: float, before: float) -> list[str]:
        answer = client.get(f"/api/v1/workloads/{waiting}/decisions", params={"after": at(after), "before": at(before)})
        return [row["reason"] for row in answer.json()["items"]]

    assert told(0.5, 2) == ["limit", "no_capacity"]
    assert told(0.5, 0.9) == ["limit"]
    assert told(1.5, 2) == ["no_capacity"]
    assert told(-2, 0.1) == []
    backwards = client.get(f"/api/v1/workloads/{waiting}/decisions", params={"after": at(2), "before": at(1)})
    assert backwards.status_code == 422 and backwards.json()["remedy"]


def test_the_wait_of_a_cancelled_workload_ends(client: TestClient, small: Platform) -> None:
    submit(client, 2)
    step(small)
    waiting = submit(client)
    step(small)
    assert client.post(f"/api/v1/workloads/{waiting}/cancel").status_code == 200
    (row,) = client.get(f"/api/v1/workloads/{waiting}/decisions").json()["items"]
    assert row["kind"] == "waiting" and row["until_at"] is not None


def test_what_somebody_changed_meanwhile_is_not_told_as_admitted(client: TestClient, small: Platform) -> None:
    workload = submit(client)
    reconciler = next(loop._reconciler for loop in small.loops if loop._reconciler.name == "admission")
    load = reconciler._load

    def and_then_cancelled():  # type: ignore[no-untyped-def]
        loaded = load()
        client.post(f"/api/v1/workloads/{workload}/cancel")
        return loaded

    reconciler._load = and_then_cancelled
    reconciler.pass_once(datetime.now(UTC))
    assert client.get(f"/api/v1/workloads/{workload}").json()["state"] == "cancelled"
    assert client.get(f"/api/v1/workloads/{workload}/decisions").json()["items"] == []


def test_the_cluster_shows_who_holds_which_gpu(client: TestClient, small: Platform) -> None:
    workload = submit(client, 0.5)
    step(small)
    found = client.get("/api/v1/cluster").json()
    assert (found["gpus"], found["gpus_free"]) == (2.0, 1.5)
    held = [gpu for node in found["nodes"] for gpu in node["gpus"] if gpu["workloads"]]
    assert [(gpu["free"], gpu["workloads"]) for gpu in held] == [(0.5, [workload])]
    assert next(q for q in found["queues"] if q["name"] == "default")["held"]["gpu"] == 0.5


def test_what_if_more_nodes_came(client: TestClient, small: Platform) -> None:
    submit(client, 2)
    waiting = submit(client, 2)
    step(small)
    body = {"add_nodes": [{"count": 1, "gpus": 3}], "submit": [{"project": "default", "gpu": 1}]}
    starts = {row["workload"]: row for row in client.post("/api/v1/cluster/what-if", json=body).json()["starts"]}
    assert starts[waiting]["after"]["seconds"] == 0
    assert starts[waiting]["before"]["seconds"] > 0
    assert starts["new-1"]["before"] is None
    assert client.get(f"/api/v1/workloads/{waiting}").json()["state"] == "queued"


def test_what_if_a_workload_of_known_length_came(client: TestClient, small: Platform) -> None:
    """Its length is taken as said: what waits behind it starts when it ends; and it is told why it would wait itself."""
    submit(client, 2)
    step(small)
    body = {"submit": [{"gpu": 2, "duration_seconds": 1200}, {"gpu": 2, "duration_seconds": 1200}, {"gpu": 9}]}
    found = client.post("/api/v1/cluster/what-if", json=body).json()
    first, second, third = (next(row for row in found["starts"] if row["workload"] == f"new-{n}") for n in (1, 2, 3))
    assert abs(first["after"]["seconds"] - second["after"]["seconds"]) == pytest.approx(1200, abs=2)
    assert second["sentence"].startswith("It asks for 2 GPUs, and 0 GPUs are free.")
    assert third["after"] is None
    assert "2 GPUs on one node" in third["sentence"]
    assert not found["is_rough"]


def test_what_if_a_quota_were_given_takes_it_from_who_borrows(client: TestClient, small: Platform) -> None:
    assert client.post("/api/v1/projects", json={"name": "team"}).status_code == 201
    holder = submit(client, 2)
    step(small)
    assert client.get(f"/api/v1/workloads/{holder}").json()["state"] != "queued"
    asked = {"submit": [{"project": "team", "gpu": 2, "duration_seconds": 600}]}
    without = client.post("/api/v1/cluster/what-if", json=asked).json()["starts"]
    (with_quota,) = client.post("/api/v1/cluster/what-if", json=asked | {"quota": {"team": 2}}).json()["starts"]
    assert with_quota["after"]["high"] <= without[0]["after"]["high"]
    assert with_quota["after"]["seconds"] <= 1800 + 300  # as soon as the holder has run for as long as it may not be disturbed
    answer = client.post("/api/v1/cluster/what-if", json={"quota": {"nobody": 2}})
    assert answer.status_code == 404 and answer.json()["remedy"]


def test_what_if_a_quota_is_bounded_by_its_departments(client: TestClient) -> None:
    def ask(quota: dict[str, float]) -> dict[str, Any]:
        return dict(client.post("/api/v1/cluster/what-if", json={"quota": quota}).json())

    assert client.put("/api/v1/quotas/department:default", json={"quota": {"gpu": 1}}).status_code == 200
    assert ask({"default": 1})["warnings"] == [] == ask({})["warnings"]
    assert ask({"default": 2})["warnings"] == ["The projects of department 'default' are promised 2 GPUs; it has 1 GPU."]
    assert ask({"default": 2, "department:default": 2})["warnings"] == []
    assert client.put("/api/v1/quotas/department:default", json={"limit": {"gpu": 1}}).status_code == 200
    assert "it may hold 1 GPU at most" in ask({"default": 2})["detail"]
    assert client.get("/api/v1/quotas").json()["items"][0]["quota"] == {}, "nothing was changed"


def test_recordings_of_production_replay_to_the_same_decisions(client: TestClient, small: Platform, home: Path) -> None:
    for gpu in (1, 0.5, 0.5, 1):
        submit(client, gpu)
        step(small)
    recordings = sorted((home / "plans").glob("*.plan"))
    assert len(recordings) == 3
    for path in recordings:
        recording = load(path.read_bytes())
        again = plan(recording.snapshot, recording.policy, recording.now)
        assert tuple(repr(decision) for decision in again.decisions) == recording.decisions
        assert recording.decisions
