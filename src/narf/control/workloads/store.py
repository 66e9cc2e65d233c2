"""Tables and SQL of workloads, their attempts and their history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Row,
    String,
    Table,
    Text,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from narf.backends.protocol import Replica
from narf.control.database import Timestamp, metadata
from narf.domain.workload import EndReason, Program, Resources, Workload, WorkloadKind, WorkloadState

workloads = Table(
    "workloads",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("owner", String(63), nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", String(31), nullable=False),
    Column("state", String(16), nullable=False),
    Column("parent", String(120), nullable=False, default=""),
    Column("resources", Text, nullable=False),
    Column("program", Text, nullable=False),
    Column("replicas", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("preemptible", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("run_id", String(32)),
    Column("time_limit_seconds", Float),
    Column("max_retries", Integer, nullable=False),
    Column("webhook", Text, nullable=False, default=""),
    Column("created_at", Timestamp, nullable=False),
    Column("queued_at", Timestamp),
    Column("started_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("end_reason", String(31)),
    Column("exit_code", Integer),
    Column("detail", Text, nullable=False, default=""),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("used_seconds", Float, nullable=False, default=0.0),
    Column("labels", Text, nullable=False, default="{}"),
    Column("version", Integer, nullable=False),
    Index("ix_workloads_project_created", "project", "created_at", "id"),
    Index("ix_workloads_state", "state"),
    Index("ix_workloads_parent", "parent"),
    Index("ix_workloads_run_id", "run_id"),
)
attempts = Table(
    "attempts",
    metadata,
    Column("workload_id", String(40), ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("backend", String(63), nullable=False),
    Column("placement", Text, nullable=False),
    Column("admitted_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("ended_at", Timestamp),
    Column("reason", String(31)),
    Column("exit_code", Integer),
    Column("detail", Text, nullable=False, default=""),
    Column("cpu_seconds", Float, nullable=False, default=0.0),
    Column("peak_memory_bytes", BigInteger, nullable=False, default=0),
    PrimaryKeyConstraint("workload_id", "attempt"),
)
workload_events = Table(
    "workload_events",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("workload_id", String(40), ForeignKey("workloads.id", ondelete="CASCADE"), nullable=False),
    Column("at", Timestamp, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("sentence", Text, nullable=False),
    Index("ix_workload_events_workload", "workload_id", "id"),
)
holds = Table(
    "holds",  # capacity that the newest plan keeps for a waiting workload
    metadata,
    Column("workload_id", String(40), ForeignKey("workloads.id", ondelete="CASCADE"), primary_key=True),
    Column("placement", Text, nullable=False),
)
idempotency = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(200), nullable=False),
    Column("user", String(63), nullable=False),
    Column("object_id", String(40), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("key", "user"),
)


_AT_ONCE = 1000  # parameters of one statement


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    workload_id: str
    attempt: int
    backend: str
    placement: tuple[Replica, ...]
    admitted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: EndReason | None = None
    exit_code: int | None = None
    detail: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    id: int
    workload_id: str
    at: datetime
    attempt: int
    state: WorkloadState
    sentence: str


def add(connection: Connection, workload: Workload) -> None:
    connection.execute(_ADD, _row(workload))
    _add_event(connection, workload, workload.created_at)


def save(connection: Connection, workload: Workload, at: datetime) -> Workload | None:
    """Write `workload` if nobody changed it since it was loaded; None if somebody did.

    A change of state, or of what is said about it, is added to the history.
    """
    saved = replace(workload, version=workload.version + 1)
    before = connection.execute(_BEFORE, {"of": workload.id}).first()
    if connection.execute(_SAVE, _row(saved) | {"of": workload.id, "loaded": workload.version}).rowcount != 1:
        return None
    if before is None or (before.state, before.attempt) != (saved.state.value, saved.attempt):
        _add_event(connection, saved, at)
    return saved


def find(connection: Connection, workload_id: str) -> Workload | None:
    row = connection.execute(_OF_IDS, {"ids": [workload_id]}).mappings().first()
    return _workload(dict(row)) if row else None


def find_by_run(connection: Connection, run_id: str) -> Workload | None:
    query = select(workloads).where(workloads.c.run_id == run_id).order_by(workloads.c.created_at.desc())
    row = connection.execute(query).mappings().first()
    return _workload(dict(row)) if row else None


def project_of(connection: Connection, workload_id: str) -> str | None:
    return connection.execute(select(workloads.c.project).where(workloads.c.id == workload_id)).scalar()


def in_states(connection: Connection, states: Sequence[WorkloadState], *, parent: str | None = None) -> list[Workload]:
    """All in one of `states`, oldest first."""
    query = select(workloads).where(workloads.c.state.in_([s.value for s in states])).order_by(workloads.c.created_at, workloads.c.id)
    if parent is not None:
        query = query.where(workloads.c.parent == parent)
    return [_workload(dict(row)) for row in connection.execute(query).mappings()]


def submitted_since(connection: Connection, at: datetime, limit: int) -> list[Workload]:
    """The newest submitted after `at`, at most `limit`, whatever became of them."""
    query = select(workloads).where(workloads.c.created_at > at).order_by(workloads.c.created_at.desc()).limit(limit)
    return [_workload(dict(row)) for row in connection.execute(query).mappings()]


def versions(connection: Connection, states: Sequence[WorkloadState]) -> Sequence[Row[tuple[str, int]]]:
    """(id, version) of all in one of `states`, oldest first."""
    return connection.execute(_VERSIONS, {"states": [s.value for s in states]}).all()


def of_ids(connection: Connection, workload_ids: Sequence[str]) -> list[Workload]:
    found = []
    for first in range(0, len(workload_ids), _AT_ONCE):
        rows = connection.execute(_OF_IDS, {"ids": workload_ids[first : first + _AT_ONCE]})
        found += [_workload(dict(row)) for row in rows.mappings()]
    return found


def save_all(connection: Connection, wanted: Sequence[Workload], at: datetime) -> list[Workload]:
    """As `save` for each, of those whose state or attempt changes; those that somebody changed meanwhile are left out."""
    saved = []
    for workload in wanted:
        made = replace(workload, version=workload.version + 1)
        if connection.execute(_SAVE, _row(made) | {"of": workload.id, "loaded": workload.version}).rowcount == 1:
            saved.append(made)
    if saved:
        connection.execute(_ADD_EVENT, [_event_row(workload, at) for workload in saved])
    return saved


def unfinished(connection: Connection, workload_ids: Sequence[str]) -> set[str]:
    open_states = [state.value for state in WorkloadState if not state.is_finished]
    query = select(workloads.c.id).where(workloads.c.id.in_(workload_ids), workloads.c.state.in_(open_states))
    return set(connection.execute(query).scalars())


def of_parent(connection: Connection, parent: str) -> list[Workload]:
    query = select(workloads).where(workloads.c.parent == parent).order_by(workloads.c.created_at, workloads.c.id)
    return [_workload(dict(row)) for row in connection.execute(query).mappings()]


def list_page(
    connection: Connection,
    project: str,
    *,
    states: Sequence[WorkloadState] = (),
    kinds: Sequence[WorkloadKind] = (),
    owner: str = "",
    text: str = "",
    before: tuple[datetime, str] | None = None,
    limit: int = 50,
) -> list[Workload]:
    """Newest first."""
    query = select(workloads).where(workloads.c.project == project)
    if states:
        query = query.where(workloads.c.state.in_([state.value for state in states]))
    if kinds:
        query = query.where(workloads.c.kind.in_([kind.value for kind in kinds]))
    if owner:
        query = query.where(workloads.c.owner == owner)
    if text:
        query = query.where(or_(workloads.c.name.icontains(text, autoescape=True), workloads.c.id == text))
    if before is not None:
        at, last_id = before
        query = query.where(or_(workloads.c.created_at < at, and_(workloads.c.created_at == at, workloads.c.id < last_id)))
    query = query.order_by(workloads.c.created_at.desc(), workloads.c.id.desc()).limit(limit)
    return [_workload(dict(row)) for row in connection.execute(query).mappings()]


def count_by_state(connection: Connection, project: str | None = None) -> dict[WorkloadState, int]:
    query = select(workloads.c.state, func.count()).group_by(workloads.c.state)
    if project is not None:
        query = query.where(workloads.c.project == project)
    return {WorkloadState(state): count for state, count in connection.execute(query)}


def snapshots_in_use(connection: Connection) -> set[str]:
    """The code snapshots that some workload ran in or will run in."""
    programs = connection.execute(select(workloads.c.program)).scalars()
    return {snapshot for text in programs if (snapshot := json.loads(text)["snapshot"])}


def add_attempts(connection: Connection, made: Sequence[Attempt]) -> None:
    rows = [
        {
            "workload_id": attempt.workload_id,
            "attempt": attempt.attempt,
            "backend": attempt.backend,
            "placement": _placement_text(attempt.placement),
            "admitted_at": attempt.admitted_at,
        }
        for attempt in made
    ]
    if rows:
        connection.execute(_ADD_ATTEMPT, rows)


def start_attempt(connection: Connection, workload_id: str, attempt: int, started_at: datetime) -> None:
    connection.execute(_SAVE_ATTEMPT, {"of": workload_id, "numbered": attempt, "started_at": started_at})


def end_attempt(
    connection: Connection,
    workload_id: str,
    attempt: int,
    *,
    started_at: datetime | None,
    ended_at: datetime,
    reason: EndReason,
    exit_code: int | None,
    detail: str,
    cpu_seconds: float,
    peak_memory_bytes: int,
) -> None:
    values = {
        "of": workload_id, "numbered": attempt, "started_at": started_at, "ended_at": ended_at, "reason": reason.value, "exit_code": exit_code,
        "detail": detail, "cpu_seconds": cpu_seconds, "peak_memory_bytes": peak_memory_bytes,
    }  # fmt: skip
    connection.execute(_SAVE_ATTEMPT, values)


def attempts_of(connection: Connection, workload_ids: Sequence[str]) -> dict[str, list[Attempt]]:
    """The attempts of each, first to last."""
    found: dict[str, list[Attempt]] = {workload_id: [] for workload_id in workload_ids}
    for first in range(0, len(workload_ids), _AT_ONCE):
        for row in connection.execute(_ATTEMPTS, {"ids": workload_ids[first : first + _AT_ONCE]}).mappings():
            found[row["workload_id"]].append(_attempt(dict(row)))
    return found


def events_of(connection: Connection, workload_id: str) -> list[Event]:
    query = select(workload_events).where(workload_events.c.workload_id == workload_id).order_by(workload_events.c.id)
    return [Event(**{**row, "state": WorkloadState(row["state"])}) for row in connection.execute(query).mappings()]


def holds_now(connection: Connection) -> dict[str, tuple[Replica, ...]]:
    """What is kept for each waiting workload."""
    return {row.workload_id: _placement(row.placement) for row in connection.execute(_HOLDS)}


def replace_holds(connection: Connection, wanted: Mapping[str, Sequence[Replica]]) -> None:
    connection.execute(delete(holds))
    if wanted:
        rows = [{"workload_id": workload_id, "placement": _placement_text(placed)} for workload_id, placed in wanted.items()]
        connection.execute(insert(holds), rows)


def find_by_key(connection: Connection, user: str, key: str) -> str | None:
    """The object that an earlier request with this idempotency key made."""
    query = select(idempotency.c.object_id).where(idempotency.c.key == key, idempotency.c.user == user)
    return connection.execute(query).scalar()


def keep_key(connection: Connection, user: str, key: str, object_id: str, at: datetime) -> None:
    connection.execute(insert(idempotency).values(key=key, user=user, object_id=object_id, created_at=at))


def _add_event(connection: Connection, workload: Workload, at: datetime) -> None:
    connection.execute(_ADD_EVENT, _event_row(workload, at))


def _event_row(workload: Workload, at: datetime) -> dict[str, Any]:
    return {
        "workload_id": workload.id, "at": at, "attempt": workload.attempt, "state": workload.state.value, "sentence": workload.sentence(),
    }  # fmt: skip


# Made once: to put a statement of 25 columns together anew costs as much as to execute it.
_ADD, _ADD_EVENT = insert(workloads), insert(workload_events)
_ADD_ATTEMPT, _HOLDS = insert(attempts), select(holds)
_VERSIONS = (
    select(workloads.c.id, workloads.c.version)
    .where(workloads.c.state.in_(bindparam("states", expanding=True)))
    .order_by(workloads.c.created_at, workloads.c.id)
)
_OF_IDS = select(workloads).where(workloads.c.id.in_(bindparam("ids", expanding=True)))
_ATTEMPTS = select(attempts).where(attempts.c.workload_id.in_(bindparam("ids", expanding=True))).order_by(attempts.c.attempt)
_SAVE_ATTEMPT = update(attempts).where(attempts.c.workload_id == bindparam("of"), attempts.c.attempt == bindparam("numbered"))
_BEFORE = select(workloads.c.state, workloads.c.attempt).where(workloads.c.id == bindparam("of"))
_SAVE = update(workloads).where(workloads.c.id == bindparam("of"), workloads.c.version == bindparam("loaded"))
_PLAIN = (
    *("id", "project", "owner", "name", "parent", "replicas", "priority", "preemptible", "attempt", "failures", "run_id"),
    *("time_limit_seconds", "max_retries", "webhook", "created_at", "queued_at", "started_at", "ended_at", "exit_code", "detail"),
    *("cancel_requested", "used_seconds", "version"),
)


def _row(workload: Workload) -> dict[str, Any]:
    return {name: getattr(workload, name) for name in _PLAIN} | {
        "kind": workload.kind.value,
        "state": workload.state.value,
        "end_reason": workload.end_reason.value if workload.end_reason else None,
        "resources": json.dumps(asdict(workload.resources)),
        "program": json.dumps(asdict(workload.program)),
        "labels": json.dumps(dict(workload.labels)),
    }


def _workload(row: dict[str, Any]) -> Workload:
    resources = json.loads(row["resources"])
    resources["node_selector"] = tuple((key, value) for key, value in resources["node_selector"])
    program: dict[str, Any] = {
        key: tuple(map(_frozen, value)) if isinstance(value, list) else value for key, value in json.loads(row["program"]).items()
    }
    return Workload(
        **{name: row[name] for name in _PLAIN},
        kind=WorkloadKind(row["kind"]),
        state=WorkloadState(row["state"]),
        end_reason=EndReason(row["end_reason"]) if row["end_reason"] else None,
        resources=Resources(**resources),
        program=Program(**program),
        labels=tuple(sorted(json.loads(row["labels"]).items())),
    )


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _attempt(row: dict[str, Any]) -> Attempt:
    reason = EndReason(row["reason"]) if row["reason"] else None
    return Attempt(**{**row, "placement": _placement(row["placement"]), "reason": reason})


def _placement(text: str) -> tuple[Replica, ...]:
    return tuple(Replica(node=r["node"], gpu_indices=tuple(r["gpu_indices"]), gpu_fraction=r["gpu_fraction"]) for r in json.loads(text))


def _placement_text(placed: Sequence[Replica]) -> str:
    return json.dumps([asdict(replica) for replica in placed])
