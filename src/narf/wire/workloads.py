"""Bodies of workloads and code snapshots."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from narf.domain.workload import EndReason, WorkloadKind, WorkloadState

Text = Annotated[str, Field(max_length=20_000)]


class ResourcesBody(BaseModel):
    """What each replica needs. `gpu` below 1 is a fraction of one."""

    cpu: float = 1.0
    memory_bytes: int = 0
    gpu: float = 0.0
    gpu_memory_bytes: int = Field(0, ge=0, le=1 << 50)
    flavor: str = Field("", max_length=63)
    node_selector: dict[str, str] = Field(default_factory=dict, max_length=32)


class WorkloadIn(BaseModel):
    """Something to run. Either `script` (Python, under the hooks) or `command`."""

    name: str = Field("", max_length=200)
    kind: WorkloadKind = WorkloadKind.TRAINING
    script: Text | None = None
    arguments: list[Text] = Field(default_factory=list, max_length=10_000)
    command: list[Text] = Field(default_factory=list, max_length=10_000)
    snapshot: str | None = Field(None, max_length=64)
    environment: dict[str, Text] = Field(default_factory=dict, max_length=500)
    secrets: dict[str, str] = Field(default_factory=dict, max_length=100, description="variable -> name of a secret")
    data: list[str] = Field(default_factory=list, max_length=100, description='references such as "digits@v3"')
    requirements: str = Field("", max_length=200_000, description="text of a requirements file")
    experiment: str = Field("", max_length=200)
    resources: ResourcesBody = Field(default_factory=lambda: ResourcesBody.model_validate({}))
    replicas: int = Field(1, ge=1, le=4096)
    priority: int = Field(0, ge=-100, le=100)
    preemptible: bool = True
    time_limit_seconds: float | None = Field(None, gt=0, le=366 * 86400)
    max_retries: int = Field(3, ge=0, le=100)
    webhook: str = Field("", max_length=2000)
    labels: dict[str, str] = Field(default_factory=dict, max_length=64)
    code: dict[str, str] = Field(
        default_factory=dict, max_length=16, description="where the code came from: git commit, branch, remote, diff"
    )


class PlacementOut(BaseModel):
    node: str
    gpu_indices: list[int]
    gpu_fraction: float


class AttemptOut(BaseModel):
    attempt: int
    backend: str
    placement: list[PlacementOut]
    admitted_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    reason: EndReason | None
    exit_code: int | None
    sentence: str
    cpu_seconds: float
    peak_memory_bytes: int


class EventOut(BaseModel):
    id: int
    at: datetime
    attempt: int
    state: WorkloadState
    sentence: str


class WorkloadOut(BaseModel):
    id: str
    project: str
    owner: str
    name: str
    kind: WorkloadKind
    state: WorkloadState
    sentence: str
    parent: str
    run_id: str | None
    script: str | None
    arguments: list[str]
    command: list[str]
    snapshot: str | None
    data: list[str]
    resources: ResourcesBody
    replicas: int
    priority: int
    preemptible: bool
    attempt: int
    time_limit_seconds: float | None
    max_retries: int
    created_at: datetime
    queued_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    end_reason: EndReason | None
    exit_code: int | None
    cancel_requested: bool
    labels: dict[str, str]


class WorkloadDetail(WorkloadOut):
    attempts: list[AttemptOut]
    events: list[EventOut]


class Submitted(BaseModel):
    id: str
    workload_id: str
    run_id: str | None
    state: WorkloadState
    name: str


class LogOut(BaseModel):
    """Output of one attempt, as text; bytes that are no UTF-8 are replaced. `next`: the offset to go on from.

    start > the offset asked for: what was between was dropped by the size limit.
    """

    start: int
    next: int
    text: str
    is_complete: bool


class SnapshotFileBody(BaseModel):
    path: str = Field(max_length=4096)
    sha256: str = Field(max_length=64)
    size: int = Field(ge=0, le=1 << 50)
    mode: int = Field(0o644, ge=0, le=0o7777)


class SnapshotIn(BaseModel):
    files: list[SnapshotFileBody] = Field(max_length=100_000)


class SnapshotCheck(BaseModel):
    missing: list[str]


class SnapshotOut(BaseModel):
    id: str


class GitSnapshotIn(BaseModel):
    """A repository to fetch code from. `ref`: branch, tag or commit; "" is the default branch. `folder`: only this part of it."""

    url: str = Field(min_length=1, max_length=2000)
    ref: str = Field("", max_length=250)
    folder: str = Field("", max_length=1000)


class GitSnapshotOut(BaseModel):
    """`paths`: the files that were kept. `commit` is what `ref` named when it was fetched."""

    id: str
    commit: str
    url: str
    paths: list[str]
