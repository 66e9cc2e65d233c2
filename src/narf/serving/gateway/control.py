"""The gateway's line to the control plane: the table as it changes, who a token is, and reports of what was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any

import orjson

from narf.serving.gateway.callers import Caller
from narf.serving.gateway.payloads import Payloads
from narf.serving.gateway.table import Endpoint, Table
from narf.serving.gateway.upstream import Answer, Upstream

_log = logging.getLogger(__name__)
_REPORT_SECONDS = 1.0
_WAIT_SECONDS = 2  # short, so that a control plane that ends is not held up by us


class ControlLine:
    """changed: called after each new table."""

    def __init__(self, url: str, token: str, gateway_id: str, table: Table, changed: Callable[[], None]) -> None:
        self._upstream, self._token, self._id = Upstream(url), token, gateway_id
        self._table, self._changed = table, changed
        self._urgent = asyncio.Event()
        self._had_demand: set[str] = set()

    async def follow(self) -> None:
        """Keep the table current, for ever. Without the control plane the last table stays."""
        pause = 0.05
        while True:
            try:
                value = await self._call("GET", f"/api/v1/gateway/table?known={self._table.version}&wait={_WAIT_SECONDS}")
                if value is not None and value["version"] != self._table.version:
                    self._table.update(value)
                    self._changed()
                pause = 0.05
            except (ConnectionError, KeyError, TypeError, ValueError) as error:
                _log.warning("the control plane gave no table: %s", error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)

    async def report(self) -> None:
        """Tell what is asked for, each second while there is anything to tell, and at once when somebody waits for a start."""
        while True:
            with contextlib.suppress(TimeoutError):  # the ordinary second is over
                await asyncio.wait_for(self._urgent.wait(), _REPORT_SECONDS)
            self._urgent.clear()
            body = self._demand()
            if body:
                try:
                    await self._call("POST", "/api/v1/gateway/reports", {"gateway": self._id, "endpoints": body})
                except ConnectionError as error:
                    _log.warning("the control plane did not take a report: %s", error)
                    await asyncio.sleep(0.2)
                    if any(endpoint.held for endpoint in self._table.endpoints.values()):
                        self._urgent.set()

    async def keep(self, payloads: Payloads) -> None:
        """Hand on, each second, the payloads that a policy keeps. While the control plane is away they are dropped."""
        while True:
            await asyncio.sleep(_REPORT_SECONDS)
            blocks = payloads.take()
            if blocks:
                try:
                    await self._call("POST", "/api/v1/gateway/payloads", {"endpoints": blocks})
                except ConnectionError as error:
                    _log.warning("the control plane did not take payloads: %s", error)

    def wake(self, _endpoint: Endpoint) -> None:
        self._urgent.set()

    async def ask_caller(self, authorization: bytes) -> Caller | None:
        """Who this header speaks for; None: nobody.

        Raises:
            ConnectionError: the control plane does not answer.
        """
        answer = await self._send(b"GET", b"/api/v1/gateway/caller", b"", authorization)
        if answer.status in (401, 403):
            return None
        if answer.status != 200:
            raise ConnectionError(f"the control plane answered {answer.status}")
        value = orjson.loads(answer.body)
        projects = value.get("projects")
        return Caller(value["user"], dict(value["roles"]), None if projects is None else tuple(projects))

    def _demand(self) -> dict[str, Any]:
        found = {}
        for endpoint in self._table.endpoints.values():
            busy = bool(endpoint.arrived or endpoint.in_flight or endpoint.held)
            if not busy and endpoint.id not in self._had_demand:
                continue
            found[endpoint.id] = {
                "concurrency": max(endpoint.peak, endpoint.in_flight),
                "waiting": len(endpoint.held),
                "arrived": endpoint.arrived,
                "revisions": {revision.id: revision.traffic.take() for revision in endpoint.revisions if revision.traffic.requests},
                "ejected": [r.id for revision in endpoint.revisions for r in revision.replicas if r.health.ejections],
            }
            endpoint.peak, endpoint.arrived = endpoint.in_flight, 0
            (self._had_demand.add if busy else self._had_demand.discard)(endpoint.id)
        return found

    async def _call(self, method: str, path: str, body: Any = None) -> Any:
        content = b"" if body is None else orjson.dumps(body)
        answer = await self._send(method.encode(), path.encode(), content, b"Bearer " + self._token.encode())
        if answer.status == 304 or answer.status == 204:
            return None
        if answer.status >= 400:
            raise ConnectionError(f"{path} was answered {answer.status}: {answer.body[:200]!r}")
        return orjson.loads(answer.body)

    async def _send(self, method: bytes, path: bytes, body: bytes, authorization: bytes) -> Answer:
        if b"\r" in authorization or b"\n" in authorization:
            raise ConnectionError("no header can hold a line break")
        raw = b"%s %s HTTP/1.1\r\nhost: control\r\nauthorization: %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            method,
            path,
            authorization,
            len(body),
            body,
        )
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

        def done(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        call = self._upstream.send(raw, done)
        try:
            async with asyncio.timeout(_WAIT_SECONDS + 10):
                answer = await future
        except TimeoutError:
            call.cancel()
            raise ConnectionError("the control plane does not answer") from None
        if answer.error:
            raise ConnectionError(f"the control plane {answer.error}")
        return answer
