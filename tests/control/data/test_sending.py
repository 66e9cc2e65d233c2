"""Folders and frames go to the platform as versions: only what it lacks is sent, and only what changed is read."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import polars
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from narf.bootstrap import Platform
from narf.client.connection import Connection
from narf.client.data import add_folder, fetch_manifest, place
from narf.domain.errors import BadInput, NotFound


class Recorder(httpx.BaseTransport):
    """Passes calls on, and notes what was asked."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self.asked: list[str] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(f"{request.method} {request.url.path.rpartition('/')[2]}")
        answer = self._client.request(request.method, request.url.raw_path.decode(), content=request.read(), headers=dict(request.headers))
        return httpx.Response(answer.status_code, headers={"content-type": answer.headers["content-type"]}, content=answer.content)


@pytest.fixture
def platform_calls(admin: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    monkeypatch.setenv("NARF_CACHE", str(tmp_path / "cache"))
    return Recorder(admin)


@pytest.fixture
def connection(platform_calls: Recorder, admin: TestClient) -> Iterator[Connection]:
    made = Connection("http://narf.example", admin.headers["authorization"].removeprefix("Bearer "), transport=platform_calls)
    yield made
    made.close()


def write(folder: Path, **files: str) -> Path:
    """Files old enough that a reader trusts their times."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(content)
    return folder


def settle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading happens later than the writing: a file as young as its reading is never trusted."""
    later = time.time_ns() + 10**10
    monkeypatch.setattr("narf.client.data.time.time_ns", lambda: later)


def test_what_did_not_change_is_neither_read_nor_asked_about_again(
    connection: Connection, platform_calls: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    folder = write(tmp_path / "in", a="sent once", b="sent first")
    assert add_folder(connection, "default", "sent", folder)["version"] == "v1"
    assert platform_calls.asked == ["POST missing", "PUT objects", "POST versions"]
    platform_calls.asked.clear()
    assert add_folder(connection, "default", "sent", folder)["created"] is False
    assert platform_calls.asked == ["POST versions"]
    write(folder, b="sent second")
    assert add_folder(connection, "default", "sent", folder)["version"] == "v2"
    manifest = fetch_manifest(connection, "/api/v1/projects/default/datasets/sent/versions/v2")
    assert {e.path: e.sha256 for e in manifest.files} == {
        path: hashlib.sha256(content).hexdigest() for path, content in (("a", b"sent once"), ("b", b"sent second"))
    }


def test_content_that_the_platform_lost_meanwhile_is_sent_again(
    connection: Connection, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(monkeypatch)
    folder = write(tmp_path / "in", a="lost and sent again", b="lost: changed")
    add_folder(connection, "default", "lost", folder)
    digest = hashlib.sha256(b"lost and sent again").hexdigest()
    (platform.settings.home / "data" / "objects" / digest[:2] / digest[2:]).unlink()
    write(folder, b="lost: changed since")
    assert add_folder(connection, "default", "lost", folder)["version"] == "v2"
    assert connection.post("/api/v1/projects/default/datasets/lost/versions/v2/verify")["damaged"] == []


def test_a_version_is_fetched_once_and_read_only_on_another_machine(
    connection: Connection, platform_calls: Recorder, tmp_path: Path
) -> None:
    made = add_folder(connection, "default", "fetched", write(tmp_path / "in", a="fetched a", b="fetched b"))
    platform_calls.asked.clear()
    folder = place(connection, "default", made)
    assert {p.name: p.read_text() for p in folder.iterdir()} == {"a": "fetched a", "b": "fetched b"}
    assert not os.stat(folder / "a").st_mode & 0o222
    assert platform_calls.asked == ["GET files", "GET a", "GET b"]
    assert place(connection, "default", made) == folder and len(platform_calls.asked) == 3


def test_a_file_that_changes_between_reading_and_sending_makes_no_version(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "in", a="before", b="steady")

    def change(what: str, _done: int, _all: int) -> None:
        if what == "reading":
            (folder / "a").write_text("beforf")

    with pytest.raises(BadInput, match="changed while"):
        add_folder(connection, "default", "moving", folder, progress=change)
    with pytest.raises(NotFound, match="moving"):
        connection.get("/api/v1/projects/default/datasets/moving")


@pytest.fixture
def sdk(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`narf`, which finds the platform of the tests."""
    import narf
    import narf.data.sdk

    class Lent:
        """The connection, which outlives the call that uses it."""

        def __enter__(self) -> Connection:
            return connection

        def __exit__(self, *_error: object) -> None:
            return None

    monkeypatch.setattr(narf.data.sdk, "connect", Lent)
    return narf


def test_a_frame_of_any_library_becomes_the_same_version(sdk: Any) -> None:
    columns = {"id": [1, 2, 3], "half": [0.5, 1.0, 1.5], "word": ["a", "b", None]}
    arrow = pa.table(columns)
    shapes = [columns, arrow, arrow.to_reader(max_chunksize=1), arrow.to_batches()[0], polars.DataFrame(columns)]
    shapes += [polars.LazyFrame(columns), pd.DataFrame(columns), pd.DataFrame(columns).set_index("id")]
    for shape in shapes:
        made = sdk.add_dataset("frame", shape, tags=["newest"])
        assert (made.version, made.arrow().to_pydict()) == ("v1", columns), type(shape)
    assert sdk.dataset("frame@newest").pandas().shape == (3, 3)


def test_categories_become_what_they_stand_for_and_a_nameless_index_is_left_out(sdk: Any) -> None:
    frame = pd.DataFrame({"kind": pd.Categorical(["x", "y", "x"]), 7: [1, 2, 3]}, index=[10, 20, 30])
    made = sdk.add_dataset("categories", frame)
    assert made.arrow().to_pydict() == {"kind": ["x", "y", "x"], "7": [1, 2, 3]}


def test_a_run_that_adds_a_frame_is_in_its_lineage(sdk: Any, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NARF_RUN_ID", "run-of-frames")
    sdk.add_dataset("written", {"x": [1.0]}, description="what the run found")
    found = connection.get("/api/v1/projects/default/lineage", kind="run", id="run-of-frames", direction="down")
    assert [(e["source"], e["relation"], e["target"]) for e in found["edges"]] == [
        ("run:run-of-frames", "wrote", "dataset_version:default/written@v1")
    ]
    assert connection.get("/api/v1/projects/default/datasets/written")["description"] == "what the run found"


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (pd.DataFrame({"mixed": [1, "text", 2.5]}), "mixed"),
        ([1, 2, 3], "A list is no table"),
        ({}, "A dict is no table"),
        ({"a": [1, 2], "b": [1]}, "cannot be kept"),
        ("/no/such/folder", "no folder '/no/such/folder'"),
    ],
)
def test_what_is_no_table_is_refused_with_a_remedy(sdk: Any, data: Any, sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as refused:
        sdk.add_dataset("refused", data)
    assert refused.value.remedy
    with pytest.raises(NotFound):
        sdk.dataset("refused")


def test_a_check_that_fails_keeps_a_frame_out(sdk: Any) -> None:
    with pytest.raises(BadInput, match="1 rows have 'x' outside 0"):
        sdk.add_dataset("unchecked", {"x": [1, -1]}, checks=[{"kind": "range", "column": "x", "least": 0}])
    with pytest.raises(NotFound):
        sdk.dataset("unchecked")
