"""The output of a workload as a stream: read on from where the page is, attempt after attempt."""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from typing import Protocol

from narf.backends.protocol import LogChunk
from narf.control.live.service import Chunk, Cursor
from narf.domain.errors import BadInput

_READ = 256 << 10


class Logs(Protocol):
    def logs(self, workload_id: str, *, attempt: int | None, offset: int, limit: int) -> LogChunk: ...


class LogTail:
    """Cursor "attempt:offset", and ":end" after it when nothing follows."""

    def __init__(self, workloads: Logs) -> None:
        self._workloads = workloads

    def read(self, parameters: Mapping[str, str], cursor: Cursor | None) -> Chunk:
        attempt, offset, ended = _place(cursor)
        if ended:
            return Chunk()
        chunk = self._workloads.logs(parameters["workload"], attempt=attempt, offset=offset, limit=_READ)
        text, size = _text_of(chunk)
        following = chunk.start + size
        complete = chunk.is_complete and size == len(chunk.data)
        if not text and not complete:
            return Chunk()
        event = {"attempt": attempt, "start": chunk.start, "next": following, "text": text, "complete": complete}
        place = f"{attempt}:{following}:end" if complete else f"{attempt}:{following}"
        return Chunk(((place, json.dumps(event)),), more=not complete and size > 0)


def _place(cursor: Cursor | None) -> tuple[int, int, bool]:
    if cursor is None:
        return 1, 0, False
    attempt, _, rest = str(cursor).partition(":")
    offset, _, end = rest.partition(":")
    if not (attempt.isdecimal() and offset.isdecimal() and len(attempt) < 8 and len(offset) < 16 and end in ("", "end")):
        raise BadInput('The cursor of an output is "attempt:offset".', field="cursor")
    return int(attempt), int(offset), end == "end"


def _text_of(chunk: LogChunk) -> tuple[str, int]:
    """The text of the chunk's whole characters, and the number of bytes it stands for: a character may be cut at the end."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(chunk.data, final=chunk.is_complete)
    return text, len(chunk.data) - len(decoder.getstate()[0])
