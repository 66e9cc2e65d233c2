"""What a snapshot is built from: nodes, queues and requests as plain values, one object each.

Times are seconds since 1970 (`datetime.timestamp()`), because the columns that they end up in are float64.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from narf.domain.workload import Resources


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A machine and its whole size. One that cannot be used now (drained, lost) is not `schedulable`.

    cluster: what it is connected with. A gang is never laid over two clusters: its replicas could not reach each other.
    """

    name: str
    cpu: float
    memory_bytes: int
    gpus: int = 0
    gpu_memory_bytes: int = 0  # of each GPU; 0: unknown, then only the fraction is counted
    flavor: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    schedulable: bool = True
    cluster: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Where workloads wait: a project, or a department or organisation above it.

    quota: what it is guaranteed. limit: what it may hold at most, borrowed or not. Both map a resource to an amount:
    "gpu" (of all flavors), "gpu:<flavor>", "cpu", "memory" (bytes). No quota for a resource: nothing is guaranteed.
    weight: its part of what is left over, beside its siblings. usage_gpu_seconds: past use, decayed to now.
    """

    name: str
    parent: str | None = None
    quota: Mapping[str, float] = field(default_factory=dict)
    limit: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0
    usage_gpu_seconds: float = 0.0


class Phase(IntEnum):
    """Where a request stands. STOPPING still holds its capacity, but was told to leave (preempted or cancelled)."""

    PENDING = 0
    RUNNING = 1  # admitted, starting or running
    STOPPING = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """Where one replica is: a node and the indices of its GPUs; `gpu_fraction` of the only one, when below 1."""

    node: str
    gpu_indices: tuple[int, ...] = ()
    gpu_fraction: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How long it will run in all, by what similar workloads did: seconds at 10, 50 and 90 %."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One workload as the scheduler sees it.

    queue: the project it waits in. submitted_at: first time; queued_at: this attempt. attained_seconds: how long
    earlier attempts ran. placed: where it runs; for a PENDING one, the capacity that an earlier plan holds for it (a
    `Hold`). moves_to: of a STOPPING one, where room is held for it. started_at, checkpointed_at: of the attempt that runs now. max_seconds: its time limit.
    """

    id: str
    queue: str
    resources: Resources
    submitted_at: float
    queued_at: float | None = None
    replicas: int = 1
    priority: int = 0
    preemptible: bool = True
    attained_seconds: float = 0.0
    phase: Phase = Phase.PENDING
    placed: tuple[Placed, ...] = ()
    moves_to: tuple[Placed, ...] = ()
    started_at: float | None = None
    checkpointed_at: float | None = None
    forecast: Forecast | None = None
    max_seconds: float | None = None
