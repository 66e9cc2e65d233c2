"""Runs jobs on a Ray cluster, through a driver process: this process never connects to Ray.

Control plane and driver share a folder, with the job folders of the local backend in it. So every call here is a
look at files, whether the cluster is there or not.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from narf.backends.local.backend import PRELOAD, as_status, check_id
from narf.backends.local.events import listen_for_changes
from narf.backends.local.folder import JobFolder, JobState
from narf.backends.local.log import log_end, read_log
from narf.backends.protocol import Job, JobPhase, JobStatus, LogChunk, Node
from narf.backends.ray.jobfile import job_to_json
from narf.domain.errors import BadInput, MissingExtra
from narf.domain.workload import EndReason

_ADDRESS = re.compile(r"(?:ray://)?(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):(?P<port>\d{1,5})")
_log = logging.getLogger(__name__)
_CAPACITY_SECONDS = 15.0  # older than this, what the driver has said of the nodes does not count
_LONGEST_WAIT_SECONDS = 10.0  # between two starts of the driver


class RayBackend:
    """Jobs on the Ray cluster at `address` ("host:6379", "ray://host:10001" or "auto").

    Args:
        home: the platform's; what is kept of this cluster's jobs is in `home`/ray/<name>.
        name: of this backend, where there are several clusters.
        preload: what the zygotes on the nodes import.
        lost_after_seconds: how long the cluster may be out of reach before its jobs count as lost.
        on_change: called, from another thread, when some job's state has changed.

    Raises:
        MissingExtra: Ray is not installed.
    """

    def __init__(
        self,
        home: Path,
        address: str,
        *,
        name: str = "ray",
        preload: Sequence[str] = PRELOAD,
        lost_after_seconds: float = 90.0,
        on_change: Callable[[], None] | None = None,
    ) -> None:
        if importlib.util.find_spec("ray") is None:
            raise MissingExtra("The Ray backend", "ray")
        self.name, self.address = name, address
        self.objects = home / "objects"
        self.root = home / "ray" / name
        self.jobs = self.root / "jobs"
        self.jobs.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._preload, self._lost_after_seconds = ",".join(preload), lost_after_seconds
        self._reached_at = time.time()
        self._events = listen_for_changes(self.root, on_change or (lambda: None))
        self._closed = threading.Event()
        self._driver: subprocess.Popen[bytes] | None = None
        self._driver_lock = threading.Lock()
        self._keeper = threading.Thread(target=self._keep_driver, name=f"ray-{name}", daemon=True)
        self._keeper.start()

    # -- the protocol

    def submit(self, job: Job) -> None:
        check_id(job.id)
        if not (self.jobs / job.id).exists() and JobFolder.create(self.jobs, job.id, job_to_json(job), job.environment):
            self._poke()

    def observe(self, job_ids: Sequence[str]) -> list[JobStatus]:
        is_lost = time.time() - self._last_reached() > self._lost_after_seconds
        return [self._status(job_id, is_lost=is_lost) for job_id in job_ids]

    def cancel(self, job_id: str, reason: EndReason) -> None:
        folder = self._folder(job_id)
        state = folder.state()
        if folder.path.exists() and not (state is not None and state.phase == "ended"):
            folder.request_cancel(reason)
            self._poke()

    def logs(self, job_id: str, offset: int, limit: int) -> LogChunk:
        folder = self._folder(job_id)
        state = folder.state()
        ended = state.phase == "ended" if state else not folder.path.exists()
        start, data = read_log(folder.log, max(0, offset), max(0, limit))
        return LogChunk(start, data, ended and start + len(data) >= log_end(folder.log))

    def is_delivered(self, job_id: str) -> bool:
        """What is left on a node is shipped from there, and nobody here knows of it."""
        return True

    def capacity(self) -> list[Node]:
        content = self._nodes()
        if time.time() - content["time"] > _CAPACITY_SECONDS:
            return []
        return [
            Node(
                name=node["name"],
                cpu=node["cpu"],
                memory_bytes=node["memory_bytes"],
                gpus=node["gpus"],
                flavor=node["flavor"],
                labels=(*sorted(node["labels"].items()), ("host", node["host"])),
            )
            for node in content["nodes"]
            if node["cpu"] > 0
        ]

    def forget(self, job_id: str) -> None:
        folder = self._folder(job_id)
        if folder.path.exists():
            # The driver ends what is left on the cluster of jobs with such a mark.
            (self.root / "forgotten").mkdir(exist_ok=True)
            (self.root / "forgotten" / job_id).touch()
            shutil.rmtree(folder.path, ignore_errors=True)

    def close(self) -> None:
        self._closed.set()
        self._events()
        with self._driver_lock:
            if self._driver is not None and self._driver.stdin is not None:
                self._driver.stdin.close()  # the driver ends; what runs on the cluster goes on
        self._keeper.join(10)

    # -- the driver

    def _keep_driver(self) -> None:
        """Have a driver running until we are closed."""
        wait = 1.0
        while not self._closed.is_set():
            begun = time.monotonic()
            with open(self.root / "driver.log", "ab") as log, self._driver_lock:
                self._driver = subprocess.Popen(
                    [sys.executable, "-m", "narf.backends.ray.driver", self.address, str(self.root), str(self.objects), self._preload],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=_driver_environment(),
                )
            code = self._driver.wait()
            if self._closed.is_set():
                return
            _log.warning("the driver of the Ray cluster at %s ended with %s; see %s", self.address, code, self.root / "driver.log")
            wait = 1.0 if time.monotonic() - begun > 60 else min(wait * 2, _LONGEST_WAIT_SECONDS)
            self._closed.wait(wait)

    def _poke(self) -> None:
        with self._driver_lock:
            if self._driver is not None and self._driver.stdin is not None and not self._driver.stdin.closed:
                try:
                    self._driver.stdin.write(b"\n")
                    self._driver.stdin.flush()
                except OSError:
                    return  # it has died: the next one looks by itself

    def _last_reached(self) -> float:
        return max(self._reached_at, float(self._nodes()["time"]))

    def _nodes(self) -> dict[str, Any]:
        """What the driver has last said of the nodes, and when."""
        try:
            content: dict[str, Any] = json.loads((self.root / "nodes.json").read_text())
        except FileNotFoundError:
            return {"time": 0.0, "nodes": []}
        return content

    # -- observing

    def _status(self, job_id: str, *, is_lost: bool) -> JobStatus:
        folder = self._folder(job_id)
        if not folder.path.exists():
            return JobStatus(id=job_id, phase=JobPhase.UNKNOWN)
        state = folder.state() or JobState()
        if is_lost and state.phase != "ended":
            state = self._lose(folder) or state
        return as_status(job_id, state)

    def _lose(self, folder: JobFolder) -> JobState | None:
        """Give the job up, unless a driver is about to know better."""
        lock = os.open(self.root / "driver.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            state = folder.state() or JobState()
            if state.phase != "ended":
                reason = folder.cancel_reason() or EndReason.NODE_LOST
                detail = f"The Ray cluster at {self.address} could not be reached for {self._lost_after_seconds:g} s."
                state = replace(state, phase="ended", ended_at=time.time(), reason=reason, detail=detail)
                folder.write_state(state)
            return state
        except BlockingIOError:
            return None
        finally:
            os.close(lock)

    def _folder(self, job_id: str) -> JobFolder:
        check_id(job_id)
        return JobFolder(self.jobs / job_id)


def reach(address: str, *, seconds: float = 5.0) -> None:
    """Raises BadInput when `address` is none of a Ray cluster, or nothing answers there. "auto" is not tried: it is this machine's own."""
    found = _ADDRESS.fullmatch(address)
    if address == "auto":
        return
    if not found or not 0 < int(found["port"]) < 65536:
        raise BadInput(
            f"{address[:200]!r} is no address of a Ray cluster.", remedy="Write host:6379, ray://host:10001, or auto.", field="address"
        )
    try:
        socket.create_connection((found["host"].strip("[]"), int(found["port"])), timeout=seconds).close()
    except OSError as error:
        raise BadInput(
            f"Nothing answers at {address}: {error.strerror or error}.",
            remedy="Is the head started there (ray start --head), and the port open? To connect it before it is up: --offline",
            field="address", code="unreachable",
        ) from error  # fmt: skip


def _driver_environment() -> dict[str, str]:
    environment = dict(os.environ)
    environment.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "20")  # how long a driver waits for a head that is gone
    environment.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    source = str(Path(__file__).parents[3])
    environment["PYTHONPATH"] = os.pathsep.join([source, *filter(None, [environment.get("PYTHONPATH")])])
    return environment
