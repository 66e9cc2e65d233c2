"""What the kernel says of processes: who descends from whom, what memory they hold, and how to end them.

Memory is the proportional set size: a page shared by n processes counts 1/n for each, so programs forked
from one zygote are not charged several times for the libraries that they share.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def start_ticks(pid: int) -> int:
    """When `pid` started, in clock ticks since boot; with the pid it names a process for good. 0: there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def descendants(root: int) -> list[int]:
    """All processes below `root`, not itself, parents before children. One look at /proc: racy by nature."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    queue = list(children.get(root, ()))
    while queue:
        pid = queue.pop(0)
        found.append(pid)
        queue += children.get(pid, ())
    return found


def has_children(pid: int) -> bool:
    """Whether `pid` has a child, at the price of one small read."""
    try:
        return any(task.read_text().strip() for task in Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return True  # the kernel does not say: assume the dear case


def resident_bytes(pids: Iterable[int]) -> int:
    """The sum of the resident sets: cheap, and never less than `proportional_bytes`."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                total += int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue  # it ended
    return total


def proportional_bytes(pids: Iterable[int]) -> int:
    """The sum of the proportional set sizes; costs milliseconds for each process."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                for line in file:
                    if line.startswith(b"Pss:"):
                        total += int(line.split()[1]) * 1024
                        break
        except (OSError, ValueError):
            continue  # it ended
    return total


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor time that they and their ended children have used."""
    total = 0
    for pid in pids:
        if fields := _stat(pid):
            total += sum(int(ticks) for ticks in fields[11:15])
    return total / _TICK


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send to the whole process group led by `pid`; nothing when it is gone."""
    # "Not permitted" is how macOS says that only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def signal_each(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def kernel_oom_kills() -> int:
    """How many processes the kernel has killed for want of memory since boot."""
    try:
        with open("/proc/vmstat", "rb") as file:
            for line in file:
                if line.startswith(b"oom_kill "):
                    return int(line.split()[1])
    except OSError:
        pass  # not Linux
    return 0


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from `state` on; [] when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
