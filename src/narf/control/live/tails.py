"""Streams that are kept elsewhere: the output of a workload, and how far the metrics of a run have come."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from narf.backends.protocol import LogChunk
from narf.control.live.service import Chunk, Cursor
from narf.domain.errors import BadInput

_READ = 256 << 10


class MetricState(Protocol):
    """How far one metric of a run has come."""

    @property
    def key(self) -> str: ...
    @property
    def count(self) -> int: ...
    @property
    def last(self) -> float: ...
    @property
    def last_step(self) -> int: ...
    @property
    def last_time(self) -> int: ...
    @property
    def least(self) -> float | None: ...
    @property
    def greatest(self) -> float | None: ...
    @property
    def first_step(self) -> int: ...


class Metrics(Protocol):
    def metrics(self, run_id: str) -> Iterable[MetricState]: ...


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


class MarkTail:
    """Says that something is another than before, by a mark that is the cursor: what it is now, the page reads itself."""

    def __init__(self, parameter: str, mark: Callable[[str], str]) -> None:
        self._parameter, self._mark = parameter, mark

    def read(self, parameters: Mapping[str, str], cursor: Cursor | None) -> Chunk:
        mark = self._mark(parameters[self._parameter])
        return Chunk() if mark == (cursor or "") else Chunk(((mark, "{}"),))


class MetricTail:
    """How many points each metric of a run has now. The points themselves a page reads as series, from the last step it has.

    The cursor is the number of all points: when it is the same, nothing is new.
    """

    def __init__(self, tracking: Metrics) -> None:
        self._tracking = tracking

    def read(self, parameters: Mapping[str, str], cursor: Cursor | None) -> Chunk:
        states = list(self._tracking.metrics(parameters["run"]))
        total = str(sum(state.count for state in states))
        if total == cursor or (cursor is None and not states):
            return Chunk()
        return Chunk(((total, json.dumps({"metrics": {state.key: _body(state) for state in states}})),))


def _body(state: MetricState) -> dict[str, object]:
    """As the API's list of metrics says it."""
    return {
        "count": state.count,
        "last": state.last
        if math.isfinite(state.last)
        else "NaN"
        if math.isnan(state.last)
        else "Infinity"
        if state.last > 0
        else "-Infinity",
        "last_step": state.last_step,
        "last_time": datetime.fromtimestamp(state.last_time / 1000, UTC).isoformat(),
        "min": state.least,
        "max": state.greatest,
        "first_step": state.first_step,
    }
