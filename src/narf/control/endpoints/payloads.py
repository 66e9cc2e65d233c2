"""Kept payloads: packed blocks in files, found by the time in a prediction's id, deleted by age and size."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import secrets
import shutil
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from narf.control.database import Database
from narf.control.endpoints import store
from narf.control.endpoints.store import Endpoint, PayloadBlock
from narf.domain.errors import BadInput
from narf.serving.identity import milliseconds_of

_MOST_UNPACKED = 32 << 20  # of one block
_TIDY_EVERY = timedelta(minutes=1)
_AT_ONCE = 1000
_UNFINISHED = timedelta(hours=1)  # no block takes so long from its file to its row


def to_delete(blocks: Sequence[PayloadBlock], now: datetime, *, days: float, most_bytes: int) -> list[PayloadBlock]:
    """Those of one endpoint that its policy no longer keeps: older than `days`, and of the others the oldest beyond `most_bytes`."""
    oldest_ms = (now - timedelta(days=days)).timestamp() * 1e3
    gone = [block for block in blocks if block.last_ms < oldest_ms]
    kept = sorted((block for block in blocks if block.last_ms >= oldest_ms), key=lambda block: (block.last_ms, block.id))
    size = sum(block.size_bytes for block in kept)
    for block in kept:
        if size <= most_bytes:
            break
        gone.append(block)
        size -= block.size_bytes
    return gone


class PayloadStore:
    """`folder` has a folder for each endpoint; only this account can read it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._folder = database, folder
        self._sizes: dict[str, tuple[datetime, int]] = {}  # when each endpoint's was last counted, and what it is by now

    def receive(self, endpoint: Endpoint, packed: str, now: datetime) -> None:
        """One block from a gateway.

        Raises:
            BadInput: it cannot be read.
        """
        try:
            blob = base64.b64decode(packed, validate=True)
            ids = [item["id"] for item in _unpacked(blob)]
            times = [time for time in map(milliseconds_of, ids) if time is not None]
        except (binascii.Error, zlib.error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadInput(f"The payloads cannot be read: {error}.", field="payloads") from None
        if not times:
            raise BadInput("The payloads have no prediction of ours.", field="payloads")
        place = self._folder / endpoint.id
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        name = f"{min(times):013d}-{secrets.token_hex(4)}.z"
        temporary = place / f".{name}"
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(blob)
        os.replace(temporary, place / name)
        with self._database.write() as connection:
            store.add_payload_block(connection, endpoint.id, min(times), max(times), len(ids), len(blob), name)
        counted_at, size = self._sizes.pop(endpoint.id, (now - _TIDY_EVERY, 0))
        if now - counted_at < _TIDY_EVERY:
            self._sizes[endpoint.id] = counted_at, size + len(blob)
            if size + len(blob) <= endpoint.keep.get("most_bytes", 0):
                return
        self.tidy(endpoint, now)

    def find(self, endpoint_id: str, prediction: str) -> dict[str, Any] | None:
        """What was asked and answered, as it was: bytes in base64. None: it was not kept."""
        milliseconds = milliseconds_of(prediction)
        if milliseconds is None:
            return None
        with self._database.read() as connection:
            blocks = store.payload_blocks(connection, endpoint_id, around_ms=milliseconds)
        for block in blocks:
            try:
                items = _unpacked((self._folder / endpoint_id / block.name).read_bytes())
            except FileNotFoundError:
                continue  # deleted meanwhile
            found = next((item for item in items if item["id"] == prediction), None)
            if found is not None:
                return found
        return None

    def endpoints_around(self, prediction: str) -> list[str]:
        """Endpoints that kept something of that time: a refused request has a payload, and no record."""
        milliseconds = milliseconds_of(prediction)
        if milliseconds is None:
            return []
        with self._database.read() as connection:
            return sorted({block.endpoint_id for block in store.payload_blocks(connection, None, around_ms=milliseconds)})

    def tidy(self, endpoint: Endpoint, now: datetime) -> None:
        policy: Mapping[str, Any] = endpoint.keep
        with self._database.read() as connection:
            counted_at, size = self._sizes.get(endpoint.id) or (now, store.payload_bytes(connection, endpoint.id))
        while True:
            with self._database.read() as connection:
                oldest = store.payload_blocks(connection, endpoint.id, limit=_AT_ONCE)
            younger_bytes = size - sum(block.size_bytes for block in oldest)
            most_bytes = max(0, policy.get("most_bytes", 0) - younger_bytes)
            gone = to_delete(oldest, now, days=policy.get("days", 0.0), most_bytes=most_bytes)
            self._delete(gone)
            size -= sum(block.size_bytes for block in gone)
            if len(gone) < _AT_ONCE:
                break
        self._sizes[endpoint.id] = counted_at, size

    def forget(self, endpoint_id: str) -> None:
        """All of an endpoint, which is deleted."""
        with self._database.read() as connection:
            blocks = store.payload_blocks(connection, endpoint_id)
        self._delete(blocks)
        shutil.rmtree(self._folder / endpoint_id, ignore_errors=True)

    def tidy_all(self, now: datetime) -> None:
        """All endpoints, what those left that were deleted, and files that nothing leads to: a kill came before their rows."""
        with self._database.read() as connection:
            endpoints = store.list_endpoints(connection)
            orphans = store.payload_owners(connection) - {endpoint.id for endpoint in endpoints}
        for endpoint in endpoints:
            self._sizes.pop(endpoint.id, None)
            self.tidy(endpoint, now)
        for endpoint_id in orphans:
            self.forget(endpoint_id)
        known = {endpoint.id for endpoint in endpoints}
        for folder in filter(Path.is_dir, self._folder.glob("*")):
            self._delete_unknown(folder, now)
            if folder.name not in known:
                with contextlib.suppress(OSError):  # something in it is young
                    folder.rmdir()

    def _delete_unknown(self, folder: Path, now: datetime) -> None:
        """What has no row and is too old to get one."""
        before = (now - _UNFINISHED).timestamp()
        old = []
        with os.scandir(folder) as files:
            for file in files:
                with contextlib.suppress(FileNotFoundError):  # it has its name by now, or is deleted
                    if file.stat().st_mtime < before:
                        old.append(file.name)
        for start in range(0, len(old), _AT_ONCE):
            names = old[start : start + _AT_ONCE]
            with self._database.read() as connection:
                known = store.known_payload_names(connection, folder.name, names)
            for name in set(names) - known:
                (folder / name).unlink(missing_ok=True)

    def _delete(self, blocks: Sequence[PayloadBlock]) -> None:
        if not blocks:
            return
        for block in blocks:
            (self._folder / block.endpoint_id / block.name).unlink(missing_ok=True)
        with self._database.write() as connection:
            store.remove_payload_blocks(connection, [block.id for block in blocks])


def _unpacked(blob: bytes) -> list[dict[str, Any]]:
    unpacker = zlib.decompressobj()
    data = unpacker.decompress(blob, _MOST_UNPACKED)
    if unpacker.unconsumed_tail:
        raise ValueError("a block is too large")
    items: list[dict[str, Any]] = json.loads(data)
    return items
