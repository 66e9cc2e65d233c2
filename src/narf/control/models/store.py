"""Tables and SQL of serving packages: one for each model version that was registered here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, Column, Connection, Integer, String, Table, Text, UniqueConstraint, delete, insert, select, update

from narf.control.database import Timestamp, metadata

packages = Table(
    "model_packages",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(63), nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("workload_id", String(40)),
    Column("manifest", JSON),
    Column("size_bytes", Integer),
    Column("error", Text, nullable=False, default=""),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp),
    UniqueConstraint("project", "model", "version"),
)


class PackageState(StrEnum):
    PACKAGING = "packaging"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """manifest: `package.json`, once it is ready. error: why it failed, in a sentence."""

    id: str
    project: str
    model: str
    version: int
    state: PackageState
    created_by: str
    created_at: datetime
    workload_id: str | None = None
    manifest: dict[str, Any] | None = None
    size_bytes: int | None = None
    error: str = ""
    ended_at: datetime | None = None


def put(connection: Connection, package: Package) -> None:
    """Add it, in the place of an earlier package of the same version."""
    c = packages.c
    connection.execute(delete(packages).where(c.project == package.project, c.model == package.model, c.version == package.version))
    values = {name: getattr(package, name) for name in Package.__slots__}
    connection.execute(insert(packages).values(**values | {"state": package.state.value}))


def find(connection: Connection, project: str, model: str, version: int) -> Package | None:
    c = packages.c
    row = connection.execute(select(packages).where(c.project == project, c.model == model, c.version == version)).mappings().first()
    return _package(row) if row else None


def of_model(connection: Connection, project: str, model: str | None = None) -> list[Package]:
    query = select(packages).where(packages.c.project == project)
    if model is not None:
        query = query.where(packages.c.model == model)
    return [_package(row) for row in connection.execute(query).mappings()]


def in_state(connection: Connection, state: PackageState) -> list[Package]:
    return [_package(row) for row in connection.execute(select(packages).where(packages.c.state == state.value)).mappings()]


def finish(connection: Connection, package_id: str, state: PackageState, **values: Any) -> bool:
    """From packaging to an end, once; False if it had ended already."""
    c = packages.c
    where = (c.id == package_id, c.state == PackageState.PACKAGING.value)
    return connection.execute(update(packages).where(*where).values(state=state.value, **values)).rowcount == 1


def _package(row: Any) -> Package:
    return Package(**dict(row) | {"state": PackageState(row["state"])})
