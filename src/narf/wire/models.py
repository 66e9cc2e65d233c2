"""Bodies of the model registry."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field

Alias = Annotated[str, Field(min_length=1, max_length=100)]
Tags = Annotated[dict[str, Annotated[str, Field(max_length=5000)]], Field(max_length=100)]


class PackagingIn(BaseModel):
    class_name: Annotated[str, Field(max_length=500, description="file.py:Class in the run's code, for a checkpoint")] = ""
    inputs: Annotated[
        str, Field(max_length=500, description="artifact of the run with real inputs (.npy, .npz, .json, .csv, .parquet)")
    ] = ""
    processing: Annotated[str, Field(max_length=500, description="file.py:Name in the run's code")] = ""
    only: Annotated[str, Field(pattern="^(onnx|torchscript|torch|pyfunc)?$")] = ""
    absolute_tolerance: Annotated[float, Field(ge=0, le=1e6)] = 1e-5
    relative_tolerance: Annotated[float, Field(ge=0, le=1)] = 1e-4


class RegisterIn(BaseModel):
    run: str = Field(min_length=1, max_length=64)
    artifact: Annotated[
        str, Field(max_length=500, description="path in the run's artifacts; found by itself when it is the only model")
    ] = ""
    name: str = Field(min_length=1, max_length=63)
    description: Annotated[str, Field(max_length=5000)] = ""
    tags: Tags = Field(default_factory=dict)
    aliases: list[Alias] = Field(default_factory=list, max_length=20)
    packaging: PackagingIn = PackagingIn()


class PredictFileIn(BaseModel):
    """Paths on a disk that the workload reaches: .parquet, .csv or .npy."""

    input: Annotated[str, Field(min_length=1, max_length=4000)]
    output: Annotated[str, Field(min_length=1, max_length=4000)]
    cpu: Annotated[float, Field(gt=0, le=4096)] = 1.0


class PackageOut(BaseModel):
    id: str
    state: str
    workload_id: str | None
    error: str
    runtime: str | None
    size_bytes: int | None
    created_at: datetime
    ended_at: datetime | None
    signature: dict[str, Any] | None
    evidence: dict[str, Any] | None


class VersionOut(BaseModel):
    id: str
    model: str
    version: int
    created_at: datetime
    created_by: str
    description: str
    tags: dict[str, str]
    aliases: list[str]
    run_id: str | None
    source: str
    package: PackageOut | None


class ModelOut(BaseModel):
    id: str
    name: str
    created_at: datetime
    updated_at: datetime
    description: str
    tags: dict[str, str]
    aliases: dict[str, int]
    latest: int | None


class ModelDetail(ModelOut):
    versions: list[VersionOut]


class ModelChange(BaseModel):
    description: str | None = Field(None, max_length=5000)
    tags: Tags = Field(default_factory=dict)


class AliasIn(BaseModel):
    version: int = Field(ge=1, le=10**9)


class PackagingFailure(BaseModel):
    error: str = Field(max_length=10_000)
