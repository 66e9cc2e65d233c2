"""Models and endpoints on the whole platform, in this process: replicas and packages are real, only their workloads are not run."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "serving"))

from packages import linear  # tests/serving/packages.py

from narf.control.workloads import store as workloads_store
from narf.domain.workload import EndReason, WorkloadState
from narf.serving.transfer import packed


@dataclass
class Served:
    """What a test does with the platform. `now` is the time of the next pass."""

    platform: Any
    http: Any
    folder: Path
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    count: int = 0

    @property
    def reconciler(self) -> Any:
        return next(loop._reconciler for loop in self.platform.loops if loop._reconciler.name == "endpoints")

    def run(self, *files: str) -> str:
        """A run with these artifacts (any content), its id."""
        recorder = self.platform.workloads._runs
        run_id = recorder.create_run(
            project="default", experiment="", name="train.py", user="admin", params={"lr": "0.1"}, tags={"narf.code.commit": "abc123"}
        )
        for name in files:
            assert self.http.put(f"/api/v1/runs/{run_id}/artifacts/{name}", content=b"onnx").status_code < 300
        return run_id

    def register(self, name: str, *, alias: str = "", package: bool = True) -> int:
        """A new version; its package is a small linear model."""
        body = {"run": self.run("model.onnx"), "name": name, "aliases": [alias] if alias else []}
        answer = self.http.post("/api/v1/projects/default/models", json=body)
        assert answer.status_code == 201, answer.text
        version = answer.json()["version"]
        if package:
            self.send_package(name, version)
        return version

    def send_package(self, name: str, version: int) -> Any:
        self.count += 1
        folder = linear(self.folder / f"{name}-{self.count}", name=name, version=str(version))
        return self.http.put(
            f"/api/v1/projects/default/models/{name}/versions/{version}/package", content=io.BytesIO(packed(folder)).read()
        )

    def look(self, seconds: float = 1.0) -> None:
        """The reconciler looks, `seconds` later."""
        self.now += timedelta(seconds=seconds)
        for _ in range(3):
            self.reconciler.pass_once(self.now)

    def endpoint(self, name: str) -> dict[str, Any]:
        answer = self.http.get(f"/api/v1/endpoints/{name}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def become_ready(self, name: str) -> None:
        """Every replica that starts says where it is."""
        for replica in self.endpoint(name)["replicas"]:
            if replica["state"] == "starting":
                answer = self.http.post(f"/api/v1/replicas/{replica['workload_id']}/address", json={"url": "http://127.0.0.1:9"})
                assert answer.status_code == 204, answer.text

    def fail(self, workload_id: str, reason: EndReason = EndReason.USER_ERROR) -> None:
        """The workload of a replica or packaging ends in failure."""
        from dataclasses import replace

        workload = self.platform.workloads.workload(workload_id)
        if not workload.state.is_finished:
            workload = workload.to(WorkloadState.FAILED)
        with self.platform.workloads._database.write() as connection:
            workloads_store.save(connection, replace(workload, ended_at=self.now, end_reason=reason, exit_code=1), self.now)

    def run_workload(self, workload_id: str) -> None:
        """Its program runs from now on."""
        from dataclasses import replace

        workload = self.platform.workloads.workload(workload_id)
        for state in (WorkloadState.ADMITTED, WorkloadState.STARTING, WorkloadState.RUNNING):
            workload = workload.to(state)
        with self.platform.workloads._database.write() as connection:
            assert workloads_store.save(connection, replace(workload, started_at=self.now), self.now)

    def settle(self, name: str, looks: int = 6) -> dict[str, Any]:
        for _ in range(looks):
            self.look(2.5)
            self.become_ready(name)
        return self.endpoint(name)

    def report(self, name: str, *, concurrency: int = 0, waiting: int = 0, revisions: dict[str, Any] | None = None) -> None:
        """What a gateway saw, at the time of the next look."""
        value = {"concurrency": concurrency, "waiting": waiting, "arrived": concurrency, "revisions": revisions or {}}
        self.reconciler._endpoints.demand.report("gw-test", self.endpoint(name)["id"], value, self.now)

    def report_over_http(self, name: str, revisions: dict[str, Any]) -> None:
        value = {"concurrency": 1, "waiting": 0, "arrived": 1, "revisions": revisions}
        answer = self.http.post("/api/v1/gateway/reports", json={"gateway": "gw-test", "endpoints": {self.endpoint(name)["id"]: value}})
        assert answer.status_code == 200, answer.text

    def table(self, name: str) -> dict[str, Any] | None:
        found = self.http.get("/api/v1/gateway/table").json()["endpoints"]
        return next((endpoint for endpoint in found if endpoint["name"] == name), None)


@pytest.fixture
def served(platform: Any, admin: Any, tmp_path: Path) -> Iterator[Served]:
    made = Served(platform, admin, tmp_path)
    waits = made.reconciler.waits
    made.reconciler._cooled_at = None  # the clock of each test begins anew
    yield made
    made.reconciler.waits = waits
    for endpoint in admin.get("/api/v1/projects/default/endpoints").json()["items"]:
        admin.delete(f"/api/v1/endpoints/{endpoint['id']}")
