"""The spool: two append-only files into which one process writes what must not be lost.

`docs/architecture/spool.md` describes the format. A point is on disk (in the kernel's page cache, which outlives the process)
when `SpoolWriter.append_points` returns True.
"""

from __future__ import annotations

import errno
import json
import os
import struct
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

RECORD_BYTES = 32
MAGIC = 0x4E50
_RECORD = struct.Struct("<HHIqdd")  # magic, check, key, step, time, value
_BODY = struct.Struct("<Iqdd")
_HEAD = struct.Struct("<HH")
_SEED = zlib.crc32(struct.pack("<H", MAGIC))  # the check covers the magic number too

_BACKLOG_BYTES = 8 << 20  # kept in memory while the disk is full: 262,144 points
_RETRY_SECONDS = 0.25  # between two tries to write to a full disk
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class Point(NamedTuple):
    key: int
    step: int
    time: float
    value: float


def pack_point(key: int, step: int, when: float, value: float) -> bytes:
    """One record of a points file. `struct.error` for a step beyond 64 bits."""
    body = _BODY.pack(key, step, when, value)
    return _HEAD.pack(MAGIC, zlib.crc32(body, _SEED) & 0xFFFF) + body


def verified_length(data: bytes) -> int:
    """How many bytes at the start of `data` are whole records that verify."""
    good = 0
    crc32, head = zlib.crc32, _HEAD.unpack_from
    for at in range(0, len(data) - RECORD_BYTES + 1, RECORD_BYTES):
        magic, check = head(data, at)
        if magic != MAGIC or crc32(data[at + 4 : at + RECORD_BYTES], _SEED) & 0xFFFF != check:
            break
        good = at + RECORD_BYTES
    return good


def unpack_points(data: bytes) -> Iterator[Point]:
    """The points in `data` up to the first record that does not verify."""
    for _, _, key, step, when, value in _RECORD.iter_unpack(data[: verified_length(data)]):
        yield Point(key, step, when, value)


def read_events(data: bytes) -> tuple[list[dict[str, Any]], int]:
    """The whole events at the start of `data`, and how many bytes they take. A line that is no JSON object ends them."""
    events: list[dict[str, Any]] = []
    used = 0
    while True:
        end = data.find(b"\n", used)
        if end < 0:
            return events, used
        try:
            event = json.loads(data[used:end])
        except ValueError:
            return events, used
        if not isinstance(event, dict) or "type" not in event:
            return events, used
        events.append(event)
        used = end + 1


class AppendFile:
    """A file that only grows by whole records, whatever the disk does.

    While the disk is full, records wait in memory (`_BACKLOG_BYTES` at most; what comes after that is refused) and are written
    in order once there is room. A write never blocks longer than the system call. What waits in `first` is written before anything
    here: a point whose key's event was never written could not be named. Not locked: the owner does that.
    """

    def __init__(self, path: str, first: AppendFile | None = None) -> None:
        self.path = path
        self._first = first
        self.refused = 0  # records dropped because disk and backlog were full
        self._fd = self._open()
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._retry_at = 0.0

    def append(self, record: bytes) -> bool:
        """Whether `record` is on disk now. If not, it waits in memory or was refused."""
        first = self._first
        if (self._backlog or (first is not None and first._backlog)) and not self._drain():
            return self._keep(record)
        return self._write(record) or self._keep(record)

    def flush(self) -> bool:
        """Try to write what waits in memory; whether nothing waits any more."""
        if self._first is not None:
            self._first._retry_at = 0.0
        self._retry_at = 0.0
        return self._drain()

    def close(self) -> None:
        if self._fd >= 0:
            self.flush()
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> int:
        return os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def _write(self, record: bytes) -> bool:
        try:
            written = os.write(self._fd, record)
        except OSError as error:
            if error.errno == errno.EBADF and self._fd >= 0:  # the program has closed what it did not open, as daemons do
                self._fd = self._open()
                return self._write(record)
            if error.errno not in _FULL:
                raise
            return False
        if written == len(record):
            return True
        # Half a record would hide everything after it from readers: take it back.
        os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
        return False

    def _drain(self) -> bool:
        now = time.monotonic()
        if now < self._retry_at or (self._first is not None and not self._first._drain()):
            return False
        while self._backlog:
            if not self._write(self._backlog[0]):
                self._retry_at = now + _RETRY_SECONDS
                return False
            self._backlog_bytes -= len(self._backlog.popleft())
        return True

    def _keep(self, record: bytes) -> bool:
        if self._backlog_bytes + len(record) > _BACKLOG_BYTES:
            self.refused += 1
        else:
            self._backlog.append(record)
            self._backlog_bytes += len(record)
        return False


class SpoolWriter:
    """Appends points and events of this process to a pair of files of its own in `folder`. Safe from any thread.

    The files appear with the first record, so a process that logs nothing leaves nothing. After a fork the child starts a pair of
    its own (`forget` is called in it).
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.forget()

    def forget(self) -> None:
        """Start over with a new pair of files; the old ones are left to whoever opened them."""
        self.spool_id = ""
        # Reentrant: a signal handler or a destructor may log while this thread is logging.
        self._lock = threading.RLock()
        self._points: AppendFile | None = None
        self._events: AppendFile | None = None

    def append_points(self, records: bytes) -> bool:
        """Whether the records (a multiple of 32 bytes) are on disk now."""
        with self._lock:
            file = self._points or self._open()[0]
            return file.append(records)

    def append_event(self, type_: str, **fields: Any) -> bool:
        fields["type"] = type_
        fields.setdefault("time", time.time())
        line = json.dumps(fields, separators=(",", ":"), default=str).encode("utf-8", "backslashreplace") + b"\n"
        with self._lock:
            self._open()
            assert self._events is not None
            return self._events.append(line)

    def flush(self) -> bool:
        """Whether everything is on disk."""
        with self._lock:
            files = [file for file in (self._events, self._points) if file is not None]
            return not [file for file in files if not file.flush()]

    @property
    def refused(self) -> int:
        return sum(file.refused for file in (self._events, self._points) if file is not None)

    def _open(self) -> tuple[AppendFile, AppendFile]:
        if self._points is None or self._events is None:
            os.makedirs(self.folder, exist_ok=True)
            self.spool_id = os.urandom(8).hex()
            self._events = AppendFile(os.path.join(self.folder, self.spool_id + ".events"))
            self._points = AppendFile(os.path.join(self.folder, self.spool_id + ".points"), first=self._events)
        return self._points, self._events
