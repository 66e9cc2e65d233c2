"""Tables and SQL of the shared cluster: quotas, past use, and what was decided about each workload and why."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    Index,
    Integer,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    or_,
    select,
    update,
)

from narf.control.database import Timestamp, metadata

queue_quotas = Table(
    "queue_quotas",
    metadata,
    Column("queue", String(80), primary_key=True),
    Column("parent", String(80)),
    Column("quota", Text, nullable=False),
    Column("most", Text, nullable=False),
    Column("weight", Float, nullable=False),
    Column("changed_at", Timestamp, nullable=False),
)
queue_usage = Table(
    "queue_usage",
    metadata,
    Column("queue", String(80), primary_key=True),
    Column("gpu_seconds", Float, nullable=False),
    Column("at", Timestamp, nullable=False),
)
clusters = Table(
    "clusters",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("may_grow", Boolean, nullable=False),
    Column("added_by", String(63), nullable=False),
    Column("added_at", Timestamp, nullable=False),
)
# A row for each reason that a workload waited for, from when to when; and one for each admission and preemption.
scheduling_decisions = Table(
    "scheduling_decisions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("workload_id", String(40), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("reason", String(31), nullable=False),
    Column("from_at", Timestamp, nullable=False),
    Column("until_at", Timestamp),
    Column("detail", Text, nullable=False),
    Index("ix_scheduling_decisions_workload", "workload_id", "id"),
)

_AT_ONCE = 500  # parameters of one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueQuota:
    """What one queue is guaranteed and may hold at most. A department is named "department:<name>"."""

    queue: str
    parent: str | None = None
    quota: Mapping[str, float] = field(default_factory=dict)
    limit: Mapping[str, float] = field(default_factory=dict)
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """kind: "waiting", "admitted" or "preempted"; detail: the operands of the reason."""

    workload: str
    kind: str
    reason: str
    from_at: datetime
    until_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Connected:
    """A cluster that was connected. may_grow: it gets more nodes by itself when they are asked for."""

    name: str
    kind: str
    address: str
    may_grow: bool = False
    added_by: str = ""
    added_at: datetime | None = None


def list_clusters(connection: Connection) -> list[Connected]:
    return [Connected(**row) for row in connection.execute(select(clusters).order_by(clusters.c.name)).mappings()]


def add_cluster(connection: Connection, cluster: Connected) -> None:
    connection.execute(insert(clusters).values(**asdict(cluster)))


def remove_cluster(connection: Connection, name: str) -> None:
    connection.execute(delete(clusters).where(clusters.c.name == name))


def list_quotas(connection: Connection) -> list[QueueQuota]:
    rows = connection.execute(_QUOTAS).mappings()
    return [
        QueueQuota(
            queue=row["queue"], parent=row["parent"], quota=_amounts(row["quota"]), limit=_amounts(row["most"]), weight=row["weight"]
        )
        for row in rows
    ]


@lru_cache(maxsize=4096)
def _amounts(text: str) -> Mapping[str, float]:
    """Read only: all rows with this text share it."""
    return MappingProxyType(json.loads(text))


def set_quota(connection: Connection, wanted: QueueQuota, at: datetime) -> None:
    connection.execute(delete(queue_quotas).where(queue_quotas.c.queue == wanted.queue))
    connection.execute(
        insert(queue_quotas).values(
            queue=wanted.queue, parent=wanted.parent, quota=json.dumps(dict(wanted.quota)), most=json.dumps(dict(wanted.limit)),
            weight=wanted.weight, changed_at=at,
        )
    )  # fmt: skip


def remove_quota(connection: Connection, queue: str) -> bool:
    return connection.execute(delete(queue_quotas).where(queue_quotas.c.queue == queue)).rowcount == 1


def usage(connection: Connection) -> dict[str, tuple[float, datetime]]:
    return {row.queue: (row.gpu_seconds, row.at) for row in connection.execute(_USAGE)}


def set_usage(connection: Connection, gpu_seconds: Mapping[str, float], at: datetime) -> None:
    """The past use of each of these queues, as of `at`."""
    known = set(connection.execute(select(queue_usage.c.queue)).scalars())
    rows = [{"of": queue, "queue": queue, "gpu_seconds": seconds, "at": at} for queue, seconds in gpu_seconds.items()]
    if old := [{name: row[name] for name in ("of", "gpu_seconds", "at")} for row in rows if row["queue"] in known]:
        connection.execute(_SET_USAGE, old)
    if new := [{name: row[name] for name in ("queue", "gpu_seconds", "at")} for row in rows if row["queue"] not in known]:
        connection.execute(insert(queue_usage), new)


# Made once: every plan begins with them.
_QUOTAS = select(queue_quotas).order_by(queue_quotas.c.queue)
_USAGE = select(queue_usage)
_SET_USAGE = update(queue_usage).where(queue_usage.c.queue == bindparam("of"))


_ADD_DECIDED = insert(scheduling_decisions)
_END_WAITS = (
    update(scheduling_decisions)
    .where(scheduling_decisions.c.workload_id.in_(bindparam("ids", expanding=True)), scheduling_decisions.c.until_at.is_(None))
    .values(until_at=bindparam("at"))
)


def end_waits(connection: Connection, workloads: Sequence[str], at: datetime) -> None:
    """Ends the wait that each of these is in, if it is in one."""
    for first in range(0, len(workloads), _AT_ONCE):
        connection.execute(_END_WAITS, {"ids": workloads[first : first + _AT_ONCE], "at": at})


def add_decided(connection: Connection, rows: Sequence[Decided]) -> None:
    if not rows:
        return
    values = [
        {
            "workload_id": row.workload, "kind": row.kind, "reason": row.reason, "from_at": row.from_at,
            "until_at": None if row.kind == "waiting" else row.from_at, "detail": json.dumps(dict(row.detail)),
        }
        for row in rows
    ]  # fmt: skip
    connection.execute(_ADD_DECIDED, values)


def decided_of(connection: Connection, workload: str, *, after: datetime | None = None, before: datetime | None = None) -> list[Decided]:
    """Oldest first; only what was between `after` and `before`."""
    query = select(scheduling_decisions).where(scheduling_decisions.c.workload_id == workload).order_by(scheduling_decisions.c.id)
    if after is not None:
        query = query.where(or_(scheduling_decisions.c.until_at.is_(None), scheduling_decisions.c.until_at > after))
    if before is not None:
        query = query.where(scheduling_decisions.c.from_at < before)
    return [
        Decided(
            workload=row["workload_id"], kind=row["kind"], reason=row["reason"], from_at=row["from_at"], until_at=row["until_at"],
            detail=json.loads(row["detail"]),
        )
        for row in connection.execute(query).mappings()
    ]  # fmt: skip


def open_waits(connection: Connection) -> dict[str, str]:
    """The reason that each waiting workload has now."""
    query = select(scheduling_decisions.c.workload_id, scheduling_decisions.c.reason).where(scheduling_decisions.c.until_at.is_(None))
    return {row.workload_id: row.reason for row in connection.execute(query)}
