"""The routing table that gateways follow, and who waits for a newer one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
import time
from typing import Any

from narf.control.database import Database
from narf.control.endpoints import store
from narf.control.endpoints.plan import Role


class Routing:
    """`changed`, from any thread, says that the table may be another; who waits for that is woken without reading the database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.count = 0
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._lock = threading.Lock()
        self._read: tuple[int, float, dict[str, Any]] = (-1, 0.0, {})

    def changed(self) -> None:
        with self._lock:
            self.count += 1
            waiting = list(self._waiting)
        for loop, event in waiting:
            with contextlib.suppress(RuntimeError):  # its loop was closed meanwhile
                loop.call_soon_threadsafe(event.set)

    async def wait(self, count: int, seconds: float) -> None:
        """Until `changed` was called since `count` was read, `seconds` at most."""
        place = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            if self.count != count:
                return
            self._waiting.add(place)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(place[1].wait(), seconds)
        finally:
            with self._lock:
                self._waiting.discard(place)

    def recent_table(self, seconds: float) -> dict[str, Any]:
        """The table as it was read after the last change that is known here, at most so long ago: several gateways ask for it all the time."""
        count, read_at = self.count, time.monotonic()
        known = self._read
        if known[0] == count and read_at - known[1] < seconds:
            return known[2]
        value = self.table()
        self._read = (count, read_at, value)
        return value

    def table(self) -> dict[str, Any]:
        """Endpoints with the replicas of each revision that answer. Its version is a digest of what it says."""
        with self._database.read() as connection:
            endpoints = store.list_endpoints(connection)
            revisions = store.revisions_of(connection, [endpoint.id for endpoint in endpoints])
            replicas = store.list_replicas(connection)
        values = []
        for endpoint in endpoints:
            mine = [revision for revision in revisions if revision.endpoint_id == endpoint.id]
            serving = [revision for revision in mine if revision.role is Role.ACTIVE]
            if not serving:  # until a replacement is ready, whatever is there goes on
                serving = [revision for revision in mine if revision.role is Role.RETIRED][-1:]
            parts = []
            for revision in serving:
                ready = [r for r in replicas if r.revision_id == revision.id and r.state.answers]
                parts.append(
                    {
                        "id": revision.id,
                        "number": revision.number,
                        "model": revision.model,
                        "version": str(revision.version),
                        "weight": revision.weight,
                        "replicas": [{"id": replica.id, "url": replica.url} for replica in ready],
                    }
                )
            values.append(
                {
                    "id": endpoint.id,
                    "name": endpoint.name,
                    "project": endpoint.project,
                    "max_replicas": endpoint.most,
                    "timeout_seconds": endpoint.timeout_seconds,
                    "public": endpoint.public,
                    "keep": endpoint.keep,
                    "trouble": endpoint.trouble,
                    "revisions": parts,
                }
            )
        digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
        return {"version": digest, "endpoints": values}
