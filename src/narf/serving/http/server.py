"""The server side: connections, limits, pipelining, time-outs and a graceful end.

Parsing is llhttp's. What is ours: answers go out in the order of the requests; a body over the limit is refused before it is
read; a client that reads slowly or sends slowly holds nothing but its own connection; `drain` lets what has begun finish.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import httptools

from narf.serving.http.message import Application, Request, problem

_log = logging.getLogger(__name__)
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_MOST_PIPELINED = 32
_SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    body_bytes: int = 32 << 20
    header_bytes: int = 64 << 10
    request_seconds: float = 60.0  # from a request's first byte to its last
    idle_seconds: float = 120.0  # between requests
    connections: int = 4096


class HttpServer:
    """Listens for one application. All methods are called on the event loop."""

    def __init__(self, application: Application, limits: Limits | None = None) -> None:
        self.application = application
        self.limits = limits or Limits()
        self.connections: set[_Connection] = set()
        self.is_draining = False
        self._server: asyncio.Server | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def listen(self, host: str, port: int, *, reuse_port: bool = False) -> int:
        """Start to listen; the port, which the system chose when `port` is 0."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), host, port, backlog=2048, reuse_port=reuse_port or None)
        self._sweeper = loop.call_later(_SWEEP_SECONDS, self._sweep)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def drain(self, seconds: float) -> bool:
        """Accept nothing new, let what has begun finish for at most `seconds`; True if all of it did."""
        self.is_draining = True
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.close_if_idle()
        until = time.monotonic() + seconds
        while self.connections and time.monotonic() < until:
            await asyncio.sleep(0.01)
        finished = not self.connections
        self.close()
        return finished

    def close(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
        if self._server is not None:
            self._server.close()
        for connection in list(self.connections):
            connection.abort()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.check_time(now)
        self._sweeper = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)


class _Connection(asyncio.Protocol):
    __slots__ = (
        "_body",
        "_body_size",
        "_closing",
        "_header_size",
        "_parser",
        "_paused_reading",
        "_paused_writing",
        "_request",
        "_server",
        "_since",
        "_transport",
        "_url",
        "_waiting",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._waiting: deque[Request] = deque()  # requests without an answer yet, in the order they came
        self._request: Request | None = None  # the one being read
        self._url = b""
        self._body: list[bytes] = []
        self._body_size = self._header_size = 0
        self._closing = self._paused_reading = self._paused_writing = False
        self._since = time.monotonic()

    # -- asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport  # uvloop's is no asyncio.Transport
        self._parser: Any = httptools.HttpRequestParser(self)
        if raw := transport.get_extra_info("socket"):
            try:
                raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:  # the client is gone already: connection_lost follows
                _log.debug("a connection ended before it began")
        self._server.connections.add(self)
        if len(self._server.connections) > self._server.limits.connections:
            self._refuse(503, "This server has as many connections as it takes.", "Try again, or reuse connections.")

    def connection_lost(self, error: Exception | None) -> None:
        self._server.connections.discard(self)
        self._closing = True
        for request in self._waiting:
            request.leave()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._refuse(400, "This server does not upgrade connections.")
        except httptools.HttpParserCallbackError as error:
            if not self._closing:  # a refusal inside a callback stops the parser with this error
                _log.error("the application failed", exc_info=error.__context__ or error)
                self._refuse(500, "The server failed on this request.")
        except httptools.HttpParserError as error:
            self._refuse(400, f"This is not HTTP that can be read: {error}.")

    def eof_received(self) -> bool:
        return False  # half-closed: nothing more can be asked, and the transport closes

    def pause_writing(self) -> None:
        self._paused_writing = True
        self._pause_reading()

    def resume_writing(self) -> None:
        self._paused_writing = False
        self._resume_reading()

    # -- llhttp

    def on_message_begin(self) -> None:
        self._request = Request(self._answered)
        self._url = b""
        self._body_size = self._header_size = 0
        self._since = time.monotonic()

    def on_url(self, url: bytes) -> None:
        self._url += url
        self._count_header(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        assert self._request is not None
        self._count_header(len(name) + len(value))
        headers, name = self._request.headers, name.lower()
        headers[name] = headers[name] + b", " + value if name in headers else value

    def on_headers_complete(self) -> None:
        request = self._request
        assert request is not None
        length = request.headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._server.limits.body_bytes:
            self._too_large()
        elif request.headers.get(b"expect", b"").lower() == b"100-continue" and not self._waiting:
            self._transport.write(_CONTINUE)

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        if self._body_size > self._server.limits.body_bytes:
            self._too_large()
        self._body.append(body)

    def on_message_complete(self) -> None:
        request, self._request = self._request, None
        assert request is not None
        if self._parser.should_upgrade():
            return  # the parser raises HttpParserUpgrade next
        request.method = self._parser.get_method()
        request.path, _, request.query = self._url.partition(b"?")
        request.keep_alive = self._parser.should_keep_alive() and not self._server.is_draining
        request.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        request.started = self._since
        self._waiting.append(request)
        if len(self._waiting) >= _MOST_PIPELINED:
            self._pause_reading()
        self._server.application(request)

    # -- answers

    def _answered(self, request: Request) -> None:
        """Send what can be sent: answers leave in the order the requests came."""
        waiting = self._waiting
        while waiting and waiting[0].response is not None and not self._transport.is_closing():
            first = waiting.popleft()
            assert first.response is not None
            keep = first.keep_alive and not self._server.is_draining
            self._transport.write(first.response.encode(keep_alive=keep, head=first.method == b"HEAD"))
            if not keep:
                self._close()
                return
        if not waiting:
            self._since = time.monotonic()
            if self._closing:
                self._close()
        if len(waiting) < _MOST_PIPELINED:
            self._resume_reading()

    def _refuse(self, status: int, sentence: str, remedy: str = "") -> None:
        """Answer what cannot be read on, after the answers that are due before it, and close."""
        if self._closing:
            return
        request = Request(self._answered)
        request.keep_alive = False
        self._body.clear()
        self._waiting.append(request)
        self._closing = True
        self._pause_reading()
        request.reply(problem(status, sentence, remedy=remedy, code="bad_request" if status == 400 else "limit_reached"))

    def _too_large(self) -> None:
        limit = self._server.limits.body_bytes
        self._refuse(413, f"The body is larger than {limit} bytes.", "Send fewer rows in one request.")
        raise ValueError("the body is too large")  # stops the parser

    def _count_header(self, size: int) -> None:
        self._header_size += size + 4
        if self._header_size > self._server.limits.header_bytes:
            self._refuse(431, f"The headers are larger than {self._server.limits.header_bytes} bytes.")
            raise ValueError("the headers are too large")

    # -- flow and time

    def _pause_reading(self) -> None:
        if not self._paused_reading and not self._transport.is_closing():
            self._paused_reading = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._paused_reading and not self._paused_writing and not self._closing and len(self._waiting) < _MOST_PIPELINED:
            self._paused_reading = False
            if not self._transport.is_closing():
                self._transport.resume_reading()

    def close_if_idle(self) -> None:
        if not self._waiting and self._request is None:
            self._close()

    def check_time(self, now: float) -> None:
        if self._waiting:
            return  # the application answers within its own deadlines
        if self._request is not None and now - self._since > self._server.limits.request_seconds:
            self._refuse(408, "The request did not arrive in time.")
        elif self._request is None and now - self._since > self._server.limits.idle_seconds:
            self._close()

    def abort(self) -> None:
        self._transport.abort()

    def _close(self) -> None:
        self._closing = True
        self._transport.close()
