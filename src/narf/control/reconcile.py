"""Runs reconcilers: each in its thread, woken by a change or by its timer, stopped together.

A reconciler does three things in order: load in a short transaction, decide with none open, apply guarded by the version it
loaded. A pass that raises is logged and tried again; it never ends the loop.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator
from datetime import datetime
from typing import Protocol

_log = logging.getLogger(__name__)
_LATE_SECONDS = 180.0


class Reconciler(Protocol):
    name: str

    def pass_once(self, now: datetime) -> bool:
        """Look at everything once. True: something is left that another pass should do at once, and nobody will wake us for it."""
        ...

    def next_look_seconds(self) -> float:
        """How long to rest when nobody wakes it."""
        ...


class ReconcilerLoop:
    """One thread for one reconciler. `is_leader` is asked before each pass: only one process decides."""

    def __init__(self, reconciler: Reconciler, now: Callable[[], datetime], is_leader: Callable[[], bool] = lambda: True) -> None:
        self._reconciler, self._now, self._is_leader = reconciler, now, is_leader
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"reconcile-{reconciler.name}", daemon=True)
        self._due_at = float("inf")

    def start(self) -> None:
        self._due_at = time.monotonic()
        self._thread.start()

    @property
    def is_late(self) -> bool:
        """A pass that was due has not ended for minutes: it hangs."""
        return time.monotonic() > self._due_at + _LATE_SECONDS

    def wake(self) -> None:
        self._wake.set()

    def stop(self, timeout_seconds: float = 10.0) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_seconds)

    def _run(self) -> None:
        failures = 0
        while not self._stopping:
            self._wake.clear()
            rest = 1.0
            try:
                if self._is_leader():
                    again = self._reconciler.pass_once(self._now())
                    rest = 0.0 if again else self._reconciler.next_look_seconds()
                failures = 0
            except Exception:
                # Broad on purpose: whatever one pass stumbles over (a database away, a backend broken), the next must come.
                failures += 1
                rest = min(30.0, 0.2 * 2**failures)
                _log.exception("the %s reconciler failed; next try in %.1f s", self._reconciler.name, rest)
            self._due_at = time.monotonic() + rest
            if rest > 0 and not self._stopping:
                self._wake.wait(rest)


class Loops:
    """The loops of one process by the names of their reconcilers. They are added while the platform is built, and woken by name."""

    def __init__(self, now: Callable[[], datetime], is_leader: Callable[[], bool]) -> None:
        self._now, self._is_leader = now, is_leader
        self._loops: dict[str, ReconcilerLoop] = {}

    def add(self, *reconcilers: Reconciler) -> None:
        for reconciler in reconcilers:
            self._loops[reconciler.name] = ReconcilerLoop(reconciler, self._now, self._is_leader)

    def __iter__(self) -> Iterator[ReconcilerLoop]:
        return iter(self._loops.values())

    def wake(self, names: Collection[str]) -> None:
        """Something has changed: those of these names that run here look at once."""
        for name in self._loops.keys() & set(names):
            self._loops[name].wake()

    def are_well(self) -> bool:
        return not any(loop.is_late for loop in self)
