"""The built page as the server gives it out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

from narf.control.web import Console


@pytest.fixture
def client(tmp_path: Path) -> TestClient:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text('<meta name="csp-nonce" content="" /><script src="/assets/a.js"></script>')
    (tmp_path / "assets/a.js").write_text("plain")
    (tmp_path / "assets/a.js.br").write_bytes(b"small")
    (tmp_path / "icon.svg").write_text("<svg/>")
    (tmp_path.parent / "secret.txt").write_text("secret")
    return TestClient(Console(PlainTextResponse("the API"), tmp_path))


@pytest.mark.parametrize("path", ["/", "/home", "/login", "/p/vision/runs/1", "/p/a%20b", "/cluster", "/admin/users"])
def test_every_address_of_the_console_is_the_page(client: TestClient, path: str) -> None:
    assert "csp-nonce" in client.get(path).text


@pytest.mark.parametrize("path", ["/api/v1/me", "/mlflow", "/healthz", "/endpoints/x", "/anything"])
def test_everything_else_is_the_apis(client: TestClient, path: str) -> None:
    assert client.get(path).text == "the API"
    assert client.post("/home").text == "the API"


def test_the_policy_allows_no_script_but_its_own(client: TestClient) -> None:
    answer = client.get("/home")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    nonce = re.search(r"'nonce-([^']+)'", policy)
    assert nonce is not None
    assert f'content="{nonce[1]}"' in answer.text


def test_the_nonce_is_used_once(client: TestClient) -> None:
    assert client.get("/home").text != client.get("/home").text


def test_files_are_kept_for_good_and_sent_small(client: TestClient) -> None:
    answer = client.get("/assets/a.js", headers={"Accept-Encoding": "identity"})
    assert answer.text == "plain"
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["vary"] == "Accept-Encoding"
    assert client.head("/assets/a.js", headers={"Accept-Encoding": "br"}).headers["content-encoding"] == "br"
    assert "immutable" not in client.get("/icon.svg").headers["cache-control"]


@pytest.mark.parametrize(
    "path", ["/assets/../../secret.txt", "/assets/%2e%2e/%2e%2e/secret.txt", "/../secret.txt", "/assets/a.js.br", "/index.html"]
)
def test_nothing_but_the_page_is_given_out(client: TestClient, path: str) -> None:
    assert "secret" not in client.get(path).text
    assert client.get("/assets/a.js.br").text == "the API"


def test_an_unbuilt_page_says_how_to_build_it(tmp_path: Path) -> None:
    answer = TestClient(Console(PlainTextResponse(""), tmp_path / "none")).get("/home")
    assert answer.status_code == 503
    assert "scripts/web.sh build" in answer.text
