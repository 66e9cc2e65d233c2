"""A job's output in bounded, rotated segments: the head and the tail are kept, the middle is dropped.

A segment is a file named by the offset of its first byte in the whole output, so that a byte keeps
its offset for ever, a cursor survives rotation, and a gap can be seen. Bytes are kept as they came.
"""

from __future__ import annotations

import os
from pathlib import Path

SEGMENT_BYTES = 4 << 20


class LogWriter:
    """Appends output below `folder`, keeping the first `head_bytes` and the last `tail_bytes`, each to a segment."""

    def __init__(self, folder: Path, *, head_bytes: int, tail_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.offset = log_end(folder)  # what is there already is gone on with, in a segment of its own
        self.lost_bytes = 0  # could not be written: the disk is full
        self._head_bytes, self._segment_bytes = head_bytes, segment_bytes
        self._tail_segments = max(2, -(-tail_bytes // segment_bytes))
        self._tail = [start for start in _starts(folder) if start >= head_bytes]  # where its segments begin
        self._file = -1
        self._start = 0  # of the open segment

    def write(self, data: bytes) -> None:
        """Append; never raises for a full disk: the program goes on, its output is lost and counted."""
        view = memoryview(data)
        while view:
            if self._file < 0 or self.offset - self._start >= self._segment_bytes:
                self._next_segment()
            piece = view[: self._segment_bytes - (self.offset - self._start)]
            self._append(piece)
            self.offset += len(piece)
            view = view[len(piece) :]

    def skip(self, count: int) -> None:
        """Leave a gap: the next `count` bytes are not to be had."""
        if count > 0:
            self.close()
            self.offset += count

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    def _append(self, piece: memoryview) -> None:
        written = 0
        try:
            while self._file >= 0 and written < len(piece):
                written += os.write(self._file, piece[written:])
        except OSError:
            pass  # counted below: there is nobody to raise to, and the program must go on
        if written < len(piece):
            # What follows stands in a segment of its own, at its true offset.
            self.lost_bytes += len(piece) - written
            self.close()
            if written == 0 and self.offset == self._start:
                self._path(self._start).unlink(missing_ok=True)

    def _next_segment(self) -> None:
        self.close()
        self._start = self.offset
        try:
            self._file = os.open(self._path(self.offset), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            self._file = -1
        if self.offset >= self._head_bytes:
            self._tail.append(self.offset)
            # One more than the tail: the newest is still filling.
            if len(self._tail) > self._tail_segments + 1:
                self._path(self._tail.pop(0)).unlink(missing_ok=True)

    def _path(self, start: int) -> Path:
        return self.folder / f"{start:020d}.log"


def read_log(folder: Path, offset: int, limit: int) -> tuple[int, bytes]:
    """At most `limit` bytes from `offset` on, and the offset where they begin.

    It is beyond `offset` when the bytes between were dropped. No bytes: nothing is there (yet).
    """
    try:
        starts = _starts(folder)
    except FileNotFoundError:
        return offset, b""
    begin, data = offset, bytearray()
    for start in starts:
        try:
            with open(folder / f"{start:020d}.log", "rb") as file:
                size = os.fstat(file.fileno()).st_size
                if start + size <= begin + len(data):
                    continue
                if start > begin + len(data):
                    if data:
                        break  # a gap ends the chunk
                    begin = start
                file.seek(begin + len(data) - start)
                data += file.read(limit - len(data))
        except FileNotFoundError:
            continue  # dropped between the listing and the opening
        if len(data) >= limit:
            break
    return begin, bytes(data)


def log_end(folder: Path) -> int:
    """The offset behind the last byte that is kept."""
    end = 0
    try:
        for entry in os.scandir(folder):
            if entry.name.endswith(".log"):
                end = max(end, int(entry.name[:-4]) + entry.stat().st_size)
    except FileNotFoundError:
        return 0
    return end


def cut_log(folder: Path, end: int) -> None:
    """Drop what stands at offset `end` and beyond."""
    for start in reversed(_starts(folder)):
        path = folder / f"{start:020d}.log"
        if start >= end:
            path.unlink()
        elif start + path.stat().st_size > end:
            os.truncate(path, end - start)


def _starts(folder: Path) -> list[int]:
    """Where the segments begin, in order."""
    return sorted(int(entry.name[:-4]) for entry in os.scandir(folder) if entry.name.endswith(".log"))
