"""Tables and SQL of datasets, their versions and tags."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from narf.control.database import Timestamp, metadata

datasets = Table(
    "datasets",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("updated_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)
versions = Table(
    "dataset_versions",
    metadata,
    Column("project", String(63), nullable=False),
    Column("dataset", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("id", String(64), nullable=False),  # the hash of the content
    Column("manifest", String(64), nullable=False),  # the object that lists the files
    Column("kind", String(15), nullable=False),
    Column("format", String(15), nullable=False),
    Column("files", Integer, nullable=False),
    Column("rows", BigInteger),
    Column("size_bytes", BigInteger, nullable=False),
    Column("columns", Text, nullable=False),
    Column("statistics", Text, nullable=False),
    Column("provenance", Text, nullable=False),
    Column("checks", Text, nullable=False),
    Column("iceberg", Text),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("removed_at", Timestamp),
    PrimaryKeyConstraint("project", "dataset", "number"),
    ForeignKeyConstraint(["project", "dataset"], ["datasets.project", "datasets.name"]),
    Index("ix_dataset_versions_id", "id"),
)
tags = Table(
    "dataset_tags",
    metadata,
    Column("project", String(63), nullable=False),
    Column("dataset", String(63), nullable=False),
    Column("tag", String(63), nullable=False),
    Column("number", Integer, nullable=False),
    Column("set_by", String(63), nullable=False),
    Column("set_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("project", "dataset", "tag"),
    ForeignKeyConstraint(["project", "dataset"], ["datasets.project", "datasets.name"]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    project: str
    name: str
    description: str
    created_by: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetVersion:
    """One immutable version. `iceberg`: where the table is catalogued and which snapshot it is, if it is one."""

    project: str
    dataset: str
    number: int
    id: str
    manifest: str
    kind: str
    format: str
    files: int
    rows: int | None
    size_bytes: int
    columns: Sequence[Mapping[str, Any]]
    statistics: Mapping[str, Any]
    provenance: Mapping[str, Any]
    checks: Sequence[Mapping[str, Any]]
    iceberg: Mapping[str, Any] | None
    created_by: str
    created_at: datetime
    removed_at: datetime | None = None
    tags: tuple[str, ...] = field(default=())

    @property
    def name(self) -> str:
        return f"{self.dataset}@v{self.number}"

    @property
    def node(self) -> str:
        """Its id in the lineage graph."""
        return f"{self.project}/{self.name}"


_JSON = ("columns", "statistics", "provenance", "checks", "iceberg")


def add_dataset(connection: Connection, dataset: Dataset) -> None:
    connection.execute(insert(datasets).values({c.name: getattr(dataset, c.name) for c in datasets.columns}))


def find_dataset(connection: Connection, project: str, name: str, *, lock: bool = False) -> Dataset | None:
    """`lock`: nobody else can add a version until this transaction ends."""
    query = select(datasets).where(datasets.c.project == project, datasets.c.name == name)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    return Dataset(**row) if row else None


def list_datasets(connection: Connection, project: str, *, after: str = "", limit: int = 50, text: str = "") -> list[Dataset]:
    """In order of name."""
    query = select(datasets).where(datasets.c.project == project, datasets.c.name > after).order_by(datasets.c.name).limit(limit)
    if text:
        query = query.where(datasets.c.name.contains(text, autoescape=True))
    return [Dataset(**row) for row in connection.execute(query).mappings()]


def change_dataset(connection: Connection, project: str, name: str, **values: object) -> None:
    connection.execute(update(datasets).where(datasets.c.project == project, datasets.c.name == name).values(**values))


def add_version(connection: Connection, version: DatasetVersion) -> None:
    row = {c.name: getattr(version, c.name) for c in versions.columns}
    for column in _JSON:
        row[column] = None if row[column] is None else json.dumps(row[column], ensure_ascii=False, default=str)
    connection.execute(insert(versions).values(row))


def set_iceberg(connection: Connection, version: DatasetVersion, iceberg: Mapping[str, Any]) -> None:
    connection.execute(update(versions).where(*_same(version)).values(iceberg=json.dumps(dict(iceberg))))


def find_unpinned(connection: Connection) -> list[DatasetVersion]:
    """Parquet tables that are not in the Iceberg catalogue yet."""
    where = (versions.c.format == "parquet", versions.c.iceberg.is_(None), versions.c.removed_at.is_(None))
    return _all(connection, select(versions).where(*where).order_by(versions.c.created_at).limit(20))


def find_version(connection: Connection, project: str, dataset: str, number: int) -> DatasetVersion | None:
    where = (versions.c.project == project, versions.c.dataset == dataset, versions.c.number == number)
    return _first(connection, select(versions).where(*where))


def find_latest(connection: Connection, project: str, dataset: str) -> DatasetVersion | None:
    where = (versions.c.project == project, versions.c.dataset == dataset, versions.c.removed_at.is_(None))
    return _first(connection, select(versions).where(*where).order_by(versions.c.number.desc()).limit(1))


def find_tagged(connection: Connection, project: str, dataset: str, tag: str) -> DatasetVersion | None:
    query = select(tags.c.number).where(tags.c.project == project, tags.c.dataset == dataset, tags.c.tag == tag)
    number = connection.execute(query).scalar()
    return None if number is None else find_version(connection, project, dataset, number)


def find_by_id(connection: Connection, project: str, dataset: str, prefix: str) -> DatasetVersion | None:
    """The newest version whose content hash begins so."""
    where = (versions.c.project == project, versions.c.dataset == dataset, versions.c.id.startswith(prefix, autoescape=True))
    return _first(connection, select(versions).where(*where).order_by(versions.c.number.desc()).limit(1))


def last_number(connection: Connection, project: str, dataset: str) -> int:
    query = select(func.max(versions.c.number)).where(versions.c.project == project, versions.c.dataset == dataset)
    return connection.execute(query).scalar() or 0


def list_versions(
    connection: Connection, project: str, dataset: str, *, before: int | None = None, limit: int = 50, removed: bool = False
) -> list[DatasetVersion]:
    """Newest first."""
    query = select(versions).where(versions.c.project == project, versions.c.dataset == dataset).order_by(versions.c.number.desc())
    if before is not None:
        query = query.where(versions.c.number < before)
    if not removed:
        query = query.where(versions.c.removed_at.is_(None))
    return _all(connection, query.limit(limit))


def count_versions(connection: Connection, project: str, dataset: str) -> int:
    where = (versions.c.project == project, versions.c.dataset == dataset, versions.c.removed_at.is_(None))
    return connection.execute(select(func.count()).where(*where)).scalar() or 0


def remove_version(connection: Connection, version: DatasetVersion, at: datetime) -> None:
    """Its content may be swept; that it was there, and what it came from, stays known."""
    connection.execute(update(versions).where(*_same(version)).values(removed_at=at))


def live_manifests(connection: Connection) -> set[str]:
    return set(connection.execute(select(versions.c.manifest).where(versions.c.removed_at.is_(None)).distinct()).scalars())


def set_tag(connection: Connection, version: DatasetVersion, tag: str, *, by: str, at: datetime) -> None:
    remove_tag(connection, version.project, version.dataset, tag)
    row = {"project": version.project, "dataset": version.dataset, "tag": tag, "number": version.number, "set_by": by, "set_at": at}
    connection.execute(insert(tags).values(row))


def remove_tag(connection: Connection, project: str, dataset: str, tag: str) -> bool:
    where = (tags.c.project == project, tags.c.dataset == dataset, tags.c.tag == tag)
    return connection.execute(delete(tags).where(*where)).rowcount == 1


def tags_of(connection: Connection, project: str, dataset: str) -> dict[str, int]:
    query = select(tags.c.tag, tags.c.number).where(tags.c.project == project, tags.c.dataset == dataset).order_by(tags.c.tag)
    return {row.tag: row.number for row in connection.execute(query)}


def _same(version: DatasetVersion) -> tuple[Any, ...]:
    return (versions.c.project == version.project, versions.c.dataset == version.dataset, versions.c.number == version.number)


def _first(connection: Connection, query: Any) -> DatasetVersion | None:
    found = _all(connection, query)
    return found[0] if found else None


def _all(connection: Connection, query: Any) -> list[DatasetVersion]:
    found = []
    tagged: dict[tuple[str, str], dict[str, int]] = {}
    for row in connection.execute(query).mappings().all():
        key = (row["project"], row["dataset"])
        if key not in tagged:
            tagged[key] = tags_of(connection, *key)
        named = tuple(tag for tag, number in tagged[key].items() if number == row["number"])
        values = {name: json.loads(value) if name in _JSON and value is not None else value for name, value in row.items()}
        found.append(DatasetVersion(**values, tags=named))
    return found
