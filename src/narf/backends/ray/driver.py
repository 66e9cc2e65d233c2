"""The driver: the one process that speaks to a Ray cluster for the control plane, which never does so itself.

`python -m narf.backends.ray.driver ADDRESS ROOT OBJECTS PRELOAD`. It shares the folder ROOT with the control plane:
jobs appear there, their states and output are written there, the cluster's nodes stand in nodes.json. A line on stdin
makes it look at once; the end of stdin ends it. Jobs go on without it, and the next driver finds them again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from narf.backends.local.folder import JobFolder
from narf.backends.ray.gang import NAMESPACE, Gang, remove_group
from narf.data.objects import ObjectStore

_LOOK_SECONDS = 1.0
_SWEEP_SECONDS = 30.0
# What a node needs of Narf, and nothing else: it travels to every node.
_PARTS = ("__init__.py", "domain", "backends", "training", "data/__init__.py", "data/objects.py")
_log = logging.getLogger(__name__)


class Driver:
    """Looks for jobs in `root`/jobs and gives each a gang in a thread."""

    def __init__(self, root: Path, objects: Path, preload: list[str]) -> None:
        self._root, self._jobs = root, root / "jobs"
        self._objects, self._preload = ObjectStore(objects), preload
        self._gangs: dict[str, threading.Thread] = {}
        self._nodes: dict[str, Any] = {}
        self.wake = threading.Event()

    def run(self) -> None:
        swept_at = 0.0
        while True:
            self._look_at_nodes()
            for path in sorted(self._jobs.iterdir()):
                if not path.name.startswith(".new-") and path.name not in self._gangs:
                    self._take(JobFolder(path))
            self._gangs = {name: thread for name, thread in self._gangs.items() if thread.is_alive()}
            if time.monotonic() - swept_at > _SWEEP_SECONDS:
                self._sweep()
                swept_at = time.monotonic()
            self.wake.wait(_LOOK_SECONDS)
            self.wake.clear()

    def _take(self, folder: JobFolder) -> None:
        try:
            state = folder.state()
            if state is not None and state.phase == "ended":
                return
            gang = Gang(folder, self._objects, self._preload, str(self._root), lambda: self._nodes)
        except (OSError, ValueError, KeyError):
            _log.exception("the job in %s cannot be read", folder.path)
            return
        self._gangs[folder.path.name] = thread = threading.Thread(target=gang.run, name=folder.path.name, daemon=True)
        thread.start()

    def _look_at_nodes(self) -> None:
        nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        self._nodes = nodes
        content = {"time": time.time(), "nodes": [_node(node) for _, node in sorted(nodes.items())]}
        new = self._root / "nodes.json.new"
        new.write_text(json.dumps(content))
        os.replace(new, self._root / "nodes.json")

    def _sweep(self) -> None:
        """End what is on the cluster for jobs that have ended or are forgotten: an earlier driver died before it could."""
        for named in ray.util.list_named_actors(all_namespaces=True):
            name = named["name"]
            if named["namespace"] == NAMESPACE and name.startswith("narf-"):
                job_id = name.removeprefix("narf-").rpartition("-")[0]
                if not self._is_active(job_id):
                    with contextlib.suppress(ValueError, RayError):  # it went by itself
                        ray.kill(ray.get_actor(name, NAMESPACE))
                    remove_group(job_id)

    def _is_active(self, job_id: str) -> bool:
        if job_id in self._gangs:
            return True
        if not (self._jobs / job_id).exists():
            # Another control plane may share the cluster: only what was ours is ours to end.
            return not (self._root / "forgotten" / job_id).exists()
        state = JobFolder(self._jobs / job_id).state()
        return state is None or state.phase != "ended"


def _node(node: dict[str, Any]) -> dict[str, Any]:
    resources = node["Resources"]
    kinds = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    labels = {name: value for name, value in (node.get("Labels") or {}).items() if not name.startswith("ray.io/")}
    return {
        "name": node["NodeID"],
        "host": node["NodeManagerHostname"],
        "cpu": resources.get("CPU", 0.0),
        "memory_bytes": int(resources.get("memory", 0)),
        "gpus": int(resources.get("GPU", 0)),
        "flavor": kinds[0].lower() if kinds else "",
        "labels": labels,
    }


def slim_package() -> str:
    """A folder with the part of Narf that nodes need, ready to travel."""
    source, target = Path(__file__).parents[2], Path(tempfile.mkdtemp(prefix="narf-ray-")) / "narf"
    for part in _PARTS:
        if (source / part).is_dir():
            shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (target / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / part, target / part)
    return str(target)


def _listen(driver: Driver) -> None:
    for _ in sys.stdin:
        driver.wake.set()
    os._exit(0)  # the control plane is gone; what runs goes on


def main(arguments: list[str]) -> int:
    address, root, objects, preload = arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    package = slim_package()
    try:
        ray.init(address=address, namespace=NAMESPACE, runtime_env={"py_modules": [package]}, log_to_driver=False, logging_level="warning")
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        _log.error("the Ray cluster at %s cannot be reached: %s", address, error)
        return 3
    finally:
        shutil.rmtree(Path(package).parent, ignore_errors=True)
    # A driver that was left over from a control plane that was killed ends in a moment.
    lock = os.open(Path(root) / "driver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    driver = Driver(Path(root), Path(objects), [name for name in preload.split(",") if name])
    threading.Thread(target=_listen, args=(driver,), daemon=True).start()
    try:
        driver.run()
    except RayError as error:
        _log.error("the Ray cluster at %s is gone: %s", address, error)
    return 3


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # Ray's own shutdown waits for a cluster that may be gone
