"""Ships a job's spool while it runs, and what is left when it has ended.

The shipper itself is `narf.training.shipper`; this gives it a thread, a deadline and the address of the
server that is up now. A server that is down costs nothing: what is left stays in the folder with a note
(`ship.json`), and the control plane ships it when it is back.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from narf.backends.local.folder import JobFolder

if TYPE_CHECKING:
    from narf.training.shipper import Shipper

_PERIOD_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 1.0
_PATIENCE_SECONDS = 10.0  # at the end of a job; what is left then is shipped by the control plane
_NOTE = "ship.json"


class SpoolShipper:
    """Ships in a thread of its own until told to finish."""

    def __init__(self, folder: JobFolder, note: Mapping[str, str]) -> None:
        self._folder, self._note = folder, note
        self._wanted, self._has_ended = threading.Event(), False
        self._last: tuple[str, Shipper] | None = None  # with its address
        self._thread = threading.Thread(target=self._run, name="shipper", daemon=True)
        self._thread.start()

    def hurry(self) -> None:
        """Ship what is there now: the program seems to be at its end."""
        self._wanted.set()

    def finish(self) -> None:
        """Ship what is left, within a bounded time."""
        self._has_ended = True
        self._wanted.set()
        self._thread.join(_PATIENCE_SECONDS + 5)

    def _run(self) -> None:
        while not self._has_ended:
            self._wanted.wait(_PERIOD_SECONDS)
            self._wanted.clear()
            if not self._has_ended:
                self._shipper().ship_once()
        latest = time.monotonic() + _PATIENCE_SECONDS
        # In pieces: a server that went away may come back at another address.
        while not self._shipper().ship_all(min(latest, time.monotonic() + _LOOK_AGAIN_SECONDS)):
            if time.monotonic() >= latest:
                return
        (self._folder.path / _NOTE).unlink(missing_ok=True)

    def _shipper(self) -> Shipper:
        """The one for where the server is now."""
        # Imported here: a job that ships nothing does not pay for the HTTP client.
        from narf.training.shipper import Shipper

        url = server_url(self._folder) or self._note["url"]
        if self._last is None or self._last[0] != url:
            self._last = url, Shipper(str(self._folder.spool), url, self._note["token"], self._note["run"])
        return self._last[1]


def start(folder: JobFolder, run_id: str | None, environment: Mapping[str, str]) -> SpoolShipper | None:
    """Begin to ship the job's spool; `None` when there is nowhere to ship it."""
    url, token = environment.get("NARF_URL"), environment.get("NARF_TOKEN", "")
    if not url or not run_id:
        return None
    note = {"url": url, "token": token, "run": run_id}
    descriptor = os.open(folder.path / _NOTE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(note, file)
    return SpoolShipper(folder, note)


def leftovers(jobs: Path) -> Iterator[JobFolder]:
    """The ended jobs below `jobs` whose spool nobody ships."""
    for note in sorted(jobs.glob(f"*/{_NOTE}")):
        folder = JobFolder(note.parent)
        with contextlib.suppress(OSError, ValueError):  # it is being deleted
            state = folder.state()
            if state is not None and state.phase == "ended":
                yield folder


def is_shipped(folder: Path) -> bool:
    """Whether nothing of the job in `folder` is left to be shipped."""
    return not (folder / _NOTE).exists()


def ship_leftover(folder: JobFolder, patience_seconds: float = 1.0) -> bool:
    """Ship what an ended job has left; whether nothing is left now."""
    from narf.training.shipper import Shipper

    note = json.loads((folder.path / _NOTE).read_text())
    shipper = Shipper(str(folder.spool), server_url(folder) or note["url"], note["token"], note["run"])
    if not shipper.ship_all(time.monotonic() + patience_seconds):
        return False
    (folder.path / _NOTE).unlink(missing_ok=True)
    return True


def server_url(folder: JobFolder) -> str:
    """Where the control plane of this home is now: it may have come back on another port. "" when it is not known."""
    try:
        return str(json.loads((folder.path.parents[1] / "run" / "server.json").read_text())["url"])
    except (OSError, ValueError, KeyError):
        return ""
