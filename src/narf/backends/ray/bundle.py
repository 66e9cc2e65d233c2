"""The actor that runs one replica in its bundle of the placement group.

It lives on the replica's node and drives a local backend there: the same supervisor, and the zygote of the node,
which it shares with the other bundles. When it dies (with its node, its raylet or the cluster), the replica dies.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from narf.backends.local.backend import LocalBackend, platform_free
from narf.backends.local.program import free_port
from narf.backends.protocol import JobPhase, Replica
from narf.backends.ray.jobfile import job_from_json
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason

_LOOK_SECONDS = 0.02
_BLOCK_BYTES = 4 << 20


class Bundle:
    """One replica. Its methods take and give plain values, so that driver and nodes need not agree on classes."""

    def __init__(self, name: str, node_id: str, preload: Sequence[str]) -> None:
        node_home = Path(tempfile.gettempdir()) / f"narf-ray-{os.getuid()}" / node_id[:16]
        self._home = node_home / "bundles" / name
        shutil.rmtree(self._home, ignore_errors=True)
        self._home.mkdir(parents=True, mode=0o700)
        self._backend = LocalBackend(
            self._home,
            run=node_home / "run",
            environments=node_home / "environments",
            base_environment=_without_ray(os.environ),
            preload=preload,
            pins_cores=False,  # other bundles share the node, and Ray does not say which cores they have
            dies_with_us=True,
        )
        self._backend.warm()
        self._id = ""

    def rendezvous(self) -> tuple[str, int]:
        """Where the gang can meet, when this is its first replica."""
        import ray

        return ray.util.get_node_ip_address(), free_port()

    def start(self, job: str, rank: int, environment: Mapping[str, str], objects: Mapping[str, bytes]) -> None:
        """Start the replica, once. `objects` are the snapshot's manifest and files by their hashes."""
        import ray

        store = ObjectStore(self._home / "objects")
        for content in objects.values():
            store.put(content)
        asked = job_from_json(job)
        self._id = f"{asked.id}-r{rank}"
        indices = tuple(int(index) for index in ray.get_gpu_ids())
        mine = Replica(node="", gpu_indices=indices, gpu_fraction=asked.replicas[rank].gpu_fraction)
        address = ray.get_runtime_context().gcs_address
        variables = {"RAY_ADDRESS": address, **environment}
        self._backend.submit(replace(asked, id=self._id, replicas=[mine], environment=variables))

    def watch(self, phase: str, offset: int, seconds: float) -> tuple[dict[str, Any], int, bytes, bool]:
        """The status, and output from `offset` on: at once when either is news, else after `seconds`.

        The status as a mapping, the offset where the bytes begin, the bytes, and whether nothing will follow.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self._backend.observe([self._id])[0]
            chunk = self._backend.logs(self._id, offset, _BLOCK_BYTES)
            is_over = status.phase is JobPhase.ENDED and chunk.is_complete
            if chunk.data or is_over or status.phase.value != phase or time.monotonic() >= deadline:
                return asdict(status), chunk.start, chunk.data, is_over
            time.sleep(_LOOK_SECONDS)

    def cancel(self, reason: str) -> None:
        self._backend.cancel(self._id, EndReason(reason))

    def clean(self) -> None:
        """Leave nothing on the node, but for its zygote and environments."""
        self._backend.close()
        shutil.rmtree(self._home, ignore_errors=True)


def _without_ray(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of a program on this node, without what Ray has set for its own worker."""
    environment = {name: value for name, value in platform_free(environ).items() if not name.startswith(("RAY_", "CUDA_VISIBLE"))}
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry and "runtime_resources" not in entry]
    environment.pop("PYTHONPATH", None)
    return environment | ({"PYTHONPATH": os.pathsep.join(path)} if path else {})
