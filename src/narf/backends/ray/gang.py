"""One job on the cluster, from its placement group to its end. Runs in the driver, in a thread of its own.

Everything that must survive the driver is in the job's folder, in the cluster's detached actors and in the placement
group, all named after the job; a driver that is started again finds them and goes on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError, RayError
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from narf.backends.local.backend import rendezvous_environment
from narf.backends.local.ending import Ended, conclude
from narf.backends.local.events import tell
from narf.backends.local.folder import JobFolder, JobState
from narf.backends.protocol import Job
from narf.backends.ray.bundle import Bundle
from narf.backends.ray.jobfile import job_from_json, job_to_json
from narf.backends.ray.merging import MergedLog
from narf.data.objects import ObjectStore
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason

NAMESPACE = "narf"
_LOOK_SECONDS = 0.25
_WATCH_SECONDS = 2.0
_UNAVAILABLE_SECONDS = 30.0  # how long a replica may not answer before it counts as lost
_log = logging.getLogger(__name__)


class _Ends(Exception):
    """The job ends before its program ran."""

    def __init__(self, reason: EndReason, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(detail)


class Gang:
    """The replicas of one job."""

    def __init__(
        self, folder: JobFolder, objects: ObjectStore, preload: Sequence[str], notify: str, alive_nodes: Callable[[], Mapping[str, object]]
    ) -> None:
        self._folder, self._objects, self._preload, self._notify = folder, objects, list(preload), notify
        self._alive_nodes = alive_nodes
        self._job: Job = job_from_json((folder.path / "job.json").read_text())
        self._state = folder.state() or JobState()
        self._actors: list[Any] = []
        self._endings: list[Ended] = []
        self._stop: EndReason | None = None
        self._stop_detail = ""

    def run(self) -> None:
        """See the job to its end. Never raises."""
        try:
            if not self._find_again():
                self._write(self._state)
                self._start()
            self._watch()
        except _Ends as end:
            self._end(end.reason, None, end.detail)
        except (RayError, OSError, ValueError, NarfError) as error:
            _log.exception("job %s", self._job.id)
            running = self._state.phase == "running"
            self._end(EndReason.NODE_LOST if running else EndReason.START_FAILED, None, str(error))
        self._clean()

    # -- beginning

    def _find_again(self) -> bool:
        """Take over from a driver that is gone; false when the job is yet to be started."""
        try:
            self._actors = [ray.get_actor(actor_name(self._job.id, rank), NAMESPACE) for rank in range(len(self._job.replicas))]
        except ValueError:
            self._actors = []
        has_started = not (self._folder.path / "environment.json").exists()
        if has_started and not self._actors:
            raise _Ends(EndReason.NODE_LOST, "The cluster has lost it.")
        if not has_started:
            self._clean()  # it was being started: begin anew
        return has_started

    def _start(self) -> None:
        job = self._job
        environment = json.loads((self._folder.path / "environment.json").read_text())
        objects = ray.put(self._snapshot())
        group = placement_group(
            [_bundle(job) for _ in job.replicas],
            strategy="PACK",
            name=group_name(job.id),
            lifetime="detached",
            bundle_label_selector=[{"ray.io/node-id": replica.node} for replica in job.replicas],
        )
        self._await(group.ready())
        actor_class = ray.remote(Bundle)
        for rank, replica in enumerate(job.replicas):
            options = actor_class.options(
                name=actor_name(job.id, rank),
                namespace=NAMESPACE,
                lifetime="detached",
                num_cpus=job.resources.cpu,
                num_gpus=job.resources.gpu,
                max_restarts=0,
                max_concurrency=4,  # a cancel must not wait for a watch
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=rank),
            )
            self._actors.append(options.remote(actor_name(job.id, rank), replica.node, self._preload))
        if len(job.replicas) > 1:
            address, port = self._await(self._actors[0].rendezvous.remote())
            environment |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
        text = job_to_json(job)
        starts = [
            actor.start.remote(text, rank, environment | rendezvous_environment(rank, len(job.replicas), job.resources.gpu), objects)
            for rank, actor in enumerate(self._actors)
        ]
        for start in starts:
            self._await(start)
        (self._folder.path / "environment.json").unlink(missing_ok=True)

    def _snapshot(self) -> dict[str, bytes]:
        """The objects that the job's code is made of. Only those are read that belong to it."""
        if self._job.snapshot is None:
            return {}
        try:
            manifest = self._objects.get(self._job.snapshot)
            files = {entry["sha256"] for entry in json.loads(manifest)["files"]}
            return {self._job.snapshot: manifest} | {digest: self._objects.get(digest) for digest in files}
        except NarfError as error:
            raise _Ends(EndReason.START_FAILED, str(error)) from error

    def _await(self, reference: Any) -> Any:
        """The value of `reference`, unless the job is cancelled or a node of it goes away first."""
        while True:
            if (reason := self._folder.cancel_reason()) is not None:
                raise _Ends(EndReason(reason))
            if gone := [replica.node for replica in self._job.replicas if replica.node not in self._alive_nodes()]:
                raise _Ends(EndReason.NODE_LOST, f"Node {gone[0]} is not in the cluster.")
            done, _ = ray.wait([reference], timeout=_LOOK_SECONDS)
            if done:
                return ray.get(reference)

    # -- running

    def _watch(self) -> None:
        log = MergedLog(self._folder.path, len(self._actors))
        phases = ["starting"] * len(self._actors)
        watches = {actor.watch.remote(phases[rank], log.offsets[rank], _WATCH_SECONDS): rank for rank, actor in enumerate(self._actors)}
        silent_since: dict[int, float] = {}
        while watches:
            done, _ = ray.wait(list(watches), timeout=_LOOK_SECONDS)
            for reference in done:
                rank = watches.pop(reference)
                try:
                    status, start, data, is_over = ray.get(reference)
                except ActorUnavailableError as error:
                    if time.monotonic() - silent_since.setdefault(rank, time.monotonic()) > _UNAVAILABLE_SECONDS:
                        self._lose(rank, error)
                        continue
                    time.sleep(_LOOK_SECONDS)
                except (RayActorError, GetTimeoutError) as error:
                    self._lose(rank, error)
                    continue
                else:
                    silent_since.pop(rank, None)
                    phases[rank] = status["phase"]
                    if self._state.phase == "starting" and "starting" not in phases:
                        self._write(replace(self._state, phase="running", started_at=time.time()))
                    log.append(rank, start, data, is_last=is_over)
                    if is_over:
                        self._note_end(rank, status)
                        continue
                watches[self._actors[rank].watch.remote(phases[rank], log.offsets[rank], _WATCH_SECONDS)] = rank
            if self._stop is None and (reason := self._folder.cancel_reason()) is not None:
                self._stop_all(EndReason(reason))
        log.close()
        if self._stop is EndReason.NODE_LOST:
            # The others fail when a peer vanishes, often before the cluster knows that it did: their errors are no reason.
            self._end(EndReason.NODE_LOST, None, self._stop_detail)
        else:
            reason, exit_code, detail = conclude(self._endings, self._stop, self._stop_detail)
            self._end(reason, exit_code, detail)

    def _note_end(self, rank: int, status: Mapping[str, Any]) -> None:
        reason, exit_code = EndReason(status["reason"]), status["exit_code"]
        cpu_seconds = self._state.cpu_seconds + status["cpu_seconds"]
        self._state = replace(
            self._state, cpu_seconds=cpu_seconds, peak_memory_bytes=max(self._state.peak_memory_bytes, status["peak_memory_bytes"])
        )
        if started := status["started_at"]:
            self._state = replace(self._state, started_at=min(self._state.started_at or started.timestamp(), started.timestamp()))
        if reason not in {EndReason.COMPLETED, EndReason.USER_ERROR, EndReason.KILLED_BY_SIGNAL} and self._stop is None:
            self._stop, self._stop_detail = reason, status["detail"]  # a limit, a lost node, a start that failed
        self._endings.append(Ended(rank=rank, exit_code=-1 if exit_code is None else exit_code, asked=self._stop is not None))
        if reason is not EndReason.COMPLETED:
            self._cancel_replicas(self._stop or EndReason.CANCELLED)

    def _lose(self, rank: int, error: Exception) -> None:
        node = self._job.replicas[rank].node
        _log.warning("job %s has lost replica %d: %s", self._job.id, rank, error)
        if self._stop is None or self._stop is EndReason.NODE_LOST:
            self._stop, self._stop_detail = EndReason.NODE_LOST, f"Replica {rank} was lost with node {node[:12]}."
        self._endings.append(Ended(rank=rank, exit_code=-1, asked=True))
        self._cancel_replicas(EndReason.NODE_LOST)

    def _stop_all(self, reason: EndReason) -> None:
        self._stop = reason
        self._cancel_replicas(reason)

    def _cancel_replicas(self, reason: EndReason) -> None:
        for actor in self._actors:
            with contextlib.suppress(RayError):  # it is gone: its watch tells
                actor.cancel.remote(reason.value)

    # -- ending

    def _end(self, reason: EndReason, exit_code: int | None, detail: str) -> None:
        if self._stop is not None and all(ended.exit_code == -1 for ended in self._endings):
            exit_code = None
        self._write(replace(self._state, phase="ended", ended_at=time.time(), reason=reason, exit_code=exit_code, detail=detail))
        (self._folder.path / "environment.json").unlink(missing_ok=True)

    def _clean(self) -> None:
        for rank in range(len(self._job.replicas)):
            with contextlib.suppress(RayError, ValueError):  # with its node, nothing is left to clean
                actor = ray.get_actor(actor_name(self._job.id, rank), NAMESPACE)
                ray.wait([actor.clean.remote()], timeout=5)
                ray.kill(actor)
        self._actors = []
        remove_group(self._job.id)

    def _write(self, state: JobState) -> None:
        self._folder.write_state(state)
        self._state = state
        if self._notify:
            tell(self._notify, self._job.id)


def actor_name(job_id: str, rank: int) -> str:
    return f"narf-{job_id}-{rank}"


def group_name(job_id: str) -> str:
    return f"narf-{job_id}"


def remove_group(job_id: str) -> None:
    with contextlib.suppress(ValueError, RayError):  # there is none
        remove_placement_group(ray.util.get_placement_group(group_name(job_id)))


def _bundle(job: Job) -> dict[str, float]:
    bundle = {"CPU": float(job.resources.cpu)}
    if job.resources.gpu:
        bundle["GPU"] = float(job.resources.gpu)
    if job.resources.memory_bytes:
        bundle["memory"] = float(job.resources.memory_bytes)
    return bundle
