"""Large pages make forks cheap where the kernel can make them, and change nothing where it cannot."""

from __future__ import annotations

import mmap
import os
import sys
from pathlib import Path

import pytest

from narf.backends.local import pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has them")


def in_a_fork(act: object) -> int:
    """The exit code of a fork that does `act`: what it does to its memory is its own affair."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert callable(act)
            code = act()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def large_kib() -> int:
    text = Path("/proc/self/smaps_rollup").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("AnonHugePages")).split()[1])


def test_memory_that_was_written_page_by_page_becomes_large_pages_with_the_same_content() -> None:
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    if not Path("/sys/kernel/mm/transparent_hugepage").exists() or release < (6, 1):
        pytest.skip("this kernel cannot do it")

    def act() -> int:
        memory = mmap.mmap(-1, 16 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for at in range(0, len(memory), mmap.PAGESIZE):
            memory[at] = at // mmap.PAGESIZE % 251
        before = large_kib()
        for _ in pages.collapse():
            pass
        same = all(memory[at] == at // mmap.PAGESIZE % 251 for at in range(0, len(memory), mmap.PAGESIZE))
        return 0 if same and large_kib() >= before + (12 << 10) else 3

    assert in_a_fork(act) == 0


def test_a_kernel_that_refuses_is_asked_a_few_times_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_MADV_COLLAPSE", 9999)
    monkeypatch.setattr(pages, "_own_memory", lambda: [0] * 1000)
    assert sum(1 for _ in pages.collapse()) < 10
