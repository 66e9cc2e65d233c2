"""A reconciler that stumbles is tried again, and one that hangs is noticed."""

from __future__ import annotations

import threading
from datetime import UTC, datetime

import pytest

from narf.control import reconcile
from narf.control.reconcile import ReconcilerLoop


class Stumbling:
    """Fails once, then works, then hangs until it is let go."""

    name = "stumbling"

    def __init__(self) -> None:
        self.passes = 0
        self.worked, self.hangs, self.let_go = threading.Event(), threading.Event(), threading.Event()

    def pass_once(self, now: datetime) -> bool:
        self.passes += 1
        if self.passes == 1:
            raise ValueError("the database is away")
        if self.passes == 2:
            self.worked.set()
            return True
        self.hangs.set()
        self.let_go.wait(30)
        return False

    def next_look_seconds(self) -> float:
        return 3600.0


def test_a_pass_that_raises_is_made_again_and_one_that_hangs_is_late(monkeypatch: pytest.MonkeyPatch):
    reconciler = Stumbling()
    loop = ReconcilerLoop(reconciler, lambda: datetime.now(UTC))
    assert not loop.is_late  # it has not been started
    loop.start()
    assert reconciler.worked.wait(10) and reconciler.hangs.wait(10)
    assert not loop.is_late
    monkeypatch.setattr(reconcile, "_LATE_SECONDS", -1.0)
    assert loop.is_late
    reconciler.let_go.set()
    loop.stop()


def test_only_the_leader_passes():
    reconciler = Stumbling()
    asked = threading.Event()

    def is_leader() -> bool:
        asked.set()
        return False

    loop = ReconcilerLoop(reconciler, lambda: datetime.now(UTC), is_leader)
    loop.start()
    assert asked.wait(10)
    loop.stop()
    assert reconciler.passes == 0
