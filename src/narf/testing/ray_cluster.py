"""A real Ray cluster of several nodes on this machine, for tests. Takes a node away as abruptly as a power cut."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from narf.backends.local.program import free_port

_ATTEMPTS = 4


class LocalRayCluster:
    """A head and `nodes` - 1 further nodes, each with `cpus` processors by its own account."""

    def __init__(self, nodes: int = 2, cpus: int = 4, gpus: int = 0) -> None:
        os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
        self._cpus, self._gpus = cpus, gpus
        self._cluster: Any = _again(self._start)
        self._nodes = [self.add_node() for _ in range(nodes - 1)]
        self.address: str = self._cluster.address

    def _start(self) -> Any:
        from ray.cluster_utils import Cluster

        cluster = Cluster()
        try:
            cluster.add_node(**self._arguments(), include_dashboard=False)
        except Exception:
            cluster.shutdown()
            raise
        return cluster

    def add_node(self) -> Any:
        return _again(lambda: self._cluster.add_node(**self._arguments()))

    def node_id(self, node: Any) -> str:
        return str(node.node_id)

    def last_node(self) -> Any:
        return self._nodes[-1]

    def remove(self, node: Any) -> None:
        """Take the node away without a word to anybody."""
        self._cluster.remove_node(node, allow_graceful=False)

    def kill_head(self) -> None:
        self._cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)

    def close(self) -> None:
        self._cluster.shutdown()

    def _arguments(self) -> dict[str, Any]:
        # Ports that are given need not be waited for.
        ports = ("metrics_agent_port", "metrics_export_port", "dashboard_agent_listen_port", "runtime_env_agent_port")
        resources = {"num_cpus": self._cpus, "num_gpus": self._gpus, "object_store_memory": 100 << 20}
        return resources | {name: free_port() for name in ports}


def _again(start: Callable[[], Any]) -> Any:
    """What `start` gives. On a busy machine Ray's own agents take longer than Ray waits for them: try a few times."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return start()
        except Exception as error:  # Ray raises nothing more exact
            print(f"Ray did not start, trying again: {error}")  # noqa: T201 - shown with a failing test
    return start()
