"""The whole platform of `bootstrap`, in this process, reached as a client would."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from narf.bootstrap import Platform, build
from narf.control.first_start import prepare
from narf.settings import Settings


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Built, with its admin, not started: reconcilers do not run."""
    made = build(Settings(home=tmp_path_factory.mktemp("home")), "http://127.0.0.1:1")
    yield made
    made.close()


@pytest.fixture(scope="module")
def admin(platform: Platform) -> Iterator[TestClient]:
    """A client that holds the admin's token."""
    local = prepare(platform.access, platform.projects, "")
    client = TestClient(platform.app, headers={"Authorization": f"Bearer {local.token}"}, raise_server_exceptions=False)
    yield client
    client.close()


@pytest.fixture(scope="module")
def nobody(platform: Platform) -> Iterator[TestClient]:
    client = TestClient(platform.app, raise_server_exceptions=False)
    yield client
    client.close()
