"""Datasets and sources at the terminal, as a person goes through them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.conftest import Terminal

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_cache(narf: Terminal, tmp_path: Path) -> None:
    """What the client knows of files it read is not put into the cache of whoever runs the tests."""
    narf.environment["NARF_CACHE"] = str(tmp_path / "cache")


def test_a_folder_becomes_versions_that_are_compared_tagged_verified_and_let_go(narf: Terminal, tmp_path: Path):
    folder = tmp_path / "digits"
    folder.mkdir()
    (folder / "a.csv").write_text("id,x\n1,10\n2,20\n")
    assert narf("data", "add", "digits", str(folder), "--tag", "approved").stdout.startswith("digits@v1 ")
    assert "(nothing changed)" in narf("data", "add", "digits", str(folder)).stdout
    (folder / "a.csv").write_text("id,x\n1,10\n2,21\n3,30\n")
    assert "3 rows" in narf("data", "add", "digits", str(folder), "--tag", "newest").stdout
    assert [row["version"] for row in narf.json("data", "versions", "digits")["items"]] == ["v2", "v1"]
    compared = narf("data", "diff", "digits", "v1", "v2", "--key", "id").stdout
    assert "rows     1 added, 0 removed, 1 changed" in compared
    assert "int64" in narf("data", "show", "digits@newest").stdout
    assert "2 of 2 rows" in narf("data", "preview", "digits@approved", "--rows", "5").stderr
    assert "intact" in narf("data", "verify", "digits").stdout
    assert (Path(narf("data", "path", "digits").stdout.strip()) / "a.csv").read_text().endswith("3,30\n")
    held = narf("data", "remove", "digits@v1", code=None)
    assert held.returncode != 0 and "is tagged approved" in held.stderr
    narf("data", "tag", "digits@v1", "approved", "--remove")
    assert "digits@v1 is removed" in narf("data", "remove", "digits@v1").stdout
    assert "would be deleted" in narf("data", "gc", "--dry-run").stdout


def test_a_source_is_set_up_looked_into_and_imported_from(narf: Terminal, tmp_path: Path):
    with closing(sqlite3.connect(tmp_path / "bank.db")) as connection:
        connection.execute("CREATE TABLE cards (id INTEGER, amount REAL)")
        connection.executemany("INSERT INTO cards VALUES (?, ?)", [(i, i / 2) for i in range(100)])
        connection.commit()
    assert "1 tables can be read" in narf("sources", "add", "bank", "sqlite", f"path={tmp_path / 'bank.db'}").stdout
    assert "cards" in narf("sources", "preview", "bank").stdout
    assert "49.5" in narf("sources", "preview", "bank", "--table", "cards").stdout
    assert "bank" in narf("sources", "list").stdout and "untested" in narf("sources", "kinds").stdout
    checks = tmp_path / "checks.json"
    checks.write_text(json.dumps([{"kind": "range", "column": "amount", "most": 10}]))
    refused = narf("data", "import", "cards", "--source", "bank", "--table", "cards", "--checks", str(checks), code=None)
    assert refused.returncode != 0 and "79 rows have 'amount' outside" in refused.stderr
    made = narf("data", "import", "cards", "--source", "bank", "--query", "SELECT * FROM cards WHERE amount <= 10", "--checks", str(checks))
    assert "cards@v1" in made.stdout and "21 rows" in made.stdout
    written = narf("data", "import", "cards", "--source", "bank", "--query", "DROP TABLE cards", code=None)
    assert written.returncode != 0 and "does not only read" in written.stderr
    states = [row["state"] for row in narf.json("data", "imports", "--dataset", "cards")["items"]]
    assert states == ["succeeded", "failed"]
    assert "source:default/bank" in narf("data", "lineage", "cards").stdout
    dead = narf("sources", "add", "dead", "postgresql", "host=127.0.0.1", "port=9", "database=d", "user=u", code=None)
    assert dead.returncode != 0 and "set up, but does not work yet" in dead.stderr and "cannot be reached" in dead.stderr
