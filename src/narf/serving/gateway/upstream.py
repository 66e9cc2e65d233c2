"""Connections to one replica: kept open, used one request at a time, the most recently used first."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httptools

_CONNECT_SECONDS = 2.0
_MOST_IDLE = 256
_MOST_BODY = 256 << 20
_KEPT = (b"content-type", b"inference-header-content-length", b"narf-prediction", b"narf-revision", b"retry-after", b"allow")


class Answer:
    """A replica's whole response, or why there is none. `refused`: nobody listens there."""

    __slots__ = ("body", "content_type", "error", "headers", "refused", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.content_type = b"application/json"
        self.headers = b""
        self.error = ""
        self.refused = False


Done = Callable[[Answer], None]


class Upstream:
    """All connections to one address. Called on the event loop only."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[_Connection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_closed = False

    def send(self, raw: bytes, done: Done) -> Call:
        """Send one request; `done` is called once, with the answer or the reason that there is none."""
        call = Call(done)
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                connection.start(raw, call, is_reused=True)
                return call
        self._send_on_new(raw, call)
        return call

    def _send_on_new(self, raw: bytes, call: Call) -> None:
        task = asyncio.get_running_loop().create_task(self._connect_and_send(raw, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """Close what is idle; what runs ends by itself and closes then."""
        self._is_closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    async def _connect_and_send(self, raw: bytes, call: Call) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                _, connection = await loop.create_connection(lambda: _Connection(self), self.host, self.port)
        except (OSError, TimeoutError) as error:
            answer = Answer()
            answer.error, answer.refused = f"cannot be reached ({type(error).__name__})", True
            call.finish(answer)
            return
        connection.start(raw, call)

    def _give_back(self, connection: _Connection) -> None:
        if self._is_closed or len(self._idle) >= _MOST_IDLE:
            connection.close()
        else:
            self._idle.append(connection)


class Call:
    """One request on its way. `cancel` drops it: the replica sees its client leave."""

    __slots__ = ("_done", "connection", "is_over")

    def __init__(self, done: Done) -> None:
        self._done = done
        self.is_over = False
        self.connection: _Connection | None = None

    def finish(self, answer: Answer) -> None:
        if not self.is_over:
            self.is_over = True
            self._done(answer)

    def cancel(self) -> None:
        self.is_over = True
        if self.connection is not None:
            self.connection.close()


class _Connection(asyncio.Protocol):
    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport: Any = None
        self._call: Call | None = None
        self._answer = Answer()
        self._body: list[bytes] = []
        self._size = 0
        self._parser: Any = None
        self._raw = b""
        self._is_reused = self._has_answer = False

    @property
    def is_usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def start(self, raw: bytes, call: Call, *, is_reused: bool = False) -> None:
        if call.is_over:  # given up while it connected
            self._upstream._give_back(self)
            return
        self._call, call.connection = call, self
        self._answer, self._body, self._size = Answer(), [], 0
        self._raw, self._is_reused, self._has_answer = raw, is_reused, False
        self._parser = httptools.HttpResponseParser(self)
        self._transport.write(raw)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if raw := transport.get_extra_info("socket"):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._fail("closed the connection")

    def data_received(self, data: bytes) -> None:
        if self._call is None:  # bytes that nobody asked for
            self.close()
            return
        self._has_answer = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"answered what is no HTTP ({error})")
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-type":
            self._answer.content_type = value
        elif name in _KEPT:
            self._answer.headers += b"%s: %s\r\n" % (name, value)

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > _MOST_BODY:
            self._fail("answered more than is taken")
            self.close()
        self._body.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status == 100 or self._call is None:
            return
        call, self._call = self._call, None
        answer = self._answer
        answer.status = status
        answer.body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        call.connection = None
        if self._parser.should_keep_alive():
            self._upstream._give_back(self)
        else:
            self._transport.close()
        call.finish(answer)

    def _fail(self, reason: str) -> None:
        call, self._call = self._call, None
        if call is None or call.is_over:
            return
        call.connection = None
        if self._is_reused and not self._has_answer:
            # The other side closed a kept connection just as it was used again: that says nothing of the replica.
            self._upstream._send_on_new(self._raw, call)
            return
        self._answer.error = reason
        call.finish(self._answer)
