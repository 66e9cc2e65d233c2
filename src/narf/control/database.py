"""The control plane's database: SQLite (WAL) on one machine, PostgreSQL in production.

Every feature defines its tables in its own `store.py` on the one `metadata` here. Times are stored
as UTC; what comes back is always an aware `datetime`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, DateTime, Dialect, Engine, MetaData, create_engine, event
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.types import TypeDecorator

from narf.domain.errors import Unavailable

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


CHANGES = "narf_changes"  # in a connection's `info`: what its transaction changed, as the audit log has it


class Timestamp(TypeDecorator[datetime]):
    """An aware `datetime`, kept in UTC. SQLite has no zones, so they are put on and taken off here."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        assert value.tzinfo is not None, "a naive datetime must not reach the database"
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """One engine, two ways in: `read()` and `write()`, each a short transaction.

    On SQLite a write takes the write lock at once (BEGIN IMMEDIATE), so that a transaction that
    reads and then writes cannot fail half way with "database is locked".

    Both raise Unavailable when the database cannot be reached, has no connection left, or has no room to write.
    """

    def __init__(self, url: str) -> None:
        # Hears of each audited change (project, kind, name) once it is committed, in the thread that made it.
        self.changed: Callable[[str, str, str], None] = lambda _project, _kind, _name: None
        self.url = url
        self.engine = _engine(url)
        self.is_sqlite = self.engine.dialect.name == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with self._in_reach(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        with self._in_reach(), self.engine.connect() as connection:
            if self.is_sqlite:
                connection = connection.execution_options(narf_immediate=True)
            connection.info.pop(CHANGES, None)
            with connection.begin():
                yield connection
            changes = connection.info.pop(CHANGES, ())
        for change in changes:
            self.changed(*change)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def _in_reach(self) -> Iterator[None]:
        try:
            yield
        except (OperationalError, InterfaceError, PoolTimeout) as error:
            said = str(getattr(error, "orig", None) or "all its connections are in use").strip().partition("\n")[0]
            if "no such" in said:  # SQLite's word for our own mistakes
                raise
            where = self.engine.url.render_as_string(hide_password=True)
            raise Unavailable(
                f"The database {where} cannot be used: {said}.",
                remedy="Try again shortly. If it stays away, start its server, make room, or correct NARF_DATABASE_URL.",
            ) from error


def _engine(url: str) -> Engine:
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    if not url.startswith("sqlite"):
        return create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True)
    engine = create_engine(url, connect_args={"check_same_thread": False, "timeout": 30}, pool_size=10, max_overflow=50)

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves, below
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=30000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # Straight to the driver: on the way through SQLAlchemy it takes ten times as long, and is done twenty times for a trial.
        statement = "BEGIN IMMEDIATE" if connection.get_execution_options().get("narf_immediate", False) else "BEGIN"
        driver: Any = connection.connection.dbapi_connection
        try:
            driver.execute(statement)
        except driver.OperationalError as error:  # another process has written for longer than the patience above
            raise OperationalError(statement, None, error) from error

    return engine
