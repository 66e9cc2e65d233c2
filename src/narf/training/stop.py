"""Being asked to stop: by SIGTERM (preemption, cancel, time limit) or by a file `stop` in the spool (a pruned or paused trial).

Whoever can stop in good order (a Lightning fit, `narf.checkpoint`) holds a `section` open and asks `wanted()` at each safe point.
Outside any section SIGTERM ends the process at once, as it would without Narf.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

TERMINATE = "terminate"  # keep a checkpoint, then exit; the next attempt goes on
PRUNE = "prune"  # end the training here, as if it were over
EXIT_CODE = 128 + int(signal.SIGTERM)
_LOOK_SECONDS = 0.25  # between two looks for the file

_signalled = False
_sections = 0
_look_at = 0.0
_from_file: str | None = None


def install() -> None:
    """Take SIGTERM, if nobody has."""
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, on_sigterm)


def on_sigterm(number: int, frame: Any) -> None:
    global _signalled
    _signalled = True
    if _sections == 0:
        _end_now()


@contextlib.contextmanager
def section() -> Iterator[None]:
    """While open, SIGTERM only sets what `wanted` says. If nobody acted on it until the end, the process ends then."""
    global _sections
    _sections += 1
    try:
        yield
    finally:
        _sections -= 1
    if _signalled and _sections == 0:
        _end_now()


def wanted() -> str | None:
    """TERMINATE, PRUNE or None. Cheap enough for every step."""
    global _look_at, _from_file
    if _signalled:
        return TERMINATE
    now = time.monotonic()
    if now >= _look_at:
        _look_at = now + _LOOK_SECONDS
        _from_file = _look()
    return _from_file


def look_now() -> None:
    """Have the next `wanted` look for the file, however short ago it last did."""
    global _look_at
    _look_at = 0.0


def is_in_section() -> bool:
    """Whether someone will act on `wanted`."""
    return _sections > 0


def forget() -> None:
    """Start over: for tests, and for a process forked for each trial."""
    global _signalled, _look_at, _from_file
    _signalled, _look_at, _from_file = False, 0.0, None


def _look() -> str | None:
    folder = os.environ.get("NARF_SPOOL")
    if not folder:
        return None
    try:
        with open(os.path.join(folder, "stop")) as file:
            text = file.read(100).strip()
    except OSError:
        return None
    return TERMINATE if text in ("checkpoint", TERMINATE) else PRUNE


def _end_now() -> None:
    """Die by the signal, with what was logged on disk."""
    from narf.training import recorder as recorders

    recorder = recorders.current()
    if recorder is not None:
        recorder.end()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):
            stream.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
