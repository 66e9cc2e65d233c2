"""Requests and responses, as both the server and the applications see them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import orjson

JSON = b"application/json"
_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Response:
    """A whole answer. `headers` are complete header lines, each ending in CRLF, besides type and length."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(self, status: int, body: bytes = b"", content_type: bytes = JSON, headers: bytes = b"") -> None:
        self.status, self.body, self.content_type, self.headers = status, body, content_type, headers

    def encode(self, *, keep_alive: bool, head: bool = False) -> bytes:
        close = b"" if keep_alive else b"connection: close\r\n"
        body = b"" if head else self.body
        return b"%scontent-type: %s\r\ncontent-length: %d\r\n%s%s\r\n%s" % (
            _LINES.get(self.status) or b"HTTP/1.1 %d Unknown\r\n" % self.status,
            self.content_type,
            len(self.body),
            self.headers,
            close,
            body,
        )


class Request:
    """One request, answered by calling `reply` once, at any time.

    path: as it was sent, without the query. headers: lower-case names; a repeated one is joined by commas.
    on_gone: called when the client goes away before the answer.
    """

    __slots__ = ("_respond", "body", "gone", "headers", "keep_alive", "method", "on_gone", "path", "query", "response", "started")

    def __init__(self, respond: Callable[[Request], None]) -> None:
        self._respond = respond
        self.method = b""
        self.path = b""
        self.query = b""
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.keep_alive = True
        self.gone = False
        self.on_gone: Callable[[], None] | None = None
        self.response: Response | None = None
        self.started = 0.0

    def reply(self, response: Response) -> None:
        """Answer. A second answer, or one to a client that is gone, is dropped."""
        if self.response is None:
            self.response = response
            if not self.gone:
                self._respond(self)

    def leave(self) -> None:
        """The client is gone: nobody waits for the answer any more."""
        self.gone = True
        if self.on_gone is not None and self.response is None:
            self.on_gone()


Application = Callable[[Request], None]


def json_response(status: int, value: Any, headers: bytes = b"") -> Response:
    return Response(status, orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), JSON, headers)


def problem(status: int, sentence: str, *, remedy: str = "", code: str = "", headers: Mapping[str, str] | None = None) -> Response:
    """An error as the protocol says (`error`), with what problem+json has besides (`code`, `remedy`)."""
    value = {"error": f"{sentence} {remedy}".strip(), "status": status, "code": code, "detail": sentence, "remedy": remedy}
    lines = "".join(f"{name}: {text}\r\n" for name, text in (headers or {}).items()).encode()
    return json_response(status, value, lines)
