"""Serves the console: the built single-page application in `page/`, under a strict Content-Security-Policy.

The page is public (what it shows is not): it stands in front of the access check. Its files carry a hash in their names
and are kept by browsers for good; the page itself never is.
"""

from __future__ import annotations

import mimetypes
import secrets
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

FOLDER = Path(__file__).parent / "page"

# First segments of the page's own addresses; every other path is the API's to answer.
_PAGES = frozenset({"", "login", "home", "p", "cluster", "admin"})
_NOT_BUILT = (
    "<!doctype html><meta charset=utf-8><title>Narf</title><p>The console is not built in this checkout: "
    "run <code>scripts/web.sh build</code>. The API is at <a href=/api/docs>/api/docs</a>."
)
_SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def policy(nonce: str) -> str:
    """The Content-Security-Policy of the page. The nonce is for the style sheet that holds the theme's variables."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            f"style-src 'self' 'nonce-{nonce}'",
            "img-src 'self' data: blob:",
            "font-src 'self'",
            "connect-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    encodings: dict[str, bytes]
    media_type: str


class Console:
    """Answers GETs for the page and its files, and hands everything else on to `app`."""

    def __init__(self, app: ASGIApp, folder: Path = FOLDER) -> None:
        self._app, self._folder = app, folder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = self._answer(scope) if scope["type"] == "http" and scope["method"] in {"GET", "HEAD"} else None
        await (response or self._app)(scope, receive, send)

    def _answer(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if (file := self._files.get(path)) is not None:
            return _file_response(file, Headers(scope=scope), immutable=path.startswith("/assets/"))
        if path.strip("/").split("/")[0] in _PAGES:
            return self._page()
        return None

    def _page(self) -> Response:
        if self._index is None:
            return HTMLResponse(_NOT_BUILT, status_code=503)
        nonce = secrets.token_urlsafe(16)
        text = self._index.replace('name="csp-nonce" content=""', f'name="csp-nonce" content="{nonce}"', 1)
        return HTMLResponse(text, headers={"Content-Security-Policy": policy(nonce), "Cache-Control": "no-store", **_SECURITY})

    @cached_property
    def _index(self) -> str | None:
        path = self._folder / "index.html"
        return path.read_text() if path.exists() else None

    @cached_property
    def _files(self) -> dict[str, _File]:
        """Every file of the page by its address, read once: they are small, and no path of a request meets the disk."""
        found: dict[str, _File] = {}
        for path in sorted(self._folder.rglob("*")) if self._folder.exists() else []:
            if not path.is_file() or path.suffix in {".html", ".br", ".gz"}:
                continue
            kinds = {"br": path.with_name(path.name + ".br"), "gzip": path.with_name(path.name + ".gz")}
            media_type = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            found["/" + path.relative_to(self._folder).as_posix()] = _File(
                path.read_bytes(), {name: kind.read_bytes() for name, kind in kinds.items() if kind.exists()}, media_type
            )
        return found


def _file_response(file: _File, headers: Headers, *, immutable: bool) -> Response:
    accepted = {part.split(";")[0].strip() for part in headers.get("accept-encoding", "").split(",")}
    encoding = next((name for name in ("br", "gzip") if name in accepted and name in file.encodings), None)
    cache = "public, max-age=31536000, immutable" if immutable else "public, max-age=300"
    extra = {"Cache-Control": cache, "Vary": "Accept-Encoding", **_SECURITY}
    if file.media_type == "image/svg+xml":
        extra["Content-Security-Policy"] = "default-src 'none'; style-src 'unsafe-inline'"
    if encoding:
        extra["Content-Encoding"] = encoding
    return Response(file.encodings[encoding] if encoding else file.body, media_type=file.media_type, headers=extra)
