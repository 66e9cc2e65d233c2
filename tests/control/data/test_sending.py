"""A folder goes to the platform as a version: only what it lacks is sent, and only what changed is read."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
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
