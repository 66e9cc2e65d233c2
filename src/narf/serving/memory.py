"""How much a replica may grow: a model that keeps memory is replaced before its machine has none left.

`allowance` and `growth` are the decisions. A replica that has grown by more than it may asks to be replaced, and goes on answering
until its successor does; one that goes on growing asks to be taken out at once, and in the end cannot wait even for that.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

_log = logging.getLogger(__name__)
_MIB = 1 << 20
_SLACK_BYTES = 512 * _MIB  # buffers of large requests, allocators that keep what they had
_LOOK_SECONDS = 0.5
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Growth(StrEnum):
    """What growing so much asks for."""

    FINE = "fine"
    REPLACE = "replace"  # soon: it answers until another does
    LEAVE = "leave"  # as soon as what it has begun is finished
    END = "end"  # now


@dataclass(frozen=True, slots=True)
class Allowance:
    """By how many bytes a replica may grow until it is to be replaced, has to leave, has to end."""

    replace: int
    leave: int
    end: int


def allowance(model_bytes: int, *, limit_bytes: int = 0, held_bytes: int = 0) -> Allowance:
    """By how many bytes a replica may grow after it has loaded its models, so that all in all it takes three times theirs and some slack.

    Args:
        model_bytes: what its models took, as it was measured when they were packaged.
        limit_bytes: what whoever deployed it has given it, 0 nothing; then this counts. Where somebody enforces it, it is stopped there.
        held_bytes: what it holds when they are loaded.
    """
    if limit_bytes:
        room = max(0, limit_bytes - held_bytes)
        return Allowance(int(0.8 * room), int(0.95 * room), 2 * room)
    grows = 2 * model_bytes + _SLACK_BYTES
    return Allowance(grows, grows * 3 // 2, 2 * grows)


def growth(grown_bytes: int, allowed: Allowance) -> Growth:
    if grown_bytes <= allowed.replace:
        return Growth.FINE
    if grown_bytes <= allowed.leave:
        return Growth.REPLACE
    return Growth.LEAVE if grown_bytes <= allowed.end else Growth.END


def resident_bytes() -> int:
    """What this process holds, with what it shares; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE
    except (OSError, ValueError):
        return 0


def proportional_bytes() -> int:
    """What this process holds, with its part of what it shares with others; 0 where the system does not say."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    except (OSError, ValueError, StopIteration):
        return 0


class MemoryWatch:
    """Looks at this process twice a second.

    Args:
        replace: called from its thread with a sentence and whether it has to leave at once, until it returns true: somebody knows.
        end: called with a sentence when there is no time left.
        resident: what the process holds.
    """

    def __init__(
        self,
        allowed: Allowance,
        replace: Callable[[str, bool], bool],
        end: Callable[[str], None],
        *,
        resident: Callable[[], int] = resident_bytes,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._allowed, self._asked = allowed, Growth.FINE
        self._replace, self._end, self._resident = replace, end, resident
        self._look_seconds, self._began_with = look_seconds, resident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)
        if self._began_with:
            self._thread.start()

    def allow(self, allowed: Allowance) -> None:
        """Its models have changed. Once it has asked to be replaced, those that have gone elsewhere leave it no less than before."""
        if self._asked is Growth.FINE or allowed.replace > self._allowed.replace:
            self._allowed = allowed

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(self._look_seconds):
            grown = self._resident() - self._began_with
            verdict = growth(grown, self._allowed)
            if verdict is Growth.FINE:
                continue
            sentence = (
                f"It has grown by {grown // _MIB} MiB since it loaded its model; {self._allowed.replace // _MIB} MiB are allowed. "
                "Either the model keeps what it has answered, or it needs more: narf deploy --memory."
            )
            if verdict is Growth.END:
                self._end(sentence)
            elif self._asked is Growth.FINE or (verdict is Growth.LEAVE and self._asked is Growth.REPLACE):
                _log.error("this replica is to be replaced: %s", sentence)
                if self._replace(sentence, verdict is Growth.LEAVE):
                    self._asked = verdict
