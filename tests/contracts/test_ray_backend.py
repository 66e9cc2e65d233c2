"""The Ray backend keeps the same contract, whole, on a real cluster of two nodes; and what only a cluster can lose."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.backends.protocol import Backend, JobPhase
from narf.backends.ray.backend import RayBackend
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason
from narf.testing.backend_contract import ExecutionContract, ended, eventually, job
from narf.testing.fake_backend import FakeBackend
from narf.testing.ray_cluster import LocalRayCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalRayCluster]:
    cluster = LocalRayCluster(nodes=2)
    yield cluster
    cluster.close()


@pytest.mark.slow
class TestRayBackend(ExecutionContract):
    @pytest.fixture(scope="class")
    def home(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tmp_path_factory.mktemp("home")

    @pytest.fixture(scope="class")
    def backend(self, home: Path, cluster: LocalRayCluster) -> Iterator[Backend]:
        backend = RayBackend(home, cluster.address, preload=("decimal",))
        eventually(lambda: len(backend.capacity()) == 2, within=120)
        yield backend
        backend.close()

    @pytest.fixture(scope="class")
    def objects(self, home: Path) -> ObjectStore:
        return ObjectStore(home / "objects")


def test_an_unknown_cluster_has_no_capacity_and_its_jobs_are_lost_in_the_end(tmp_path: Path) -> None:
    backend = RayBackend(tmp_path, "127.0.0.1:1", lost_after_seconds=0.5)
    asked = job(FakeBackend(), "true")
    backend.submit(asked)
    assert backend.observe([asked.id])[0].phase is JobPhase.STARTING
    assert backend.capacity() == []
    status = ended(backend, asked.id)
    assert status.reason is EndReason.NODE_LOST and "127.0.0.1:1" in status.detail
    backend.close()
