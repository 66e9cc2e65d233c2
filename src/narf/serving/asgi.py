"""The same application under any ASGI server, for those who want one in front of it, and for tests."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from narf.serving.http.message import Application, Request, Response, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class AsgiApplication:
    def __init__(self, application: Application, *, body_bytes: int = 32 << 20) -> None:
        self._application, self._body_bytes = application, body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        answered: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

        def respond(request: Request) -> None:
            if not answered.done() and request.response is not None:
                answered.set_result(request.response)

        request = Request(respond)
        request.method, request.query = scope["method"].encode(), scope.get("query_string", b"")
        request.path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        request.headers = dict(scope["headers"])
        body, more = [], True
        size = 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body.append(message.get("body", b""))
            size += len(body[-1])
            more = message.get("more_body", False)
            if size > self._body_bytes:
                request.reply(problem(413, f"The body is larger than {self._body_bytes} bytes."))
                break
        request.body = b"".join(body)
        if request.response is None:
            self._application(request)
        try:
            response = await answered
        except asyncio.CancelledError:
            request.leave()
            raise
        headers = [(b"content-type", response.content_type), (b"content-length", str(len(response.body)).encode())]
        for line in filter(None, response.headers.split(b"\r\n")):
            name, _, value = line.partition(b": ")
            headers.append((name.lower(), value))
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if request.method == b"HEAD" else response.body})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
