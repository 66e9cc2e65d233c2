"""A whole platform of its own, a browser, and a page that is signed in."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from browser import chromium, context, launched
from playwright.sync_api import Browser, Page
from served import CURVE, Served

from narf.control.web import FOLDER


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not (FOLDER / "index.html").exists():
        message = "the console is not built: scripts/web.sh build"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    platform = Served(tmp_path_factory.mktemp("home"))
    platform.start()
    yield platform
    platform.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        message = "there is no Chromium on this machine"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with launched() as made:
        yield made


@pytest.fixture
def page(served: Served, browser: Browser) -> Iterator[Page]:
    """A tab, signed in. Whatever the page's policy refuses, or any error nobody caught, fails the test."""
    tab = context(browser, served.url)
    made = tab.new_page()
    made.set_default_timeout(30_000)
    complaints: list[str] = []
    made.on("pageerror", lambda error: complaints.append(f"error: {error}"))
    made.on("console", lambda message: complaints.append(message.text) if "Content Security Policy" in message.text else None)
    made.on("dialog", lambda dialog: (complaints.append(f"a script ran: {dialog.message}"), dialog.dismiss()))
    made.goto(served.link())
    made.wait_for_url("**/home")
    yield made
    tab.close()
    assert complaints == []


@pytest.fixture(scope="session")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("code")
    (folder / "train.py").write_text(CURVE)
    return folder


@pytest.fixture(scope="session")
def snapshot(served: Served, code: Path) -> str:
    """The code above, sent."""
    content = (code / "train.py").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    files = {"files": [{"path": "train.py", "sha256": digest, "size": len(content), "mode": 0o644}]}
    served.ask("PUT", f"/projects/default/objects/{digest}", content=content)
    return str(served.ask("POST", "/projects/default/snapshots", json=files)["id"])


@pytest.fixture(scope="session")
def submit(served: Served, snapshot: str) -> Callable[..., dict[str, Any]]:
    def go(*arguments: str, **more: Any) -> dict[str, Any]:
        body = {"script": "train.py", "arguments": list(arguments), "snapshot": snapshot, **more}
        return dict(served.ask("POST", "/projects/default/workloads", json=body))

    return go
