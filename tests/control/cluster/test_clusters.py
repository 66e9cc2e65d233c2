"""Clusters that come and go while the platform runs: connected, shown, gone, removed. The Ray cluster itself is a fake here."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from narf import bootstrap
from narf.backends.protocol import Node
from narf.control.cluster.store import Connected
from narf.control.first_start import prepare
from narf.domain.errors import MissingExtra
from narf.settings import Settings
from narf.testing.fake_backend import FakeBackend


class Ray:
    """Stands in for every Ray cluster: what was connected, and whether it can be asked."""

    def __init__(self) -> None:
        self.made: dict[str, FakeBackend] = {}
        self.missing = False

    def connect(self, _home: Path, row: Connected, _on_change: Callable[[], None]) -> FakeBackend:
        if self.missing:
            raise MissingExtra("The Ray backend", "ray")
        self.made[row.name] = FakeBackend([Node(name="r0", cpu=64, memory_bytes=1 << 40, gpus=8, flavor="a100")])
        return self.made[row.name]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Ray:
    made = Ray()
    monkeypatch.setattr(bootstrap, "connect_cluster", made.connect)  # as the composition root does: another implementation
    return made


@pytest.fixture
def platform(tmp_path: Path, ray: Ray) -> Iterator[bootstrap.Platform]:
    made = bootstrap.build(Settings(home=tmp_path / "home", simulate_gpus=2), "http://127.0.0.1:1")
    yield made
    made.close()


@pytest.fixture
def client(platform: bootstrap.Platform) -> Iterator[TestClient]:
    local = prepare(platform.access, platform.projects, "")
    made = TestClient(platform.app, headers={"Authorization": f"Bearer {local.token}"}, raise_server_exceptions=False)
    yield made
    made.close()


@pytest.fixture
def address() -> Iterator[str]:
    """Of something that answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def step(platform: bootstrap.Platform, *names: str) -> None:
    for name in names:
        next(loop for loop in platform.loops if loop._reconciler.name == name)._reconciler.pass_once(datetime.now(UTC))


def submit(client: TestClient, **resources: float) -> str:
    answer = client.post("/api/v1/projects/default/workloads", json={"name": "w", "command": ["sleep", "9"], "resources": resources})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def names(client: TestClient) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in client.get("/api/v1/clusters").json()["items"]}


def test_a_connected_cluster_takes_what_this_machine_cannot(
    client: TestClient, platform: bootstrap.Platform, ray: Ray, address: str
) -> None:
    too_large = {"name": "w", "command": ["true"], "resources": {"gpu": 8}}
    assert client.post("/api/v1/projects/default/workloads", json=too_large).json()["code"] == "never_fits"
    answer = client.post("/api/v1/clusters", json={"name": "hall", "address": address})
    assert answer.status_code == 201, answer.text
    assert names(client)["hall"] | {"added_at": None} == {
        "id": "hall", "name": "hall", "kind": "ray", "address": address, "may_grow": False, "nodes": 1, "gpus": 8, "sentence": "",
        "is_fixed": False, "added_by": answer.json()["added_by"], "added_at": None,
    }  # fmt: skip
    workload = submit(client, gpu=8)
    step(platform, "admission", "progress")
    assert [job.workload_id for job in ray.made["hall"].submitted] == [workload]


def test_a_connected_cluster_is_found_again_after_a_restart(
    client: TestClient, platform: bootstrap.Platform, ray: Ray, address: str, tmp_path: Path
) -> None:
    client.post("/api/v1/clusters", json={"name": "hall", "address": address})
    platform.close()
    ray.made.clear()
    again = bootstrap.build(Settings(home=tmp_path / "home", simulate_gpus=2), "http://127.0.0.1:1")
    step(again, "admission")
    local = prepare(again.access, again.projects, "")
    with TestClient(again.app, headers={"Authorization": f"Bearer {local.token}"}) as asked:
        assert names(asked)["hall"]["nodes"] == 1
    again.close()


def test_a_cluster_that_vanishes_is_a_sentence_and_the_rest_goes_on(
    client: TestClient, platform: bootstrap.Platform, ray: Ray, address: str
) -> None:
    client.post("/api/v1/clusters", json={"name": "hall", "address": address})

    def broken() -> list[Node]:
        raise OSError("no route to host")

    ray.made["hall"].capacity = broken  # type: ignore[method-assign]
    next(loop for loop in platform.loops if loop._reconciler.name == "admission")._reconciler.cluster.look_again()
    here, there = submit(client, gpu=1, cpu=0.1), submit(client, gpu=8)
    step(platform, "admission")
    assert client.get(f"/api/v1/workloads/{here}").json()["state"] != "queued"
    why = client.get(f"/api/v1/workloads/{there}/why").json()
    assert why["remedy"].startswith("It starts if the cluster hall gets such nodes.")
    assert client.get("/api/v1/cluster").json()["troubles"] == ["The cluster 'hall' cannot be asked for its nodes: no route to host"]
    assert names(client)["hall"]["sentence"] == "It cannot be asked for its nodes: no route to host"


def test_a_cluster_with_work_is_not_removed_unless_forced_and_then_the_work_goes_elsewhere(
    client: TestClient, platform: bootstrap.Platform, ray: Ray, address: str
) -> None:
    client.post("/api/v1/clusters", json={"name": "hall", "address": address})
    workload = submit(client, gpu=8)
    step(platform, "admission", "progress")
    answer = client.delete("/api/v1/clusters/hall")
    assert (answer.status_code, answer.json()["code"]) == (409, "in_use")
    assert workload in answer.json()["detail"]
    assert client.delete("/api/v1/clusters/hall?force=true").status_code == 204
    assert "hall" not in names(client)
    found = client.get(f"/api/v1/workloads/{workload}").json()
    assert (found["state"], found["attempt"]) == ("queued", 2)
    assert "The cluster 'hall' was removed." in found["attempts"][0]["sentence"]
    (job,) = ray.made["hall"].submitted
    assert ray.made["hall"].observe([job.id])[0].phase == "ended"
    client.post("/api/v1/clusters", json={"name": "other", "address": address})
    step(platform, "admission", "progress")
    assert [job.workload_id for job in ray.made["other"].submitted] == [workload]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"address": "127.0.0.1:1"}, 422, "unreachable"),
        ({"address": "nonsense"}, 422, "bad_input"),
        ({"address": "host:99999"}, 422, "bad_input"),
        ({"address": "auto", "name": "Not A Name"}, 422, "bad_name"),
        ({"address": "auto", "name": "local"}, 409, "conflict"),
        ({"address": "auto", "kind": "mainframe"}, 422, "bad_input"),
    ],
)
def test_what_cannot_be_connected_is_refused(client: TestClient, body: dict[str, str], status: int, code: str) -> None:
    answer = client.post("/api/v1/clusters", json=body)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert list(names(client)) == ["local"]


def test_one_that_is_not_up_yet_is_connected_when_told_so_but_not_twice(client: TestClient) -> None:
    body = {"address": "127.0.0.1:1", "offline": True}
    first = client.post("/api/v1/clusters", json=body)
    assert first.status_code == 201
    assert first.json()["name"].startswith("ray-")
    assert client.post("/api/v1/clusters", json=body | {"name": "again"}).status_code == 409


def test_without_the_packages_it_is_refused_and_this_machine_stays(client: TestClient, ray: Ray) -> None:
    ray.missing = True
    answer = client.post("/api/v1/clusters", json={"address": "auto"})
    assert answer.json()["code"] == "missing_extra"
    assert list(names(client)) == ["local"]


def test_this_machine_is_not_removed(client: TestClient) -> None:
    assert client.delete("/api/v1/clusters/local").status_code == 409
    assert client.delete("/api/v1/clusters/nobody").status_code == 404
