"""How those who run jobs tell the control plane that something has changed: a datagram to a socket in a known folder.

The control plane also looks by itself, so a lost message only costs time.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

_NAME = "events"


def tell(folder: str, job_id: str) -> None:
    """Let whoever listens in `folder` look at the job now."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messenger, _address(Path(folder)) as address:
        messenger.setblocking(False)
        messenger.sendto(job_id.encode(), address)


def listen_for_changes(run: Path, on_change: Callable[[], None]) -> Callable[[], None]:
    """Call `on_change` whenever a supervisor tells of a change; the result ends it."""
    (run / _NAME).unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setblocking(False)
    with _address(run) as address:
        receiver.bind(address)
    ended, end = os.pipe()

    def listen() -> None:
        while ended not in select.select([receiver.fileno(), ended], [], [])[0]:
            with contextlib.suppress(BlockingIOError):
                while True:
                    receiver.recv(4096)  # many changes, one look
            on_change()

    thread = threading.Thread(target=listen, name="job-events", daemon=True)
    thread.start()

    def close() -> None:
        if not thread.is_alive():
            return  # closed before
        os.close(end)
        thread.join(5)
        os.close(ended)
        receiver.close()

    return close


@contextlib.contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's path, through a descriptor of its folder: a path may have 107 bytes at most, a home can be deeper."""
    if sys.platform != "linux":
        yield str(folder / _NAME)
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{_NAME}"
    finally:
        os.close(descriptor)
