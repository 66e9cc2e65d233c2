"""Where a request goes: pure choices among revisions by weight and among replicas by load, and when a bad replica is left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

EJECT_AFTER = 3  # failures in a row
EJECT_SECONDS = 2.0
MOST_EJECT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of a replica from its answers. ejected_until: left out until then (monotonic seconds)."""

    failures: int = 0
    ejections: int = 0
    ejected_until: float = 0.0


def succeeded(health: Health) -> Health:
    """One good answer clears the row of failures; earlier ejections are forgotten one by one."""
    if not health.failures and not health.ejections:
        return health
    return Health(0, max(0, health.ejections - 1), 0.0)


def failed(health: Health, now: float, *, refused: bool = False) -> Health:
    """refused: nobody listens there at all, which one failure proves. One that was left out is on probation when it comes back:
    its next failure leaves it out again, for longer."""
    failures = health.failures + 1
    if failures < EJECT_AFTER and not refused:
        return Health(failures, health.ejections, health.ejected_until)
    ejections = health.ejections + 1
    pause = min(MOST_EJECT_SECONDS, EJECT_SECONDS * 2 ** (ejections - 1))
    return Health(EJECT_AFTER - 1, ejections, now + pause)


def choose_revision(weights: Sequence[float], draw: float) -> int | None:
    """The position that `draw` (0 <= draw < 1) falls on, in proportion to the weights; None if all are zero."""
    total = sum(weights)
    if total <= 0:
        return None
    point = draw * total
    last = None
    for index, weight in enumerate(weights):
        if weight > 0:
            last = index
            if point < weight:
                return index
            point -= weight
    return last  # rounding


def choose_replica(
    loads: Sequence[int], ejected_until: Sequence[float], now: float, draw: float, *, not_these: Sequence[int] = ()
) -> int | None:
    """The less loaded of two drawn replicas, among those that are in and were not tried. When all are out, one is tried all the
    same: nothing is lost by it."""
    usable = [index for index in range(len(loads)) if ejected_until[index] <= now and index not in not_these]
    if not usable:
        usable = [index for index in range(len(loads)) if index not in not_these]
    if not usable:
        return None
    count = len(usable)
    if count == 1:
        return usable[0]
    first = int(draw * count) % count
    second = (first + 1 + int(draw * 7919) % (count - 1)) % count
    one, other = usable[first], usable[second]
    return one if loads[one] <= loads[other] else other


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """Retries may add a fifth to the traffic and not more, so that they never make an outage worse. tokens: retries left."""

    tokens: float = 10.0

    def earned(self) -> RetryBudget:
        return self if self.tokens >= 100.0 else RetryBudget(self.tokens + 0.2)

    def spent(self) -> RetryBudget | None:
        return RetryBudget(self.tokens - 1.0) if self.tokens >= 1.0 else None
