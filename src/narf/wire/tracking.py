"""Bodies of runs, experiments, metrics and comparisons."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

RunStatus = Literal["SCHEDULED", "RUNNING", "FINISHED", "FAILED", "KILLED"]


class ExperimentOut(BaseModel):
    id: str
    name: str
    created_at: datetime
    runs: int


class ExperimentIn(BaseModel):
    name: str = Field(min_length=1, max_length=250)


class RunIn(BaseModel):
    """`created_at` is for runs that are brought from elsewhere; otherwise the run begins now."""

    name: str = Field("", max_length=250)
    experiment: str = Field("", max_length=250)
    created_at: datetime | None = None
    params: dict[str, str] = Field(default_factory=dict, max_length=2000)
    tags: dict[str, str] = Field(default_factory=dict, max_length=500)


class RunChange(BaseModel):
    """`ended_at` is for runs that are brought from elsewhere; otherwise the end is now."""

    name: str | None = Field(None, min_length=1, max_length=250)
    status: RunStatus | None = None
    ended_at: datetime | None = None
    tags: dict[str, str] = Field(default_factory=dict, max_length=500)


class RunOut(BaseModel):
    """`metrics` are the latest values; what is no finite number is a word: "NaN", "Infinity", "-Infinity"."""

    id: str
    name: str
    project: str
    experiment: str
    status: str
    user: str
    created_at: datetime
    ended_at: datetime | None
    deleted: bool
    workload: str | None
    params: dict[str, str]
    metrics: dict[str, float | str]
    tags: dict[str, str]


class DatasetUsed(BaseModel):
    name: str
    digest: str
    context: str = ""


class RunDetail(RunOut):
    datasets: list[DatasetUsed]
    models: list[str]
    artifact_uri: str


class MetricOut(BaseModel):
    key: str
    count: int
    last: float | str
    last_step: int
    last_time: datetime
    min: float | None
    max: float | None
    first_step: int


class SpoolOffset(BaseModel):
    offset: int


class Shipped(BaseModel):
    """`offsets`: from where to go on with each part of a spool, in the order of the parts."""

    offsets: list[int]


class SpoolOut(BaseModel):
    spool: str
    stream: str
    offset: int


class RunEventOut(BaseModel):
    time: datetime
    type: str
    name: str
    text: str


class ArtifactOut(BaseModel):
    path: str
    is_folder: bool
    size: int | None


class Rerun(BaseModel):
    """A run that was started again: the workload, and its new run."""

    workload_id: str
    run_id: str
    rerun_of: str


class Difference(BaseModel):
    """One thing that is not the same in all runs; `values` in the order of the runs, null where a run has none."""

    name: str
    values: list[Any]


class Comparison(BaseModel):
    runs: list[RunOut]
    code: list[Difference]
    params: list[Difference]
    environment: list[Difference]
    data: list[Difference]
    metrics: list[Difference]
    same: dict[str, int] = Field(description="how many things are the same, by section")
