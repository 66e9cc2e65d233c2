"""Large pages: a fork copies a page table entry for each page of its parent, and its end takes each of them back.

A process that has imported torch has 75,000 pages of its own; as 2 MiB pages they are 150 entries. A page that a fork then writes to is
still copied by itself (4 KiB): the kernel splits the large one, in the fork alone.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator

_LARGE = 2 << 20
_MADV_COLLAPSE = 25  # Linux 6.1 and later
_MOST_REFUSALS = 8  # one after another, before anything worked: this kernel or container does not do it


def collapse() -> Iterator[None]:
    """Make large pages of this process's memory, one for each step of the iterator (some milliseconds). Ends early where that cannot be done."""
    if sys.platform != "linux":
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    refusals, worked = 0, False
    for address in _own_memory():
        if madvise(address, _LARGE, _MADV_COLLAPSE) == 0:
            worked = True
        else:
            refusals += 1  # a piece that nothing has been written to yet, or that the kernel has no room for
            if not worked and refusals >= _MOST_REFUSALS:
                return
        yield


def _own_memory() -> list[int]:
    """Where pieces of the size of a large page lie in memory that is private, writable and of no file."""
    found: list[int] = []
    try:
        with open("/proc/self/maps") as maps:
            lines = [line.split() for line in maps]
    except OSError:
        return found
    for fields in lines:
        if fields[1].startswith("rw") and fields[1].endswith("p") and (len(fields) == 5 or fields[5] == "[heap]"):
            begin, end = (int(text, 16) for text in fields[0].split("-"))
            found += range(-(-begin // _LARGE) * _LARGE, end - _LARGE + 1, _LARGE)
    return found
