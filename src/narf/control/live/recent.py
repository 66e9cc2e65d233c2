"""The latest events in memory, by topic, and where a reader who comes with a cursor must go on. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class Event:
    """`payload` is JSON text: made once, however many tabs hear it."""

    cursor: int
    topic: str
    payload: str


class Start(StrEnum):
    """How a stream begins."""

    LIVE = "live"  # nothing was missed
    BACKFILL = "backfill"  # what was missed is still kept
    RESET = "reset"  # it is not: the page must read anew


def start_of(cursor: int | None, *, first_kept: int, head: int) -> Start:
    """How a reader who has seen everything up to `cursor` goes on. Events `first_kept` to `head` are kept.

    A cursor beyond the head was given by another database: nothing of it can be trusted.
    """
    if cursor is None or cursor == head:
        return Start.LIVE
    return Start.BACKFILL if first_kept - 1 <= cursor < head else Start.RESET


class Recent:
    """The last `limit` events. What is older is in the database."""

    def __init__(self, head: int, limit: int = 2_000) -> None:
        self.head = self._floor = head  # events after the floor are here
        self._limit = limit
        self._order: deque[Event] = deque()
        self._topics: dict[str, deque[Event]] = {}

    def add(self, event: Event) -> None:
        """Events come in order of cursor; one that is here already changes nothing."""
        if event.cursor <= self.head:
            return
        self.head = event.cursor
        self._order.append(event)
        self._topics.setdefault(event.topic, deque()).append(event)
        while len(self._order) > self._limit:
            oldest = self._order.popleft()
            self._floor = oldest.cursor
            of_topic = self._topics[oldest.topic]
            of_topic.popleft()
            if not of_topic:
                del self._topics[oldest.topic]

    def reaches(self, cursor: int) -> bool:
        """Whether everything after `cursor` is here."""
        return cursor >= self._floor

    def after(self, topic: str, cursor: int, limit: int) -> list[Event]:
        """At most `limit` events of `topic` after `cursor`, oldest first."""
        of_topic = self._topics.get(topic)
        if not of_topic or of_topic[-1].cursor <= cursor:
            return []
        events = list(of_topic)
        at = bisect_right(events, cursor, key=lambda event: event.cursor)
        return events[at : at + limit]
