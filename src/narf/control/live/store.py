"""Table and SQL of live events: what happened, in one order, kept for a day so that a page that was away can catch up."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, Text, bindparam, delete, func, insert, select, text

from narf.control.database import Timestamp, metadata
from narf.control.live.recent import Event

live_events = Table(
    "live_events",
    metadata,
    Column("cursor", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("topic", String(300), nullable=False),
    Column("payload", Text, nullable=False),
    Column("at", Timestamp, nullable=False),
    Index("ix_live_events_topic_cursor", "topic", "cursor"),
    sqlite_autoincrement=True,  # a cursor is never given twice, also after the newest rows were deleted
)
_ORDER_LOCK = 0x4E415246  # on PostgreSQL: cursors must become visible in the order in which they were given

# Made once: every change of anything is an event.
_e = live_events.c
_ADD = insert(live_events)
_AFTER = (
    select(_e.cursor, _e.topic, _e.payload)
    .where(_e.cursor > bindparam("since"))
    .order_by(_e.cursor)
    .limit(bindparam("most", type_=Integer))
)
_AFTER_OF_TOPIC = _AFTER.where(_e.topic == bindparam("of"))


def add(connection: Connection, events: Sequence[tuple[str, str]], at: datetime) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ORDER_LOCK})
    connection.execute(_ADD, [{"topic": topic, "payload": payload, "at": at} for topic, payload in events])


def after(connection: Connection, cursor: int, *, topic: str | None = None, limit: int = 500) -> list[Event]:
    query = _AFTER if topic is None else _AFTER_OF_TOPIC
    return [Event(*row) for row in connection.execute(query, {"since": cursor, "most": limit, "of": topic})]


def bounds(connection: Connection) -> tuple[int, int]:
    """The first cursor that is kept and the last one given; (1, 0) before the first event."""
    first, last = connection.execute(select(func.min(live_events.c.cursor), func.max(live_events.c.cursor))).one()
    return (1, 0) if last is None else (first, last)


def forget(connection: Connection, *, before: datetime, keep: int) -> None:
    """Drop what is older than `before` and all but the last `keep`; the newest one always stays, for its cursor."""
    _, last = bounds(connection)
    old = (live_events.c.at < before) | (live_events.c.cursor <= last - keep)
    connection.execute(delete(live_events).where(old, live_events.c.cursor < last))
