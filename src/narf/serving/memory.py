"""How much a replica may grow: a model that keeps memory is replaced before its machine has none left.

`growth_allowed` is the decision. A replica that has grown by more asks to be replaced, and goes on answering until it is; one that
has grown by twice as much cannot wait for that.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
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
    REPLACE = "replace"  # soon: it answers meanwhile
    END = "end"  # now


def growth_allowed(model_bytes: int, *, limit_bytes: int = 0, held_bytes: int = 0) -> int:
    """By how many bytes a replica may grow after it has loaded its models, so that all in all it takes three times theirs and some slack.

    Args:
        model_bytes: what its models took, as it was measured when they were packaged.
        limit_bytes: what whoever deployed it has given it, 0 nothing; then this counts, short of where it is stopped for it.
        held_bytes: what it holds when they are loaded.
    """
    if limit_bytes:
        return max(0, int(0.9 * (limit_bytes - held_bytes)))
    return 2 * model_bytes + _SLACK_BYTES


def growth(grown_bytes: int, allowed_bytes: int) -> Growth:
    if grown_bytes <= allowed_bytes:
        return Growth.FINE
    return Growth.REPLACE if grown_bytes <= 2 * allowed_bytes else Growth.END


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
        replace: called from its thread with a sentence, until it returns true: somebody knows.
        end: called with a sentence when there is no time left.
        resident: what the process holds.
    """

    def __init__(
        self,
        allowed_bytes: int,
        replace: Callable[[str], bool],
        end: Callable[[str], None],
        *,
        resident: Callable[[], int] = resident_bytes,
        look_seconds: float = _LOOK_SECONDS,
    ) -> None:
        self.allowed_bytes = allowed_bytes  # may be changed at any time
        self._replace, self._end, self._resident = replace, end, resident
        self._look_seconds, self._began_with = look_seconds, resident()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)
        if self._began_with:
            self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        asked = False
        while not self._stopped.wait(self._look_seconds):
            grown = self._resident() - self._began_with
            verdict = growth(grown, self.allowed_bytes)
            if verdict is Growth.FINE:
                continue
            sentence = (
                f"It has grown by {grown // _MIB} MiB since it loaded its model; {self.allowed_bytes // _MIB} MiB are allowed. "
                "Either the model keeps what it has answered, or it needs more: narf deploy --memory."
            )
            if verdict is Growth.END:
                self._end(sentence)
            elif not asked:
                _log.error("this replica is to be replaced: %s", sentence)
                asked = self._replace(sentence)
