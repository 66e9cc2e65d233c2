"""The gateways that share one port of a machine: whichever is asked for metrics shows those of all.

Each listens, besides the shared port, on one of its own on this machine, which it announces; there it gives its counts.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from pathlib import Path
from typing import Any

import orjson

from narf.serving.gateway.metrics import counts, gateway_metrics
from narf.serving.gateway.table import Table
from narf.serving.gateway.upstream import Answer, Upstream
from narf.serving.http.message import Request, Response, json_response, problem

_log = logging.getLogger(__name__)
_ASK_SECONDS = 1.0
_COUNTS = b"/counts"


class Siblings:
    """announcement: this gateway's own file, "" where it has none; the others' lie beside it. slot: what its metrics are labelled with."""

    def __init__(self, table: Table, slot: str, announcement: Path | None) -> None:
        self._table, self._slot, self._announcement = table, slot, announcement

    def own(self, request: Request) -> None:
        """The application of the own port."""
        if request.path == _COUNTS:
            request.reply(json_response(200, counts(self._table)))
        else:
            request.reply(problem(404, "Here are a gateway's own counts only.", code="not_found"))

    async def answer_metrics(self, request: Request) -> None:
        others = self._others()
        asked = await asyncio.gather(*(_counts_at(url) for url in others.values()))
        found = {self._slot: counts(self._table)} | {slot: value for slot, value in zip(others, asked, strict=True) if value is not None}
        request.reply(Response(200, gateway_metrics(dict(sorted(found.items()))).encode(), b"text/plain; version=0.0.4"))

    def _others(self) -> dict[str, str]:
        """The others' own addresses by their slots."""
        found = {}
        for place in self._announcement.parent.glob("gateway*.json") if self._announcement is not None else ():
            try:
                said = json.loads(place.read_text(encoding="utf-8"))
            except (OSError, ValueError):
                continue  # it is being started again
            if said.get("pid") != os.getpid() and said.get("own") and said.get("slot") != self._slot:
                found[str(said["slot"])] = str(said["own"])
        return found


async def _counts_at(url: str) -> Any | None:
    future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
    upstream = Upstream(url)
    call = upstream.send(
        b"GET %s HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n" % _COUNTS,
        lambda answer: None if future.done() else future.set_result(answer),
    )
    try:
        async with asyncio.timeout(_ASK_SECONDS):
            answer = await future
    except TimeoutError:
        call.cancel()
        return None
    finally:
        upstream.close()
    try:
        return orjson.loads(answer.body) if not answer.error and answer.status == 200 else None
    except orjson.JSONDecodeError:
        _log.warning("another gateway's counts at %s cannot be read", url)
        return None
