"""The output of a workload as a stream."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.backends.protocol import LogChunk
from narf.control.live.tails import LogTail, MarkTail, MetricTail
from narf.domain.errors import BadInput

OF = {"workload": "wl-1"}


class Output:
    """The output of one attempt, of which `seen` bytes were written so far, read in pieces of `piece`."""

    def __init__(self, data: bytes, piece: int) -> None:
        self.data, self.piece, self.seen = data, piece, 0

    def logs(self, workload_id: str, *, attempt: int | None, offset: int, limit: int) -> LogChunk:
        end = min(self.seen, offset + min(limit, self.piece))
        data = self.data[offset:end]
        return LogChunk(offset, data, self.seen == len(self.data) and end == self.seen)


@given(st.text(max_size=60), st.integers(4, 9), st.lists(st.integers(0, 30), max_size=12))
def test_the_pieces_make_the_whole_wherever_characters_are_cut(text: str, piece: int, written: list[int]) -> None:
    output = Output(text.encode(), piece)
    tail = LogTail(output)
    cursor, heard, complete = None, "", False
    for more in [*written, len(output.data)]:
        output.seen = min(len(output.data), output.seen + more)
        while chunk := tail.read(OF, cursor):
            for place, payload in chunk.events:
                cursor = place
                event = json.loads(payload)
                assert not complete
                heard, complete = heard + event["text"], event["complete"]
            if not chunk.more:
                break
    assert heard == text
    assert complete


def test_after_the_end_nothing_more_is_read() -> None:
    output = Output(b"done\n", 100)
    output.seen = 5
    tail = LogTail(output)
    [(cursor, _)] = tail.read(OF, "1:0").events
    assert tail.read(OF, cursor).events == ()


@pytest.mark.parametrize("cursor", ["", "x", "1", "1:", ":1", "1:x", "1:1:1", "-1:0", "1:-1", "9" * 50 + ":0", "1:" + "9" * 50])
def test_a_cursor_of_nobody_is_refused(cursor: str) -> None:
    with pytest.raises(BadInput):
        LogTail(Output(b"", 1)).read(OF, cursor)


@dataclass
class Count:
    key: str
    count: int
    last: float = 0.5
    last_step: int = 9
    last_time: int = 1_700_000_000_000
    least: float | None = 0.1
    greatest: float | None = 0.9
    first_step: int = 0


class Counts:
    def __init__(self, *counts: Count) -> None:
        self.counts = list(counts)

    def metrics(self, run_id: str) -> list[Count]:
        return self.counts


def test_a_page_hears_how_far_the_metrics_are_and_then_only_what_is_new() -> None:
    counts = Counts(Count("loss", 10), Count("accuracy", 5, last=float("nan")))
    tail = MetricTail(counts)
    [(cursor, payload)] = tail.read({"run": "r"}, None).events
    metrics = json.loads(payload)["metrics"]
    assert metrics["loss"]["count"] == 10
    assert metrics["accuracy"]["last"] == "NaN"
    assert tail.read({"run": "r"}, cursor).events == ()
    counts.counts[0].count = 11
    [(_, payload)] = tail.read({"run": "r"}, cursor).events
    assert json.loads(payload)["metrics"]["loss"]["count"] == 11


def test_a_run_without_metrics_says_nothing() -> None:
    assert MetricTail(Counts()).read({"run": "r"}, None).events == ()


def test_a_mark_is_told_once_and_again_when_it_is_another() -> None:
    mark = {"name": ""}
    tail = MarkTail("endpoint", lambda name: mark["name"])
    assert tail.read({"endpoint": "e"}, None).events == ()
    mark["name"] = "minute 1"
    [(cursor, _)] = tail.read({"endpoint": "e"}, None).events
    assert tail.read({"endpoint": "e"}, cursor).events == ()
    mark["name"] = "minute 2"
    assert len(tail.read({"endpoint": "e"}, cursor).events) == 1
