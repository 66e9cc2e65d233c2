"""`narf cluster add --ray` against a real Ray cluster: it takes a workload, vanishes with a sentence, and is let go of."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from narf.testing.backend_contract import eventually
from narf.testing.ray_cluster import LocalRayCluster

from .conftest import Terminal


@pytest.fixture
def ray() -> Iterator[LocalRayCluster]:
    made = LocalRayCluster(nodes=1, cpus=64)
    yield made
    made.close()


@pytest.mark.slow
def test_a_ray_cluster_is_added_used_lost_and_removed(fresh: Terminal, ray: LocalRayCluster) -> None:
    fresh("up")
    large = ("run", "--cpu", "48", "--no-up", "--", "echo", "from the cluster")
    refused = fresh(*large, code=2)
    assert "The largest that could start here is" in refused.stderr
    unreachable = fresh("cluster", "add", "--ray", "127.0.0.1:1", code=2)
    assert "Nothing answers at 127.0.0.1:1" in unreachable.stderr
    assert "hall is connected" in fresh("cluster", "add", "--ray", ray.address, "--name", "hall").stdout

    def shown() -> bool:
        return any(c["name"] == "hall" and c["nodes"] == 1 for c in fresh.json("cluster", "list")["items"])

    eventually(shown, within=120)
    done = fresh("run", "--cpu", "48", "--follow", "--no-up", "--", "echo", "from the cluster")
    assert "from the cluster" in done.stdout
    assert any(node["name"].startswith("hall/") for node in fresh.json("cluster", "show")["nodes"])

    ray.close()
    eventually(lambda: "The cluster 'hall' shows no node now" in fresh("cluster", "show").stderr, within=120)
    assert "from this machine" in fresh("run", "--cpu", "0.1", "--follow", "--no-up", "--", "echo", "from this machine").stdout
    waiting = fresh(*large).stdout.strip()  # it may come back, so this waits
    eventually(lambda: "It starts if the cluster hall gets such nodes." in fresh("why", waiting).stdout, within=30)
    assert "hall is no longer connected" in fresh("cluster", "remove", "hall").stdout
    assert [c["name"] for c in fresh.json("cluster", "list")["items"]] == ["local"]
