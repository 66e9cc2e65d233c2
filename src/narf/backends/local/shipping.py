"""Ships a job's spool while it runs, and what is left when it has ended.

The shipper itself is `narf.training.shipper`; this gives it a thread and a deadline. A server that is
down costs nothing: the spool stays in the folder, and the control plane ships it when it is back.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from narf.backends.local.folder import JobFolder

_PERIOD_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0  # at the end of a job; what is left then is shipped by the control plane


class SpoolShipper:
    """Ships in a thread of its own until told to finish."""

    def __init__(self, ship_once: Callable[[], object], ship_all: Callable[[float], object]) -> None:
        self._ship_once, self._ship_all = ship_once, ship_all
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Ship what is left, within a bounded time."""
        self._ended.set()
        self._thread.join(_PATIENCE_SECONDS + 5)

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_SECONDS):
            self._ship_once()
        self._ship_all(time.monotonic() + _PATIENCE_SECONDS)


def start(folder: JobFolder, environment: Mapping[str, str]) -> SpoolShipper | None:
    """Begin to ship the spool of the job in `folder`; `None` when there is nowhere to ship it."""
    return None
