"""`python -m narf.backends.local.pausing HOME [--pause]`: how many jobs run here; with --pause, ask all of them to leave.

For a machine whose platform is down: what runs is preempted as the scheduler would preempt it. It saves its state, and the next
`narf up` starts it again where it stopped. The answer is JSON on standard output.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from pathlib import Path

from narf.backends.local.folder import JobFolder
from narf.domain.workload import EndReason

_BEYOND_GRACE_SECONDS = 10.0


def running(jobs: Path) -> list[JobFolder]:
    """The jobs below `jobs` that a supervisor holds."""
    found = []
    for place in sorted(path for path in jobs.glob("*") if path.is_dir() and not path.name.startswith(".")):
        folder = JobFolder(place)
        with contextlib.suppress(OSError):  # it is being made or deleted
            state, lock = folder.state(), folder.lock()
            if lock is not None:
                os.close(lock)
            elif state is None or state.phase != "ended":
                found.append(folder)
    return found


def pause(jobs: Path) -> list[JobFolder]:
    """Ask all that run to leave and wait for it; those that have not left in their grace and a little more."""
    asked = running(jobs)
    for folder in asked:
        folder.request_cancel(EndReason.PREEMPTED)
    deadline = time.monotonic() + max((folder.spec().grace_seconds for folder in asked), default=0.0) + _BEYOND_GRACE_SECONDS
    while (left := running(jobs)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def main(arguments: list[str]) -> int:
    home = Path(arguments[0])
    alive = running(home / "jobs")
    left = pause(home / "jobs") if "--pause" in arguments else alive
    if "--pause" in arguments:
        for address in (home / "run").glob("zygote-*[!.]"):
            if address.is_socket():
                address.unlink()  # a zygote that nobody can reach leaves
    print(json.dumps({"running": [folder.path.name for folder in left], "paused": len(alive) - len(left)}))  # noqa: T201 - a program's answer
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
