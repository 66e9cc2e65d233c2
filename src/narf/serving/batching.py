"""What runs next, and what is let in: pure decisions over the requests that wait for a model.

Batch what is already queued, never wait for more: a lone request starts at once, and under load the batch grows to what
arrived while the last one ran. Requests leave in the order they came, except that a batch takes only those that fit each
other (the same shape of a row); the oldest is always in it, so none starves.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol


class Waiting(Protocol):
    """A request in the queue. key: requests with the same key can be stacked. Times are of one monotonic clock, in seconds."""

    @property
    def rows(self) -> int: ...
    @property
    def key(self) -> Hashable: ...
    @property
    def deadline(self) -> float: ...
    @property
    def cancelled(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """batch_rows: the most rows in one batch (a larger request runs alone). queue_rows: the most that may wait."""

    batch_rows: int = 64
    queue_requests: int = 1024
    queue_rows: int = 8192


@dataclass(frozen=True, slots=True)
class Decision:
    """Positions in the queue, ascending. run: one batch; expired: answered "too late"; dropped: their clients are gone."""

    run: tuple[int, ...] = ()
    expired: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Cost:
    """How long a batch takes: `fixed + per_row * rows` seconds, learned while serving."""

    fixed: float = 0.0
    per_row: float = 0.0

    def seconds(self, rows: int) -> float:
        return self.fixed + self.per_row * rows


def next_batch(waiting: Sequence[Waiting], policy: Policy, cost: Cost, now: float) -> Decision:
    """The batch to run now. Nothing runs whose answer would come after its deadline, as far as `cost` knows.

    The batch stops growing where one more request would make an earlier one late. When all that waits is expected to be
    late, the oldest that still has time is tried all the same: an estimate that is never put to the test cannot improve.
    """
    run: list[int] = []
    expired: list[int] = []
    hopeless: list[int] = []
    dropped: list[int] = []
    rows, key, earliest = 0, None, math.inf
    for index, request in enumerate(waiting):
        if request.cancelled:
            dropped.append(index)
        elif now >= request.deadline:
            expired.append(index)
        elif now + cost.seconds(request.rows) > request.deadline:
            hopeless.append(index)
        elif not run:
            run.append(index)
            rows, key, earliest = request.rows, request.key, request.deadline
        elif rows < policy.batch_rows and request.key == key and rows + request.rows <= policy.batch_rows:
            finished = now + cost.seconds(rows + request.rows)
            if finished <= min(earliest, request.deadline):
                run.append(index)
                rows += request.rows
                earliest = min(earliest, request.deadline)
    if hopeless and not run:
        run.append(hopeless.pop(0))
    return Decision(tuple(run), tuple(sorted(expired + hopeless)), tuple(dropped))


def retry_after(waiting_requests: int, waiting_rows: int, rows: int, policy: Policy, cost: Cost, seconds_left: float) -> float | None:
    """None: let it in. Else the seconds after which trying again makes sense, because the queue is full or too slow for its deadline."""
    batches = math.ceil((waiting_rows + rows) / policy.batch_rows)
    wait = batches * cost.fixed + (waiting_rows + rows) * cost.per_row
    full = waiting_requests >= policy.queue_requests or (waiting_rows > 0 and waiting_rows + rows > policy.queue_rows)
    # The estimate is of the middle, not the worst; twice leaves room, so that what is let in is answered in time.
    too_slow = waiting_requests > 0 and 2 * wait > seconds_left
    return max(wait, 0.05) if full or too_slow else None


def learn(cost: Cost, rows: int, seconds: float, weight: float = 0.2) -> Cost:
    """`cost` moved towards an observation (normalised least mean squares over 1 and `rows`; no part falls below zero)."""
    step = weight * (seconds - cost.seconds(rows)) / (1 + rows * rows)
    return Cost(max(0.0, cost.fixed + step), max(0.0, cost.per_row + step * rows))
