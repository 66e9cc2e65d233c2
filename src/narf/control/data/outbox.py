"""Tells enterprise catalogues what was registered here: written in the transaction of the event, delivered at least once.

Killed before the event commits: neither exists. Killed after: the row is there and is delivered by the next pass. Killed between
delivery and its note: it is delivered again under the same key, which the catalogue knows.
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Index, Integer, String, Table, Text, insert, select, update

from narf.control.database import Database, Timestamp, metadata
from narf.data.catalogue import Catalogue, Registered, Registration

outbox = Table(
    "catalogue_outbox",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("key", String(300), nullable=False, unique=True),
    Column("kind", String(31), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", String(127), nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("next_at", Timestamp, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("delivered_at", Timestamp),
    Column("error", Text, nullable=False, default=""),
    Index("ix_catalogue_outbox_due", "delivered_at", "next_at"),
)
_log = logging.getLogger(__name__)
_BATCH = 50


def enqueue(connection: Connection, registration: Registration, at: datetime) -> None:
    """In the caller's transaction. The same key twice is the same registration."""
    if connection.execute(select(outbox.c.id).where(outbox.c.key == registration.key)).first():
        return
    connection.execute(
        insert(outbox).values(
            key=registration.key,
            kind=registration.kind.value,
            name=registration.name,
            version=registration.version,
            body=json.dumps(dict(registration.body), ensure_ascii=False, default=str),
            created_at=at,
            next_at=at,
        )
    )


class CatalogueOutbox:
    """The reconciler that delivers. Registrations of one name arrive in their order: a later one waits for the earlier."""

    name = "catalogue"

    def __init__(self, database: Database, catalogue: Catalogue) -> None:
        self._database, self._catalogue = database, catalogue

    def register(self, registration: Registration, at: datetime) -> None:
        """For features that have no transaction of their own to put it in."""
        with self._database.write() as connection:
            enqueue(connection, registration, at)

    def pass_once(self, now: datetime) -> bool:
        with self._database.read() as connection:
            query = select(outbox).where(outbox.c.delivered_at.is_(None)).order_by(outbox.c.id).limit(1_000)
            waiting = [dict(row) for row in connection.execute(query).mappings()]
        held: set[tuple[str, str]] = set()
        delivered = 0
        for row in waiting:
            subject = (row["kind"], row["name"])
            if row["next_at"] > now or subject in held:
                held.add(subject)
                continue
            if self._deliver(row, now):
                delivered += 1
            else:
                held.add(subject)
            if delivered >= _BATCH:
                return True
        return False

    def next_look_seconds(self) -> float:
        return 10.0

    def _deliver(self, row: dict[str, Any], now: datetime) -> bool:
        registration = Registration(
            key=row["key"], kind=Registered(row["kind"]), name=row["name"], version=row["version"], body=json.loads(row["body"])
        )
        values: dict[str, Any] = {"delivered_at": now, "error": "", "attempts": row["attempts"] + 1}
        try:
            self._catalogue.register(registration)
        except Exception as error:  # the catalogue is somebody else's code: whatever it raises means "not now"
            _log.warning("the catalogue did not take %s: %s", row["key"], error)
            wait = min(3600.0, 5.0 * 2 ** min(row["attempts"], 12))
            values = {"next_at": now + timedelta(seconds=wait), "error": str(error)[:1000], "attempts": row["attempts"] + 1}
        with self._database.write() as connection:
            connection.execute(update(outbox).where(outbox.c.id == row["id"]).values(**values))
        return "delivered_at" in values
