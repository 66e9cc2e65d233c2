"""Live: hears what happens from every service and lets every open page catch up with it.

A page is not a queue here but a set of cursors: its connection reads on from them as fast as the page takes it. So a slow
page costs no memory, nothing is dropped, and what comes after a lost connection is the same read as what came before it.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from narf.control.database import Database
from narf.control.live import store
from narf.control.live.recent import Event, Recent, Start, start_of

KEPT_FOR, KEPT = timedelta(days=1), 50_000
_FORGET_EVERY = 2_000
_MOST_PENDING = 20_000
_TOGETHER_SECONDS = 0.05
_log = logging.getLogger(__name__)

Cursor = int | str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next events of a stream, as JSON texts, each with the cursor after it. `more`: read again at once."""

    events: tuple[tuple[Cursor, str], ...] = ()
    more: bool = False


class Tail(Protocol):
    """A stream that is kept elsewhere and read from there, such as the output of a job.

    `read` is called in a thread, whenever the topic was woken and every half second while a page listens.
    """

    def read(self, parameters: Mapping[str, str], cursor: Cursor | None) -> Chunk:
        """What follows `cursor`, None being where a page begins that has nothing yet."""
        ...


class Live:
    """`publish` may be called from any thread, after the change is committed; it returns at once."""

    def __init__(self, database: Database, now: Callable[[], datetime], tails: Mapping[str, Tail] | None = None) -> None:
        self._database, self._now = database, now
        self.tails: dict[str, Tail] = dict(tails or {})
        self._pending: list[tuple[str, str]] = []
        self._listeners: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._work = threading.Event()
        self._closed = False
        self._since_forgetting = 0
        with database.read() as connection:
            _, head = store.bounds(connection)
        self._recent = Recent(head)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="live", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closed = True
        self._work.set()
        if self._thread is not None:
            self._thread.join(timeout=5)
        self.pass_once()

    def publish(self, topic: str, payload: Mapping[str, Any]) -> None:
        """Something happened that pages on `topic` should know. `payload` is small: ids and what changed."""
        text = json.dumps(payload, default=str)
        with self._lock:
            if len(self._pending) >= _MOST_PENDING:
                self._pending.clear()  # the database is away for long: pages read anew when they see the next event
                self._pending.append((topic, '{"overflow": true}'))
            self._pending.append((topic, text))
        self._work.set()

    def wake(self) -> None:
        """Something can be read from a tail: look now, not at the next half second."""
        for listener in tuple(self._listeners):
            listener()

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener` (from some thread) when there may be something to read. Returns how to stop."""
        with self._lock:
            self._listeners = self._listeners | {listener}

        def stop() -> None:
            with self._lock:
                self._listeners = self._listeners - {listener}

        return stop

    # -- reading, by connections

    @property
    def head(self) -> int:
        return self._recent.head

    def begin(self, cursor: int | None) -> tuple[Start, int]:
        """How a stream that was left at `cursor` goes on, and from where."""
        with self._database.read() as connection:
            first, _ = store.bounds(connection)
        head = self._recent.head
        start = start_of(cursor, first_kept=first, head=head)
        return start, cursor if start is Start.BACKFILL and cursor is not None else head

    def read(self, topic: str, cursor: int, limit: int = 200) -> Chunk:
        if self._recent.reaches(cursor):
            with self._lock:
                events = self._recent.after(topic, cursor, limit)
        else:
            with self._database.read() as connection:
                events = store.after(connection, cursor, topic=topic, limit=limit)
        return Chunk(tuple((event.cursor, event.payload) for event in events), more=len(events) == limit)

    # -- writing, in one thread

    def pass_once(self) -> bool:
        """Write what was published, read what is new (also from other processes), tell who listens."""
        with self._lock:
            pending, self._pending = self._pending, []
        new: list[Event] = []
        if pending:
            with self._database.write() as connection:
                store.add(connection, pending, self._now())
                self._since_forgetting += len(pending)
                if self._since_forgetting >= _FORGET_EVERY:
                    self._since_forgetting = 0
                    store.forget(connection, before=self._now() - KEPT_FOR, keep=KEPT)
                new = store.after(connection, self._recent.head, limit=5_000)
        elif not self._database.is_sqlite:
            with self._database.read() as connection:
                new = store.after(connection, self._recent.head, limit=5_000)
        if not new:
            return False
        with self._lock:
            for event in new:
                self._recent.add(event)
        self.wake()
        return True

    def _run(self) -> None:
        # On SQLite only this process writes events; on PostgreSQL others do, so it looks by itself too.
        every, written_at = None if self._database.is_sqlite else 0.5, float("-inf")
        while not self._closed:
            self._work.wait(timeout=every)
            # The first of a burst at once, what follows it together.
            time.sleep(max(0.0, written_at + _TOGETHER_SECONDS - time.monotonic()))
            self._work.clear()
            written_at = time.monotonic()
            try:
                self.pass_once()
            except Exception:  # the thread must outlive a database that is away; the pages stay up and say so
                _log.exception("live events could not be written")
                self._work.wait(timeout=1)
