"""Processes that are killed at any moment: nothing is half visible, the next one goes on, and each registration arrives once."""

from __future__ import annotations

import json
import random
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from narf.control.data.outbox import enqueue
from narf.control.data.sources import ImportState, Request
from narf.control.database import Database
from narf.control.projects.store import Project, add_project
from narf.control.schema import upgrade
from narf.data.catalogue import Registered, Registration
from narf.data.sources.connector import Selection
from narf.domain.access import Principal

ADMIN = Principal(user="ada", is_admin=True)
CONFTEST = Path(__file__).with_name("conftest.py")

# Imports the modules once, then forks a worker for each line it reads, kills it after so many seconds (negative: never), and prints how it ended.
PROGRAM = """
import importlib.util, os, signal, sys, time
from datetime import UTC, datetime
from pathlib import Path
conftest, url, home = sys.argv[1:]
spec = importlib.util.spec_from_file_location("fixtures", conftest)
fixtures = importlib.util.module_from_spec(spec); sys.modules["fixtures"] = fixtures; spec.loader.exec_module(fixtures)
from narf.control.database import Database
from narf.data.manifest import FileEntry
import narf.data.importing, narf.data.profiling, pyiceberg.catalog.sql
now = lambda: datetime.now(UTC)
for line in sys.stdin:
    worker = os.fork()
    if not worker:
        data = fixtures.build(Database(url), Path(home), now)
        WORK
        os._exit(0)
    if float(line) >= 0:
        time.sleep(float(line))  # the moment of the kill is what is being varied
        os.kill(worker, signal.SIGKILL)  # it cannot be another's number: nobody has waited for it yet
    print(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]), flush=True)
"""


@pytest.fixture
def home(tmp_path: Path, clock: Callable[[], datetime]) -> Iterator[Any]:
    """The services over a database file that other processes open, too."""
    database = Database(f"sqlite:///{tmp_path / 'narf.db'}")
    upgrade(database)
    with database.write() as connection:
        add_project(connection, Project(name="default", description="", department="default", created_at=clock()))
    spec = spec_from_file_location("data_fixtures", CONFTEST)
    assert spec is not None and spec.loader is not None
    fixtures = module_from_spec(spec)
    sys.modules["data_fixtures"] = fixtures
    spec.loader.exec_module(fixtures)
    data = fixtures.build(database, tmp_path, clock)
    yield data
    data.tables.close()
    database.close()


@contextmanager
def workers(home: Path, work: str) -> Iterator[Callable[[float | None], int]]:
    """Call it with the seconds after which a worker that does `work` is killed, None to let it end; it says how it ended."""
    program = PROGRAM.replace("WORK", work.replace("\n", "\n        "))
    command = [sys.executable, "-c", program, str(CONFTEST), f"sqlite:///{home / 'narf.db'}", str(home)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as forker:
        assert forker.stdin is not None and forker.stdout is not None
        given, taken = forker.stdin, forker.stdout

        def one(kill_after: float | None) -> int:
            print(-1 if kill_after is None else kill_after, file=given, flush=True)
            return int(taken.readline())

        yield one
        given.close()


def test_an_import_leaves_nothing_half_and_goes_on(home: Any, tmp_path: Path) -> None:
    """A process imports and is killed, again and again; then one is left to finish. Exactly one whole version is there."""
    with closing(sqlite3.connect(tmp_path / "cards.db")) as connection:
        connection.execute("CREATE TABLE cards (id INTEGER, amount REAL, word TEXT)")
        connection.executemany("INSERT INTO cards VALUES (?, ?, ?)", ((i, i / 7, f"w{i % 100}") for i in range(400_000)))
        connection.commit()
    home.sources.add("default", "cards", "sqlite", {"path": str(tmp_path / "cards.db")}, by=ADMIN)
    asked = home.sources.start("default", "cards", "cards", Request(selection=Selection(table="cards")), by="ada")
    rng = random.Random(1)
    with workers(tmp_path, "while data.imports.pass_once(now()): pass") as worker:
        for _ in range(6):
            worker(rng.uniform(0.0, 1.0))
            found = home.datasets.versions("default", "cards") if home.datasets.datasets("default") else []
            assert len(found) <= 1 and all(home.datasets.verify(version) == [] for version in found)
        assert worker(None) == 0
    ended = home.sources.find_import(asked.id)
    (version,) = home.datasets.versions("default", "cards")
    assert (ended.state, ended.version, version.rows) == (ImportState.SUCCEEDED, 1, 400_000)
    assert version.iceberg is not None and version.iceberg["snapshot_id"]


PUBLISHING = """
while data.outbox.pass_once(now()): pass
first = len(data.datasets.versions("default", "busy")) if data.datasets.datasets("default") else 0
for number in range(first, 25):
    content = b"version %d" % number
    entry = FileEntry("a", len(content), data.datasets.objects.put(content))
    data.datasets.publish("default", "busy", [entry], by="ada")
    data.outbox.pass_once(now())
"""


def test_each_version_is_registered_once_and_in_order(home: Any, tmp_path: Path) -> None:
    """Publishing and delivering are killed at any moment; a version has a registration, and no registration is without a version."""
    rng = random.Random(3)
    told = tmp_path / "catalogue" / "dataset" / "default%2Fbusy"
    kills = 0
    with workers(tmp_path, PUBLISHING) as worker:
        for _ in range(25):
            kills += worker(rng.uniform(0.01, 0.12)) != 0
            made = [f"v{version.number}" for version in reversed(home.datasets.versions("default", "busy"))] if told.exists() else []
            arrived = [json.loads(path.read_text())["version"] for path in sorted(told.glob("*.json"))]
            assert arrived == made[: len(arrived)] and len(made) - len(arrived) <= 1, "what arrived is the beginning of what was made"
        assert worker(None) == 0
    arrived = [json.loads(path.read_text())["version"] for path in sorted(told.glob("*.json"))]
    assert arrived == [f"v{number}" for number in range(1, 26)]
    assert kills >= 3, "most workers were killed in their work"


def test_a_registration_of_a_transaction_that_was_undone_never_arrives(home: Any, clock: Any) -> None:
    def event() -> None:
        with home.datasets._database.write() as connection:
            enqueue(connection, Registration(key="model:m@1", kind=Registered.MODEL, name="default/m", version="1"), clock())
            raise RuntimeError("the event did not happen")

    with pytest.raises(RuntimeError):
        event()
    home.outbox.pass_once(clock())
    assert home.catalogue.resolve(Registered.MODEL, "default/m") is None
