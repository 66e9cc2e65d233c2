"""The audit log: every change, who made it, to what. Rows are only ever added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, Text, insert, select

from narf.control.database import CHANGES, Timestamp, metadata

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("at", Timestamp, nullable=False),
    Column("who", String(63), nullable=False),
    Column("action", String(63), nullable=False),
    Column("kind", String(31), nullable=False),
    Column("name", Text, nullable=False),
    Column("project", String(63)),
    Column("detail", Text, nullable=False, default="{}"),
    Index("ix_audit_project", "project", "id"),
)


_ADD = insert(audit)  # made once: it is part of every change


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    at: datetime
    who: str
    action: str
    kind: str
    name: str
    project: str | None
    detail: dict[str, Any]
    id: int = 0


def record(
    connection: Connection, at: datetime, who: str, action: str, kind: str, name: str, *, project: str | None = None, **detail: Any
) -> None:
    """Write one entry, in the transaction of the change itself: neither exists without the other."""
    if project is not None:
        connection.info.setdefault(CHANGES, []).append((project, kind, name))
    said = json.dumps(detail, default=str, sort_keys=True)
    row = {"at": at, "who": who, "action": action, "kind": kind, "name": name, "project": project, "detail": said}
    connection.execute(_ADD, row)


def list_entries(connection: Connection, *, project: str | None, before: int | None, limit: int) -> list[Entry]:
    """Newest first; those with an id below `before`."""
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if project is not None:
        query = query.where(audit.c.project == project)
    if before is not None:
        query = query.where(audit.c.id < before)
    return [Entry(**{**row, "detail": json.loads(row["detail"])}) for row in connection.execute(query).mappings()]
