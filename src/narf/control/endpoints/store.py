"""Tables and SQL of endpoints, revisions, replicas, what they answered, and what happened to them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    delete,
    false,
    func,
    insert,
    select,
    update,
)

from narf.control.database import Timestamp, metadata
from narf.control.endpoints.plan import ReplicaState, Role

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(63), nullable=False, index=True),
    Column("name", String(63), nullable=False, unique=True),
    Column("model", String(256), nullable=False),
    Column("alias", String(100), nullable=False, default=""),
    Column("least", Integer, nullable=False),
    Column("most", Integer, nullable=False),
    Column("target", Float, nullable=False),
    Column("idle_seconds", Float, nullable=False),
    Column("timeout_seconds", Float, nullable=False),
    Column("resources", JSON, nullable=False),
    Column("rollout", JSON, nullable=False),
    Column("webhook", Text, nullable=False, default=""),
    Column("public", Boolean, nullable=False, default=False),
    Column("shared", Boolean, nullable=False, server_default=false()),
    Column("keep", JSON, nullable=False, server_default="{}"),
    Column("step", Integer, nullable=False, default=0),
    Column("step_began", Timestamp),
    Column("trouble", Text, nullable=False, default=""),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("last_used", Timestamp),
)
revisions = Table(
    "endpoint_revisions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("endpoint_id", String(40), ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("model", String(256), nullable=False),
    Column("version", Integer, nullable=False),
    Column("package_id", String(40), nullable=False),
    Column("role", String(16), nullable=False),
    Column("weight", Float, nullable=False),
    Column("failures", Integer, nullable=False, default=0),
    Column("last_failure", Timestamp),
    Column("apart_until", Timestamp),
    Column("retired_at", Timestamp),
    Column("reason", Text, nullable=False, default=""),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
)
replicas = Table(
    "endpoint_replicas",
    metadata,
    Column("workload_id", String(40), primary_key=True),
    Column("endpoint_id", String(40), nullable=False, index=True),
    Column("revision_id", String(40), primary_key=True),
    Column("shared", Boolean, nullable=False, server_default=false()),
    Column("state", String(16), nullable=False),
    Column("url", Text, nullable=False, default=""),
    Column("created_at", Timestamp, nullable=False),
    Column("since", Timestamp, nullable=False),
)
events = Table(
    "endpoint_events",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("endpoint_id", String(40), ForeignKey("endpoints.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("at", Timestamp, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("sentence", Text, nullable=False),
    Column("by", String(63), nullable=False),
)
minutes = Table(
    "endpoint_minutes",
    metadata,
    Column("revision_id", String(40), primary_key=True),
    Column("minute", Timestamp, primary_key=True),
    Column("endpoint_id", String(40), nullable=False, index=True),
    Column("requests", Integer, nullable=False),
    Column("errors", Integer, nullable=False),
    Column("rejected", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("histogram", JSON, nullable=False),
)
prediction_chunks = Table(
    "prediction_chunks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("revision_id", String(40), nullable=False),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("records", LargeBinary, nullable=False),
    Index("ix_prediction_chunks_first_ms", "first_ms"),
)
payloads = Table(
    "endpoint_payloads",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("endpoint_id", String(40), nullable=False, index=True),
    Column("first_ms", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("count", Integer, nullable=False),
    Column("size_bytes", Integer, nullable=False),
    Column("name", String(80), nullable=False),
    Index("ix_endpoint_payloads_first_ms", "first_ms"),
)
observations = Table(
    "endpoint_observations",
    metadata,
    Column("revision_id", String(40), primary_key=True),
    Column("hour", Timestamp, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("inputs", JSON, nullable=False),
    Column("outputs", JSON, nullable=False),
)


baselines = Table(
    "endpoint_baselines",
    metadata,
    Column("revision_id", String(40), primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("summary", JSON, nullable=False),
    Column("features", JSON),
    Column("began_at", Timestamp, nullable=False),
    Column("made_at", Timestamp),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    id: str
    project: str
    name: str
    model: str
    alias: str
    least: int
    most: int
    target: float
    idle_seconds: float
    timeout_seconds: float
    resources: dict[str, Any]
    rollout: dict[str, Any]
    webhook: str
    public: bool
    created_by: str
    created_at: datetime
    keep: dict[str, Any] = field(default_factory=dict)  # which payloads: percent, errors, days, most_bytes
    shared: bool = False  # its replicas are parts of processes that hold other models, too
    step: int = 0
    step_began: datetime | None = None
    trouble: str = ""
    last_used: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    id: str
    endpoint_id: str
    number: int
    model: str
    version: int
    package_id: str
    role: Role
    weight: float
    created_by: str
    created_at: datetime
    failures: int = 0
    last_failure: datetime | None = None
    reason: str = ""
    apart_until: datetime | None = None  # it may share no process before
    retired_at: datetime | None = None  # when it lost its traffic to a newer one; None: never, or it was rolled back


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A revision in a workload. shared: others are in that workload, too."""

    workload_id: str
    endpoint_id: str
    revision_id: str
    state: ReplicaState
    created_at: datetime
    since: datetime
    url: str = ""
    shared: bool = False

    @property
    def id(self) -> str:
        return f"{self.workload_id}/{self.revision_id}" if self.shared else self.workload_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    id: int
    at: datetime
    kind: str
    sentence: str
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The first rows that a revision was asked for, where there is no training data. features: None until there are enough."""

    revision_id: str
    rows: int
    summary: dict[str, Any]
    began_at: datetime
    features: list[dict[str, Any]] | None = None
    made_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadBlock:
    """Payloads of one endpoint that were answered in these milliseconds, in one file."""

    id: int
    endpoint_id: str
    first_ms: int
    last_ms: int
    count: int
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Minute:
    revision_id: str
    minute: datetime
    requests: int
    errors: int
    rejected: int
    seconds: float
    histogram: list[int] = field(default_factory=list)


def add_endpoint(connection: Connection, endpoint: Endpoint) -> None:
    connection.execute(insert(endpoints).values(**{name: getattr(endpoint, name) for name in Endpoint.__slots__}))


def change_endpoint(connection: Connection, endpoint_id: str, **values: Any) -> None:
    connection.execute(update(endpoints).where(endpoints.c.id == endpoint_id).values(**values))


def find_endpoint(connection: Connection, *, endpoint_id: str = "", name: str = "") -> Endpoint | None:
    where = endpoints.c.id == endpoint_id if endpoint_id else endpoints.c.name == name
    row = connection.execute(select(endpoints).where(where)).mappings().first()
    return Endpoint(**row) if row else None


def list_endpoints(connection: Connection, project: str | None = None) -> list[Endpoint]:
    query = select(endpoints).order_by(endpoints.c.name)
    if project is not None:
        query = query.where(endpoints.c.project == project)
    return [Endpoint(**row) for row in connection.execute(query).mappings()]


def project_of(connection: Connection, endpoint_id: str) -> str | None:
    return connection.execute(select(endpoints.c.project).where(endpoints.c.id == endpoint_id)).scalar()


def delete_endpoint(connection: Connection, endpoint_id: str) -> None:
    mine = select(revisions.c.id).where(revisions.c.endpoint_id == endpoint_id).scalar_subquery()
    for table in (minutes, observations, baselines):
        connection.execute(delete(table).where(table.c.revision_id.in_(mine)))
    for table in (replicas, events, revisions):
        connection.execute(delete(table).where(table.c.endpoint_id == endpoint_id))
    connection.execute(delete(endpoints).where(endpoints.c.id == endpoint_id))


def add_revision(connection: Connection, revision: Revision) -> None:
    values = {name: getattr(revision, name) for name in Revision.__slots__} | {"role": revision.role.value}
    connection.execute(insert(revisions).values(**values))


def change_revision(connection: Connection, revision_id: str, **values: Any) -> None:
    connection.execute(update(revisions).where(revisions.c.id == revision_id).values(**values))


def revisions_of(connection: Connection, endpoint_ids: Sequence[str]) -> list[Revision]:
    query = select(revisions).where(revisions.c.endpoint_id.in_(endpoint_ids)).order_by(revisions.c.number)
    return [_revision(row) for row in connection.execute(query).mappings()]


def find_revision(connection: Connection, revision_id: str) -> Revision | None:
    row = connection.execute(select(revisions).where(revisions.c.id == revision_id)).mappings().first()
    return _revision(row) if row else None


def revisions_of_version(connection: Connection, model: str, version: int | None) -> list[Revision]:
    query = select(revisions).where(revisions.c.model == model)
    if version is not None:
        query = query.where(revisions.c.version == version)
    return [_revision(row) for row in connection.execute(query).mappings()]


def add_replica(connection: Connection, replica: Replica) -> None:
    values = {name: getattr(replica, name) for name in Replica.__slots__} | {"state": replica.state.value}
    connection.execute(insert(replicas).values(**values))


def change_replica(
    connection: Connection,
    replica: Replica,
    state: ReplicaState,
    now: datetime,
    *,
    url: str | None = None,
    only: Iterable[ReplicaState] = (),
) -> bool:
    """`only`: guards the change to replicas in one of these states."""
    query = update(replicas).where(replicas.c.workload_id == replica.workload_id, replicas.c.revision_id == replica.revision_id)
    allowed = [item.value for item in only]
    query = query.where(replicas.c.state.in_(allowed)) if allowed else query
    values: dict[str, Any] = {"state": state.value, "since": now}
    if url is not None:
        values["url"] = url
    return connection.execute(query.values(**values)).rowcount == 1


def remove_replica(connection: Connection, replica: Replica) -> None:
    connection.execute(delete(replicas).where(replicas.c.workload_id == replica.workload_id, replicas.c.revision_id == replica.revision_id))


def list_replicas(connection: Connection, endpoint_id: str | None = None) -> list[Replica]:
    query = select(replicas).order_by(replicas.c.created_at)
    if endpoint_id is not None:
        query = query.where(replicas.c.endpoint_id == endpoint_id)
    return [_replica(row) for row in connection.execute(query).mappings()]


def replicas_in(connection: Connection, workload_id: str) -> list[Replica]:
    """What a workload serves: one revision, or those that share it."""
    query = select(replicas).where(replicas.c.workload_id == workload_id).order_by(replicas.c.created_at)
    return [_replica(row) for row in connection.execute(query).mappings()]


def find_replica(connection: Connection, workload_id: str, revision_id: str = "") -> Replica | None:
    """revision_id: which one of a shared workload; "" where it has one."""
    found = replicas_in(connection, workload_id)
    found = [replica for replica in found if replica.revision_id == revision_id] if revision_id else found
    return found[0] if len(found) == 1 else None


def add_event(connection: Connection, endpoint_id: str, at: datetime, kind: str, sentence: str, by: str) -> None:
    connection.execute(insert(events).values(endpoint_id=endpoint_id, at=at, kind=kind, sentence=sentence[:2000], by=by))


def events_of(connection: Connection, endpoint_id: str, limit: int = 100) -> list[Event]:
    """Newest first."""
    query = select(events).where(events.c.endpoint_id == endpoint_id).order_by(events.c.id.desc()).limit(limit)
    return [Event(**{name: row[name] for name in Event.__slots__}) for row in connection.execute(query).mappings()]


def lock_revisions(connection: Connection, revision_ids: Collection[str]) -> None:
    """Until the transaction ends nobody else adds to what is known of these: several gateways and replicas report at once."""
    c = revisions.c
    connection.execute(select(c.id).where(c.id.in_(sorted(revision_ids))).order_by(c.id).with_for_update())


def add_minute(connection: Connection, endpoint_id: str, value: Minute) -> None:
    """Add to what is known of this minute."""
    c = minutes.c
    where = (c.revision_id == value.revision_id, c.minute == value.minute)
    row = connection.execute(select(minutes).where(*where)).mappings().first()
    if row is None:
        values = {name: getattr(value, name) for name in Minute.__slots__}
        connection.execute(insert(minutes).values(endpoint_id=endpoint_id, **values))
        return
    summed = [a + b for a, b in zip(row["histogram"], value.histogram, strict=True)]
    connection.execute(
        update(minutes)
        .where(*where)
        .values(
            requests=c.requests + value.requests,
            errors=c.errors + value.errors,
            rejected=c.rejected + value.rejected,
            seconds=c.seconds + value.seconds,
            histogram=summed,
        )
    )


def minutes_of(connection: Connection, endpoint_id: str, since: datetime) -> list[Minute]:
    query = select(minutes).where(minutes.c.endpoint_id == endpoint_id, minutes.c.minute >= since).order_by(minutes.c.minute)
    return [Minute(**{name: row[name] for name in Minute.__slots__}) for row in connection.execute(query).mappings()]


def add_chunk(connection: Connection, revision_id: str, first_ms: int, last_ms: int, count: int, records: bytes) -> None:
    connection.execute(
        insert(prediction_chunks).values(revision_id=revision_id, first_ms=first_ms, last_ms=last_ms, count=count, records=records)
    )


def chunks_around(connection: Connection, milliseconds: int) -> list[tuple[str, bytes]]:
    """(revision, records) of the chunks that may hold a prediction named at this time."""
    c = prediction_chunks.c
    query = select(c.revision_id, c.records).where(c.first_ms <= milliseconds, c.last_ms >= milliseconds)
    return [(row[0], row[1]) for row in connection.execute(query)]


def newest_chunks(connection: Connection, revision_ids: Sequence[str], limit: int) -> list[tuple[str, bytes]]:
    c = prediction_chunks.c
    query = select(c.revision_id, c.records).where(c.revision_id.in_(revision_ids)).order_by(c.id.desc()).limit(limit)
    return [(row[0], row[1]) for row in connection.execute(query)]


def add_payload_block(
    connection: Connection, endpoint_id: str, first_ms: int, last_ms: int, count: int, size_bytes: int, name: str
) -> None:
    values = {"endpoint_id": endpoint_id, "first_ms": first_ms, "last_ms": last_ms, "count": count, "size_bytes": size_bytes, "name": name}
    connection.execute(insert(payloads).values(**values))


def payload_blocks(
    connection: Connection, endpoint_id: str | None, *, around_ms: int | None = None, limit: int | None = None
) -> list[PayloadBlock]:
    """The oldest first. endpoint_id: None for all. around_ms: those that may hold a prediction named at this time."""
    query = select(payloads).order_by(payloads.c.id).limit(limit)
    if endpoint_id is not None:
        query = query.where(payloads.c.endpoint_id == endpoint_id)
    if around_ms is not None:
        query = query.where(payloads.c.first_ms <= around_ms, payloads.c.last_ms >= around_ms)
    return [PayloadBlock(**row) for row in connection.execute(query).mappings()]


def payload_bytes(connection: Connection, endpoint_id: str) -> int:
    return int(
        connection.execute(
            select(func.coalesce(func.sum(payloads.c.size_bytes), 0)).where(payloads.c.endpoint_id == endpoint_id)
        ).scalar_one()
    )


def payload_owners(connection: Connection) -> set[str]:
    """The endpoints of which something is kept."""
    return set(connection.execute(select(payloads.c.endpoint_id).distinct()).scalars())


def known_payload_names(connection: Connection, endpoint_id: str, names: Sequence[str]) -> set[str]:
    """Those of `names` that are files of blocks."""
    c = payloads.c
    return set(connection.execute(select(c.name).where(c.endpoint_id == endpoint_id, c.name.in_(names))).scalars())


def remove_payload_blocks(connection: Connection, block_ids: Sequence[int]) -> None:
    for start in range(0, len(block_ids), 500):
        connection.execute(delete(payloads).where(payloads.c.id.in_(block_ids[start : start + 500])))


def prune(connection: Connection, before: datetime) -> int:
    """Delete records, minutes and observations from before; how many chunks of records went."""
    connection.execute(delete(minutes).where(minutes.c.minute < before))
    connection.execute(delete(observations).where(observations.c.hour < before))
    return connection.execute(delete(prediction_chunks).where(prediction_chunks.c.last_ms < before.timestamp() * 1e3)).rowcount


def find_observation(connection: Connection, revision_id: str, hour: datetime) -> Any | None:
    c = observations.c
    return connection.execute(select(observations).where(c.revision_id == revision_id, c.hour == hour)).mappings().first()


def put_observation(
    connection: Connection, revision_id: str, hour: datetime, rows: int, inputs: dict[str, Any], outputs: dict[str, Any]
) -> None:
    c = observations.c
    connection.execute(delete(observations).where(c.revision_id == revision_id, c.hour == hour))
    connection.execute(insert(observations).values(revision_id=revision_id, hour=hour, rows=rows, inputs=inputs, outputs=outputs))


def find_baseline(connection: Connection, revision_id: str) -> Baseline | None:
    row = connection.execute(select(baselines).where(baselines.c.revision_id == revision_id)).mappings().first()
    return Baseline(**row) if row else None


def put_baseline(connection: Connection, baseline: Baseline) -> None:
    connection.execute(delete(baselines).where(baselines.c.revision_id == baseline.revision_id))
    connection.execute(insert(baselines).values(**{name: getattr(baseline, name) for name in Baseline.__slots__}))


def observations_of(connection: Connection, revision_ids: Sequence[str], since: datetime) -> list[Any]:
    c = observations.c
    query = select(observations).where(c.revision_id.in_(revision_ids), c.hour >= since).order_by(c.hour)
    return list(connection.execute(query).mappings())


def count_replicas(connection: Connection) -> dict[str, int]:
    """Replicas by state, for the metrics."""
    query = select(replicas.c.state, func.count()).group_by(replicas.c.state)
    return {row[0]: row[1] for row in connection.execute(query)}


def _revision(row: Any) -> Revision:
    return Revision(**dict(row) | {"role": Role(row["role"])})


def _replica(row: Any) -> Replica:
    return Replica(**dict(row) | {"state": ReplicaState(row["state"])})
