"""The WebSocket of a tab: `/api/v1/live`.

A page sends {"subscribe": topic, "cursor": cursor or null} and {"unsubscribe": topic}. It hears, for each topic,
{"topic", "cursor", "event"}, {"topic", "cursor", "ready": true} once it has caught up, {"topic", "cursor", "reset": true} when what
it missed is no longer kept, and {"topic", "problem": {...}} when it may not listen.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass

from anyio import to_thread
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from narf.control.access.rules import SIGNED_IN, Rules
from narf.control.live.recent import Start
from narf.control.live.service import Chunk, Cursor, Live, Tail
from narf.control.live.topics import Topic, Topics
from narf.control.problems import problem_of
from narf.domain.access import Principal
from narf.domain.errors import BadInput, LimitReached, NarfError

RULES: Rules = {("WEBSOCKET", "/api/v1/live"): SIGNED_IN}

# A connection lives some minutes and is then made anew, from its cursors: so every sign-out and every change of roles
# reaches it soon, by the same check as every other request.
_LIFE_SECONDS = (300.0, 420.0)
_TAIL_SECONDS = 0.5
_SEND_SECONDS = 20.0
_MOST_STREAMS, _MOST_MESSAGE = 200, 4096
_TRY_AGAIN = 1013


def router(live: Live, topics: Topics) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/api/v1/live")
    async def listen(websocket: WebSocket) -> None:
        await websocket.accept()
        await _Connection(websocket, websocket.state.principal, live, topics).run()

    return routes


@dataclass(slots=True)
class _Stream:
    topic: Topic
    cursor: Cursor | None
    tail: Tail | None
    ready: bool = False


class _Connection:
    def __init__(self, websocket: WebSocket, principal: Principal, live: Live, topics: Topics) -> None:
        self._websocket, self._principal, self._live, self._topics = websocket, principal, live, topics
        self._streams: dict[str, _Stream] = {}
        self._woken = asyncio.Event()
        self._end = time.monotonic() + random.uniform(*_LIFE_SECONDS)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has ended: nobody is left to hear it
                loop.call_soon_threadsafe(self._woken.set)

        stop = self._live.listen(wake)
        sender = asyncio.create_task(self._send())
        receiver = asyncio.create_task(self._receive())
        try:
            done, _ = await asyncio.wait({sender, receiver}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                with suppress(WebSocketDisconnect, TimeoutError, RuntimeError):  # RuntimeError: sent after the page had left
                    task.result()
        finally:
            stop()
            for task in (sender, receiver):
                task.cancel()
            with suppress(RuntimeError, WebSocketDisconnect):  # the page has left already
                await self._websocket.close(_TRY_AGAIN)

    async def _receive(self) -> None:
        while True:
            text = await self._websocket.receive_text()
            try:
                message = json.loads(text) if len(text) <= _MOST_MESSAGE else None
            except ValueError:
                message = None
            if not isinstance(message, dict):
                await self._say({"problem": problem_of(BadInput("A message is a small JSON object."))[1]})
            elif isinstance(name := message.get("unsubscribe"), str):
                self._streams.pop(name, None)
            elif isinstance(name := message.get("subscribe"), str):
                await self._subscribe(name, message.get("cursor"))

    async def _subscribe(self, name: str, cursor: object) -> None:
        try:
            if len(self._streams) >= _MOST_STREAMS:
                raise LimitReached(f"One page listens to at most {_MOST_STREAMS} topics.")
            at = _checked(cursor)
            topic = await to_thread.run_sync(self._topics.topic, name, self._principal)
            tail = self._live.tails.get(topic.template)
            if tail is None:
                if isinstance(at, str):
                    raise BadInput("The cursor of this topic is a whole number.", field="cursor")
                start, at = await to_thread.run_sync(self._live.begin, at)
                if start is Start.RESET:
                    await self._say({"topic": name, "cursor": at, "reset": True})
        except NarfError as error:
            await self._say({"topic": name, "problem": problem_of(error)[1]})
            return
        self._streams[name] = _Stream(topic, at, tail)
        self._woken.set()

    async def _send(self) -> None:
        while time.monotonic() < self._end:
            self._woken.clear()
            busy = False
            for name, stream in tuple(self._streams.items()):
                busy |= await self._send_one(name, stream)
            if busy:
                continue
            wait = _TAIL_SECONDS if any(stream.tail for stream in self._streams.values()) else self._end - time.monotonic()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), max(wait, 0.01))

    async def _send_one(self, name: str, stream: _Stream) -> bool:
        """Send what this stream has, at most one chunk; whether there is more."""
        try:
            chunk = await self._read(stream)
        except NarfError as error:
            self._streams.pop(name, None)
            await self._say({"topic": name, "problem": problem_of(error)[1]})
            return False
        for cursor, payload in chunk.events:
            if self._streams.get(name) is not stream:
                return False  # left, or begun anew, while this was read
            head = json.dumps({"topic": name, "cursor": cursor})
            await self._send_text(f'{head[:-1]}, "event": {payload}}}')
            stream.cursor = cursor
        if not chunk.more and not stream.ready:
            stream.ready = True
            await self._say({"topic": name, "ready": True} | ({} if stream.cursor is None else {"cursor": stream.cursor}))
        return chunk.more

    async def _read(self, stream: _Stream) -> Chunk:
        if stream.tail is not None:
            return await to_thread.run_sync(stream.tail.read, stream.topic.parameters, stream.cursor)
        assert isinstance(stream.cursor, int)
        if stream.cursor >= self._live.head:
            return Chunk()
        return await to_thread.run_sync(self._live.read, stream.topic.name, stream.cursor)

    async def _say(self, message: dict[str, object]) -> None:
        await self._send_text(json.dumps(message))

    async def _send_text(self, text: str) -> None:
        # A page that takes nothing for this long is gone or asleep; it comes back with its cursors.
        await asyncio.wait_for(self._websocket.send_text(text), _SEND_SECONDS)


def _checked(cursor: object) -> Cursor | None:
    if cursor is None or (isinstance(cursor, str) and len(cursor) <= 200):
        return cursor
    if isinstance(cursor, int) and not isinstance(cursor, bool) and 0 <= cursor < 1 << 60:
        return cursor
    raise BadInput("A cursor is what this topic gave before, or null.", field="cursor")
