"""Imports from sources: what arrives, what is refused, and what a kill leaves behind."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from narf.control.data.lineage import Direction, Edge, Node, NodeKind
from narf.control.data.sources import ImportState
from narf.control.database import Database
from narf.data.catalogue import FileCatalogue, Registered, Registration
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound

ADMIN, MAINTAINER = Principal(user="ada", is_admin=True), Principal(user="bob")


def make_database(path: Path, rows: int = 300_000) -> Path:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE cards (id INTEGER, amount REAL, word TEXT)")
        connection.executemany("INSERT INTO cards VALUES (?, ?, ?)", ((i, i / 7, f"w{i % 100}") for i in range(rows)))
        connection.commit()
    return path


def add_files(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def test_a_query_becomes_a_table_with_its_origin(data: Any, tmp_path: Path) -> None:
    data.sources.add("default", "cards", "sqlite", {"path": str(make_database(tmp_path / "cards.db"))}, by=ADMIN)
    done = data.run("cards", "cards", query="SELECT id, amount FROM cards WHERE id < 200000", tags=("approved",))
    assert (done.state, done.version, done.rows, done.detail) == (ImportState.SUCCEEDED, 1, 200_000, "")
    version = data.datasets.version("default", "cards@approved")
    assert (version.kind, version.rows, version.statistics["columns"]["id"]["max"]) == ("table", 200_000, 199_999)
    assert version.provenance["query"].startswith("SELECT")
    table = data.tables._open().load_table(version.iceberg["table"])
    assert table.scan(snapshot_id=int(version.iceberg["snapshot_id"])).to_arrow().num_rows == 200_000
    again = data.run("cards", "cards", query="SELECT id, amount FROM cards WHERE id < 200000")
    assert (again.state, again.version) == (ImportState.SUCCEEDED, 1)  # the same rows are the same version


def test_only_files_that_changed_are_fetched_again(data: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import narf.data.importing as importing

    fetched: list[str] = []
    fetch = importing._fetch
    monkeypatch.setattr(
        importing, "_fetch", lambda connector, remote, objects: (fetched.append(remote.path), fetch(connector, remote, objects))[1]
    )
    folder = add_files(tmp_path / "share", a="one", b="two", c="three")
    data.sources.add("default", "share", "folder", {"path": str(folder)}, by=ADMIN)
    assert data.run("files", "share").version == 1 and sorted(fetched) == ["a", "b", "c"]
    add_files(folder, b="new")
    fetched.clear()
    assert data.run("files", "share").version == 2 and fetched == ["b"]


def test_a_schema_that_changed_is_refused_until_it_is_meant(data: Any, tmp_path: Path) -> None:
    folder = add_files(tmp_path / "share", **{"a.csv": "x,y\n1,2\n"})
    data.sources.add("default", "share", "folder", {"path": str(folder)}, by=ADMIN)
    assert data.run("table", "share").version == 1
    add_files(folder, **{"a.csv": "x,z\ntext,2\n"})
    refused = data.run("table", "share")
    assert refused.state is ImportState.FAILED and "'z' is new; 'y' is gone; 'x' is string, was int64" in refused.detail
    assert "--allow-schema-change" in refused.remedy and data.datasets.version("default", "table").number == 1
    assert data.run("table", "share", same_schema=False).version == 2


def test_a_check_that_fails_makes_no_version(data: Any, tmp_path: Path) -> None:
    folder = add_files(tmp_path / "share", **{"a.csv": "x\n1\n-1\n"})
    data.sources.add("default", "share", "folder", {"path": str(folder)}, by=ADMIN)
    done = data.run("table", "share", checks=[{"kind": "range", "column": "x", "least": 0}])
    assert done.state is ImportState.FAILED and "1 rows have 'x' outside 0" in done.detail
    with pytest.raises(NotFound):
        data.datasets.version("default", "table")


def test_sources_that_make_no_sense_are_refused(data: Any) -> None:
    add = data.sources.add
    cases: list[tuple[str, dict[str, str], str]] = [
        ("magic", {}, "no kind of source"),
        ("s3", {}, "lacks the option 'bucket'"),
        ("s3", {"bucket": "b", "bukket": "c"}, "has no option 'bukket'"),
        ("s3", {"bucket": "b", "secret_access_key": "AKIA"}, "holds a secret openly"),
        ("postgresql", {"uri": "postgresql://u:pw@host/db"}, "holds a secret openly"),
        ("odbc", {"connection_string": "DSN=x;PWD=secret"}, "holds a secret openly"),
        ("iceberg", {"catalog": "rest", "uri": "http://x", "files": "nowhere"}, "no source 'nowhere'"),
    ]
    for kind, options, sentence in cases:
        with pytest.raises(BadInput, match=sentence) as refused:
            add("default", "bad", kind, options, by=ADMIN)
        assert "AKIA" not in str(refused.value) and "pw@" not in str(refused.value)
    assert data.sources.of_project("default") == []
    with pytest.raises(NotAllowed):
        add("default", "etc", "folder", {"path": "/etc"}, by=MAINTAINER)


def test_selections_that_make_no_sense_are_refused(data: Any, tmp_path: Path) -> None:
    data.sources.add("default", "share", "folder", {"path": str(add_files(tmp_path / "share", a="1"))}, by=ADMIN)
    for selection in (
        {"query": "DELETE FROM x"},
        {"query": "SELECT 1", "table": "t"},
        {"query": "SELECT 1", "path": "x"},
        {"path": "../etc"},
    ):
        with pytest.raises(BadInput):
            data.run("bad", "share", **selection)
    assert data.run("bad", "share", table="t").state is ImportState.FAILED  # a folder has no tables
    assert "matches" in data.run("bad", "share", pattern="*.none").detail


def test_two_imports_of_one_dataset_do_not_run_at_once(data: Any, tmp_path: Path) -> None:
    from narf.control.data.sources import Request
    from narf.data.sources.connector import Selection

    data.sources.add("default", "share", "folder", {"path": str(add_files(tmp_path / "share", a="1"))}, by=ADMIN)
    first = data.sources.start("default", "files", "share", Request(selection=Selection()), by="ada")
    with pytest.raises(Conflict, match="imported already"):
        data.sources.start("default", "files", "share", Request(selection=Selection()), by="ada")
    data.sources.cancel(first.id, by="ada")
    while data.imports.pass_once(data.now()):
        pass
    assert data.sources.find_import(first.id).state is ImportState.CANCELLED
    with pytest.raises(NotFound):
        data.datasets.version("default", "files")


def test_an_import_that_takes_for_ever_holds_up_no_other_and_can_be_cancelled(data: Any, tmp_path: Path) -> None:
    from narf.control.data.sources import Request
    from narf.data.sources.connector import Selection

    data.sources.add("default", "cards", "sqlite", {"path": str(make_database(tmp_path / "cards.db", 10))}, by=ADMIN)
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, hex(randomblob(100)) AS noise FROM n"
    long = data.sources.start("default", "endless", "cards", Request(selection=Selection(query=endless)), by="ada")
    short = [data.sources.start("default", f"few{i}", "cards", Request(selection=Selection(table="cards")), by="ada") for i in range(5)]
    while any(data.sources.find_import(one.id).state in (ImportState.QUEUED, ImportState.RUNNING) for one in short):
        assert data.imports.pass_once(data.now())
    assert [data.sources.find_import(one.id).version for one in short] == [1] * 5
    assert data.sources.find_import(long.id).state is ImportState.RUNNING
    data.sources.cancel(long.id, by="ada")
    while data.imports.pass_once(data.now()):
        pass
    ended = data.sources.find_import(long.id)
    assert (ended.state, ended.version) == (ImportState.CANCELLED, None) and list(data.datasets.objects.root.glob("incoming/*")) == []


def test_lineage_leads_from_the_source_to_the_endpoint_and_back(data: Any, tmp_path: Path) -> None:
    data.sources.add("default", "share", "folder", {"path": str(add_files(tmp_path / "share", a="1"))}, by=ADMIN)
    data.run("files", "share")
    version = data.datasets.version("default", "files")
    data.datasets.record_read(version, "run1")
    data.datasets.record_read(version, "run1")
    model, endpoint, run = Node(NodeKind.MODEL_VERSION, "default/digits@1"), Node(NodeKind.ENDPOINT, "digits"), Node(NodeKind.RUN, "run1")
    data.lineage.add(Edge(project="default", source=run, target=model), Edge(project="default", source=model, target=endpoint))
    source, here = Node(NodeKind.SOURCE, "default/share"), Node(NodeKind.DATASET_VERSION, "default/files@v1")
    down = data.lineage.graph("default", source, Direction.DOWN)
    assert list(down.nodes) == [source, here, run, model, endpoint] and len(down.edges) == 4
    up = data.lineage.graph("default", endpoint, Direction.UP)
    assert set(up.nodes) == set(down.nodes)
    both = data.lineage.graph("default", run)
    assert set(both.nodes) == set(down.nodes) and len(both.edges) == 4
    assert data.lineage.graph("other", run).edges == ()


def test_a_model_that_comes_of_a_run_is_told_to_the_catalogue_once(data: Any, clock: Any) -> None:
    run, model = Node(NodeKind.RUN, "run1"), Node(NodeKind.MODEL_VERSION, "default/digits@7")
    for _ in range(2):
        data.lineage.add(Edge(project="default", source=run, target=model, relation="registered"))
        data.outbox.pass_once(clock.forward(hours=1))
    told = data.catalogue.resolve(Registered.MODEL, "default/digits")
    assert (told.key, told.version, told.body["from"]) == ("model:default/digits@7", "7", "run:run1")
    assert len(list((data.catalogue._folder / "model").rglob("*.json"))) == 1
    for version in (8, 9):  # as long as the edges' own column allows, and with its kind longer than the outbox's
        data.lineage.add(Edge(project="default", source=run, target=Node(NodeKind.MODEL_VERSION, f"default/{'m' * 289}@{version}")))
    data.outbox.pass_once(clock.forward(hours=1))
    assert data.catalogue.resolve(Registered.MODEL, f"default/{'m' * 289}").version == "9"


class Unreliable:
    """A catalogue that fails when told to, before or after it has taken the registration."""

    def __init__(self, inner: FileCatalogue, rng: random.Random) -> None:
        self._inner, self._rng = inner, rng

    def register(self, registration: Registration) -> None:
        if self._rng.random() < 0.3:
            raise OSError("down")
        self._inner.register(registration)
        if self._rng.random() < 0.3:
            raise OSError("killed after it was taken, before we noted it")

    def resolve(self, kind: Registered, name: str) -> Registration | None:
        return self._inner.resolve(kind, name)


def test_each_registration_arrives_once_and_in_order_however_often_delivery_fails(data: Any, database: Database, clock: Any) -> None:
    from narf.control.data.outbox import CatalogueOutbox

    keys = [f"{name}{number}" for number in range(8) for name in "ab"]
    for key in keys:
        registration = Registration(key=key, kind=Registered.MODEL, name=key[0], version=key[1:])
        data.outbox.register(registration, clock())
        data.outbox.register(registration, clock())
    outbox = CatalogueOutbox(database, Unreliable(data.catalogue, random.Random(5)))
    for _ in range(200):
        outbox.pass_once(clock.forward(hours=2))
    for name in "ab":
        found = sorted((data.catalogue._folder / "model" / name).glob("*.json"))
        assert [path.stem.split("-")[1] for path in found] == [key for key in keys if key[0] == name]


def test_two_who_publish_at_once_both_get_a_version(data: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from narf.data.manifest import FileEntry

    def publish(number: int) -> int:
        content = str(number % 4).encode()
        entry = FileEntry("a", len(content), data.datasets.objects.put(content))
        made = data.datasets.publish("default", "busy", [entry], by="ada")
        return int(made.version.number)

    data.datasets.publish("default", "busy", [FileEntry("a", 1, data.datasets.objects.put(b"x"))], by="ada")
    with ThreadPoolExecutor(8) as pool:
        given = list(pool.map(publish, range(16)))
    numbers = [version.number for version in reversed(data.datasets.versions("default", "busy"))]
    assert numbers == list(range(1, len(numbers) + 1)) and set(given) <= set(numbers) and len(numbers) >= 5
