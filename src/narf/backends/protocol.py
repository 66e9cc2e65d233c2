"""The boundary behind which jobs run: on this machine, on Ray, on Kubernetes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from narf.domain.workload import EndReason, Resources


class JobPhase(StrEnum):
    UNKNOWN = "unknown"  # this backend has never heard of it
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """Where one replica of a job goes: a node of this backend and the indices of its GPUs there."""

    node: str
    gpu_indices: tuple[int, ...] = ()
    gpu_fraction: float = 0.0  # of the single GPU in `gpu_indices`, when below 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One attempt of a workload, ready to run. Everything a backend needs, nothing it must look up.

    id: "<workload id>.<attempt>". Work happens in a folder of the job's own, filled from `snapshot`
    (a code snapshot's manifest hash) before the start; `None` runs in an empty folder.
    command: a script to run as `python SCRIPT ARGS` when `script` is set, else an argument vector.
    environment: variables for the program; values of secrets are among them, so it is never logged.
    python: the interpreter of the environment, `None` for the platform's own.
    requirements: the text of a requirements file; the backend builds (or finds) that environment first, after `submit` returned.
    """

    id: str
    workload_id: str
    attempt: int
    run_id: str | None
    replicas: Sequence[Replica]
    resources: Resources
    script: str | None = None
    arguments: Sequence[str] = ()
    command: Sequence[str] = ()
    snapshot: str | None = None
    working_directory: str | None = None  # runs in this folder as it is, instead of a snapshot
    python: str | None = None
    requirements: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    time_limit_seconds: float | None = None
    grace_seconds: float = 10.0  # between SIGTERM and SIGKILL
    hooks: bool = True  # run a Python script under the launcher
    series: str = ""  # jobs of one series follow each other and belong to the same people: what keeps one may keep the next


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """What a backend knows of a job now. `reason` is set once `phase` is ENDED."""

    id: str
    phase: JobPhase
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None  # negative: the number of the signal
    reason: EndReason | None = None
    detail: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine of a backend and what it can give."""

    name: str
    cpu: float
    memory_bytes: int
    gpus: int
    gpu_memory_bytes: int = 0
    flavor: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    simulated_gpus: bool = False


@dataclass(frozen=True, slots=True)
class LogChunk:
    """Bytes [start, start + len(data)) of a job's merged output. `start` > the offset asked for: the
    bytes between were dropped by the size limit. `is_complete`: the job ended and nothing follows."""

    start: int
    data: bytes
    is_complete: bool


class Backend(Protocol):
    """A place that runs jobs. Called by the control plane's reconcilers, one at a time for each job.

    Every call is safe to repeat with the same job id, and none blocks for longer than about a
    second: `submit` hands over and returns, what happens then is seen through `observe`.
    """

    name: str

    def submit(self, job: Job) -> None:
        """Start the job, once, however often this is called."""
        ...

    def observe(self, job_ids: Sequence[str]) -> list[JobStatus]:
        """The status of each, in the order asked; UNKNOWN for what was never submitted here."""
        ...

    def cancel(self, job_id: str, reason: EndReason) -> None:
        """SIGTERM to the whole process group of each replica, SIGKILL after the job's grace period.
        `reason` (CANCELLED or PREEMPTED) becomes the job's end reason. Unknown or ended: nothing."""
        ...

    def logs(self, job_id: str, offset: int, limit: int) -> LogChunk:
        """At most `limit` bytes of output from `offset` on."""
        ...

    def is_delivered(self, job_id: str) -> bool:
        """Whether nothing that the job's program reported is known to be still on its way to the control plane."""
        ...

    def capacity(self) -> list[Node]:
        """The nodes that can be used now, with their whole size, not what is free."""
        ...

    def forget(self, job_id: str) -> None:
        """Delete what is kept of an ended job (its folder). Unknown: nothing."""
        ...

    def close(self) -> None:
        """Let go of this backend; what runs there goes on."""
        ...
