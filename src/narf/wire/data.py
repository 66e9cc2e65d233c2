"""Bodies of datasets, their versions, sources, imports and lineage."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class FileIn(BaseModel):
    path: str = Field(max_length=4096)
    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class ObjectsIn(BaseModel):
    sha256: list[str] = Field(max_length=1_000_000)


class ObjectsMissing(BaseModel):
    missing: list[str]


class CheckIn(BaseModel):
    """One data-quality check. `kind`: columns, rows, nulls, range, unique, values, matches or sql; see the guide."""

    kind: str = Field(max_length=31)
    column: str = Field("", max_length=500)
    columns: list[str] = Field(default_factory=list, max_length=10_000)
    types: dict[str, str] = Field(default_factory=dict)
    least: float | str | None = None
    most: float | str | None = None
    values: list[Any] = Field(default_factory=list, max_length=10_000)
    pattern: str = Field("", max_length=1000)
    sql: str = Field("", max_length=10_000)


class VersionIn(BaseModel):
    """A new version of these files, whose contents were all sent before."""

    files: list[FileIn] = Field(max_length=2_000_000)
    provenance: dict[str, Any] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list, max_length=20)
    checks: list[CheckIn] = Field(default_factory=list, max_length=200)
    description: str | None = Field(None, max_length=10_000)
    run_id: str | None = Field(None, max_length=64)


class ColumnOut(BaseModel):
    name: str
    type: str
    nullable: bool


class VersionOut(BaseModel):
    """`id`: the hash of the content. `version`: "v3". `created`: false if the content was the latest version's already."""

    id: str
    project: str
    dataset: str
    version: str
    number: int
    kind: str
    format: str
    files: int
    rows: int | None
    size_bytes: int
    columns: list[ColumnOut]
    statistics: dict[str, Any]
    provenance: dict[str, Any]
    checks: list[dict[str, Any]]
    tags: list[str]
    iceberg: dict[str, Any] | None
    created_by: str
    created_at: datetime
    removed_at: datetime | None = None
    created: bool | None = None


class VersionRow(BaseModel):
    """A version as lists show it."""

    id: str
    dataset: str
    version: str
    number: int
    kind: str
    files: int
    rows: int | None
    size_bytes: int
    tags: list[str]
    created_by: str
    created_at: datetime
    removed_at: datetime | None


class DatasetOut(BaseModel):
    id: str
    project: str
    name: str
    description: str
    versions: int
    latest: VersionRow | None
    tags: dict[str, str]  # tag -> "v3"
    created_by: str
    created_at: datetime
    updated_at: datetime


class DatasetChange(BaseModel):
    description: str = Field(max_length=10_000)


class TagIn(BaseModel):
    version: str = Field(max_length=63)


class FileOut(BaseModel):
    path: str
    size: int
    sha256: str
    rows: int | None


class PreviewOut(BaseModel):
    columns: list[ColumnOut]
    rows: list[list[Any]]
    total_rows: int | None
    files: list[FileOut]


class FolderOut(BaseModel):
    folder: str


class ReadIn(BaseModel):
    """A run says that it read this version."""

    run_id: str = Field(max_length=64, min_length=1)


class VerifyOut(BaseModel):
    """`damaged`: paths whose bytes are lost or changed."""

    files: int
    size_bytes: int
    damaged: list[str]


class GcOut(BaseModel):
    objects: int
    size_bytes: int
    folders: int
    dry_run: bool


class SourceIn(BaseModel):
    """`options` by kind, see the guide; a value "secret:NAME" is the project's secret of that name."""

    kind: str = Field(max_length=63)
    options: dict[str, str] = Field(default_factory=dict, max_length=50)
    description: str = Field("", max_length=10_000)


class SourceOut(BaseModel):
    id: str
    project: str
    name: str
    kind: str
    options: dict[str, str]
    description: str
    tested: bool
    created_by: str
    created_at: datetime


class SelectionIn(BaseModel):
    """What of a source: `path` below its root, with `pattern`; `table`; or `query`."""

    path: str = Field("", max_length=4096)
    pattern: str = Field("", max_length=1000)
    table: str = Field("", max_length=1000)
    query: str = Field("", max_length=100_000)


class SourcePreviewIn(SelectionIn):
    limit: int = Field(20, ge=1, le=500)


class SourcePreviewOut(BaseModel):
    columns: list[ColumnOut]
    rows: list[list[Any]]
    statistics: dict[str, Any]
    entries: list[dict[str, Any]]
    total_rows: int | None = None


class SourceTestOut(BaseModel):
    ok: bool
    detail: str


class ImportIn(SelectionIn):
    source: str = Field(max_length=63)
    tags: list[str] = Field(default_factory=list, max_length=20)
    checks: list[CheckIn] = Field(default_factory=list, max_length=200)
    same_schema: bool = True


class ImportOut(BaseModel):
    """`state`: queued, running, succeeded, failed or cancelled."""

    id: str
    project: str
    dataset: str
    source: str
    state: str
    version: str | None
    rows: int
    files: int
    size_bytes: int
    detail: str
    remedy: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


class NodeOut(BaseModel):
    kind: str
    id: str
    label: str


class EdgeOut(BaseModel):
    source: str  # "kind:id"
    target: str
    relation: str
    created_at: datetime


class LineageOut(BaseModel):
    """A graph: `edges` join nodes by "kind:id", from what was used to what came of it."""

    nodes: list[NodeOut]
    edges: list[EdgeOut]
    truncated: bool = False


class DiffOut(BaseModel):
    before: VersionRow
    after: VersionRow
    files: dict[str, Any]
    columns: dict[str, Any]
    rows: dict[str, Any] | None
    statistics: dict[str, Any]
