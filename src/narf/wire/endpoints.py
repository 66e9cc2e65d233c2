"""Bodies of endpoints, and of what gateways and replicas tell."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

_Count = Annotated[int, Field(ge=0, le=1 << 50)]
_Histogram = Annotated[list[_Count], Field(min_length=16, max_length=16)]
_Points = Annotated[list[tuple[float, Annotated[float, Field(ge=0)]]], Field(max_length=512)]

# What a replica asks for unless told: most models are small and wait most of their time, and a twentieth of a core is room to be there,
# not the most that it may use.
REPLICA_CPU = 0.05


class RolloutIn(BaseModel):
    least_requests: Annotated[int, Field(ge=1, le=10**9)] | None = None
    least_seconds: Annotated[float, Field(ge=0, le=10**6)] | None = None
    most_seconds: Annotated[float, Field(ge=1, le=10**7)] | None = None
    error_margin: Annotated[float, Field(ge=0, le=1)] | None = None
    latency_factor: Annotated[float, Field(ge=1, le=1000)] | None = None
    latency_slack_ms: Annotated[float, Field(ge=0, le=10**6)] | None = None


class ReplicaResources(BaseModel):
    cpu: Annotated[float, Field(gt=0, le=4096)] = REPLICA_CPU
    memory_bytes: Annotated[int, Field(ge=0, le=1 << 50)] = 0
    gpu: Annotated[float, Field(ge=0, le=4096)] = 0.0


class KeepIn(BaseModel):
    """Which payloads are kept: a share of all predictions, and all errors. Nothing unless this says so."""

    percent: Annotated[float, Field(ge=0, le=100)] = 0.0
    errors: bool = False
    days: Annotated[float, Field(gt=0, le=3660)] = 30.0
    most_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 44, description="the oldest go first")] = 1 << 30


class EndpointChange(BaseModel):
    """What is left out stays as it is."""

    least: Annotated[int, Field(ge=0, le=1000)] | None = None
    most: Annotated[int, Field(ge=1, le=1000)] | None = None
    target: Annotated[float, Field(gt=0, le=10**6, description="requests at once that a replica is meant to have")] | None = None
    idle_seconds: Annotated[float, Field(ge=1, le=10**7, description="without a request for this long, down to the least")] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=3600)] | None = None
    canary: Annotated[list[Annotated[int, Field(gt=0, lt=100)]], Field(max_length=20)] | None = None
    rollout: RolloutIn | None = None
    resources: ReplicaResources | None = None
    webhook: Annotated[str, Field(max_length=2000)] | None = None
    public: bool | None = None
    shared: Annotated[bool, Field(description="its replicas share processes with other small models of the project")] | None = None
    keep: Annotated[KeepIn, Field(description="needs the role maintainer")] | None = None
    alias: Annotated[str, Field(max_length=100, description='the alias it follows, "" none')] | None = None


class DeployIn(EndpointChange):
    model: Annotated[str, Field(min_length=1, max_length=300, description="MODEL@ALIAS, MODEL/VERSION or MODEL (its newest)")]
    name: Annotated[str, Field(max_length=63)] = ""


class ShareIn(BaseModel):
    """Percent of the traffic for the canary."""

    share: int


class RollBackIn(BaseModel):
    to: Annotated[int, Field(ge=1, le=10**9)] | None = None


class RevisionOut(BaseModel):
    id: str
    number: int
    model: str
    version: int
    role: str
    weight: float
    reason: str
    created_by: str
    created_at: datetime
    replicas: dict[str, int]


class ReplicaOut(BaseModel):
    workload_id: str
    revision: int | None
    state: str
    url: str
    shared: bool
    created_at: datetime


class EventOut(BaseModel):
    at: datetime
    kind: str
    sentence: str
    by: str


class EndpointOut(BaseModel):
    id: str
    name: str
    project: str
    model: str
    alias: str
    state: str
    trouble: str
    url: str
    least: int
    most: int
    ready: int
    target: float
    idle_seconds: float
    timeout_seconds: float
    canary: list[int]
    canary_step: int | None
    resources: dict[str, Any]
    webhook: str
    public: bool
    shared: bool
    keep: dict[str, Any]
    created_by: str
    created_at: datetime
    last_used: datetime | None
    revisions: list[RevisionOut]


class EndpointDetail(EndpointOut):
    replicas: list[ReplicaOut]
    events: list[EventOut]


class AddressIn(BaseModel):
    url: Annotated[str, Field(min_length=1, max_length=300)]
    revision: Annotated[str, Field(max_length=100)] = ""


class NotLoadedIn(BaseModel):
    """Why a shared process does not hold a model that it should."""

    revision: Annotated[str, Field(min_length=1, max_length=100)]
    sentence: Annotated[str, Field(min_length=1, max_length=1000)]


class LeavingIn(BaseModel):
    """Why a replica is to be replaced. at_once: it cannot go on until another answers. revision: the model that is the cause, where
    several share a process and it is known."""

    sentence: Annotated[str, Field(min_length=1, max_length=1000)]
    at_once: bool = False
    revision: Annotated[str, Field(max_length=40)] = ""


class PredictionsIn(BaseModel):
    """A replica's report. records: base64 of compressed columns."""

    model: Annotated[str, Field(max_length=300)]
    revision: Annotated[str, Field(max_length=100)] = ""
    count: _Count
    rows: _Count
    milliseconds: _Histogram
    records: Annotated[str, Field(max_length=64 << 20)]
    inputs: dict[str, tuple[_Count, _Count, _Count, float, list[_Count]]]
    outputs: dict[str, Any]
    summary: Annotated[dict[str, tuple[_Count, _Count, float | None, float | None, _Points]], Field(max_length=2000)] = {}
    dropped: _Count = 0


class AnswersIn(BaseModel):
    requests: _Count
    errors: _Count
    rejected: _Count
    histogram: _Histogram
    seconds: Annotated[float, Field(ge=0)]


class EndpointReport(BaseModel):
    concurrency: _Count
    waiting: _Count
    arrived: _Count
    revisions: dict[str, AnswersIn]
    ejected: list[str] = []


class PayloadsIn(BaseModel):
    """By endpoint: base64 of a packed block."""

    endpoints: dict[str, Annotated[str, Field(max_length=16 << 20)]]


class GatewayReport(BaseModel):
    gateway: Annotated[str, Field(min_length=1, max_length=64)]
    endpoints: dict[str, EndpointReport]
