"""Bodies of the shared cluster: nodes, queues with their quotas, explanations, decisions, what-if."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

Amounts = Annotated[dict[str, float], Field(max_length=50, description='"gpu", "gpu:<flavor>", "cpu", "memory" (bytes)')]


class GpuOut(BaseModel):
    """One GPU: how much of it is free, and who holds the rest."""

    index: int
    free: float
    workloads: list[str]


class NodeOut(BaseModel):
    name: str
    flavor: str
    schedulable: bool
    cpu: float
    cpu_free: float
    memory_bytes: int
    memory_free_bytes: int
    gpus: list[GpuOut]


class QuotaIn(BaseModel):
    """What a queue is guaranteed (`quota`) and may hold at most (`limit`); `weight`: its part of what is left over."""

    quota: Amounts = Field(default_factory=dict)
    limit: Amounts = Field(default_factory=dict)
    weight: float = 1.0


class QuotaOut(QuotaIn):
    id: str
    queue: str
    parent: str | None
    warnings: list[str] = []


class QueueOut(BaseModel):
    """`held`: what its workloads hold now, with those of the queues below it."""

    name: str
    parent: str | None
    quota: dict[str, float]
    limit: dict[str, float]
    weight: float
    held: dict[str, float]
    running: int
    waiting: int
    usage_gpu_hours: float


class ClusterOut(BaseModel):
    nodes: list[NodeOut]
    queues: list[QueueOut]
    gpus: float
    gpus_free: float
    waiting: int
    troubles: list[str] = []


class ClusterIn(BaseModel):
    """A cluster to connect. `may_grow`: it gets nodes by itself, so what is too large for it now is let wait; `offline`: it need not
    answer yet."""

    name: str = Field("", max_length=63)
    kind: str = Field("ray", max_length=16)
    address: str = Field(max_length=300, description='of a Ray head: "host:6379", "ray://host:10001" or "auto"')
    may_grow: bool = False
    offline: bool = False


class ClusterEntry(BaseModel):
    """One connected cluster. `sentence`: why it shows no node, "" when it does; `address` is for admins."""

    id: str
    name: str
    kind: str
    address: str
    may_grow: bool
    nodes: int
    gpus: int
    sentence: str
    is_fixed: bool
    added_by: str
    added_at: datetime | None


class ForecastOut(BaseModel):
    """Seconds from now until it starts; nine of ten lie between `low` and `high`."""

    seconds: float
    low: float
    high: float


class HolderOut(BaseModel):
    workload: str
    queue: str
    amount: float
    running_seconds: float


class TakesBackOut(BaseModel):
    """In so many seconds it may take the place of `victims`, and does if nothing ends and nothing else comes before."""

    seconds: float
    reason: str
    victims: list[str]


class WhyOut(BaseModel):
    """Why a workload waits. One that does not wait has only `state` and `sentence`."""

    workload: str
    state: str
    sentence: str
    remedy: str = ""
    reason: str = ""
    position: int = 0
    resource: str = ""
    asked: float = 0.0
    available: float = 0.0
    queue: str = ""
    blocker: str = ""
    holders: list[HolderOut] = []
    forecast: ForecastOut | None = None
    takes_back: TakesBackOut | None = None


class DecidedOut(BaseModel):
    """One reason for which it waited, from when to when; or an admission or preemption. `sentence` says it in words."""

    kind: str
    reason: str
    sentence: str
    from_at: datetime
    until_at: datetime | None
    detail: dict[str, Any]


class WhatIfNode(BaseModel):
    count: int = Field(1, ge=1, le=1000)
    gpus: int = Field(8, ge=0, le=64)
    cpu: float = Field(64.0, gt=0, le=4096)
    memory_bytes: int = Field(1 << 39, ge=0, le=1 << 50)
    flavor: str = Field("", max_length=63)


class WhatIfSubmit(BaseModel):
    project: str = Field("default", max_length=63)
    gpu: float = Field(1.0, ge=0, le=4096)
    cpu: float = Field(1.0, gt=0, le=4096)
    flavor: str = Field("", max_length=63)
    replicas: int = Field(1, ge=1, le=10_000)
    duration_seconds: float | None = Field(None, gt=0, le=366 * 86400, description="how long it runs; like similar ones when not given")


class WhatIfIn(BaseModel):
    add_nodes: list[WhatIfNode] = Field(default_factory=list, max_length=20)
    quota: dict[str, float] = Field(default_factory=dict, max_length=200, description="GPUs guaranteed, by queue")
    submit: list[WhatIfSubmit] = Field(default_factory=list, max_length=50)


class WhatIfStart(BaseModel):
    """When a waiting workload starts as things are (`before`) and when if (`after`); null: not in sight.

    One that was asked about with `submit` is named "new-1" and so on, waits only in `after`, and has in `sentence` why it would wait.
    """

    workload: str
    project: str
    before: ForecastOut | None
    after: ForecastOut | None
    sentence: str = ""


class WhatIfOut(BaseModel):
    """`is_rough`: so much waits that only what starts within the next few decisions was looked for.

    warnings: where the quotas that were asked about contradict the cluster or each other.
    """

    starts: list[WhatIfStart]
    is_rough: bool = False
    warnings: list[str] = []
