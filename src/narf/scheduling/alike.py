"""What of the waiting is alike: what is found out for one is then true for all, and is asked once in a plan.

Of one *kind* is what asks for the same, of one *sort* what also has the same chances now, and of one *group* what also may
take from the same others. Each is a number.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from narf.scheduling.order import STARVED, Order
from narf.scheduling.shares import Shares
from narf.scheduling.snapshot import Ints, Snapshot


class Alike:
    """kind, sort, group: a number for each workload of the snapshot (those that wait; 0 for others).

    queues: of each queue what waits in it, in its order.
    """

    def __init__(self, snapshot: Snapshot, order: Order, shares: Shares) -> None:
        pending = order.pending
        queue_P, level_P = snapshot.queue_W[pending], order.levels_W[pending]
        gpu_P = snapshot.gpu_W[pending]
        asked = (snapshot.constraint_W, snapshot.replicas_W, snapshot.cpu_W, snapshot.memory_W, snapshot.gpu_memory_W)
        kind_P = _number(gpu_P, *(column[pending] for column in asked))
        # One that takes any flavor may find some closed to it, by what its queue holds.
        takes_any_P = (gpu_P > 0) & ~shares.amounts_WR[pending, 3:].any(axis=1)
        own_P = np.where(takes_any_P & np.array(shares.flavor_limited, dtype=np.bool_)[queue_P], queue_P, -1)
        sort_P = _number(kind_P, own_P, level_P == STARVED)
        group_P = _number(kind_P, queue_P, level_P, snapshot.priority_W[pending])
        self.kind, self.sort, self.group = (_spread(column, pending, len(snapshot.ids)) for column in (kind_P, sort_P, group_P))
        by_queue = np.argsort(queue_P, kind="stable")
        queues, starts = np.unique(queue_P[by_queue], return_index=True)
        ordered: list[int] = pending[by_queue].tolist()
        bounds = pairwise([*starts.tolist(), len(ordered)])
        self.queues = {q: ordered[start:end] for q, (start, end) in zip(queues.tolist(), bounds, strict=True)}


def _number(*columns: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> Ints:
    """A number for each row, the same for those that are equal in all columns."""
    number: Ints = np.zeros(len(columns[0]), dtype=np.int64)
    if not len(number):
        return number
    width = 1
    for column in columns:
        values = column.astype(np.int64)
        low, high = int(values.min()), int(values.max())
        if high - low >= 1 << 20:  # bytes of memory: few values, far from each other
            distinct, values = np.unique(values, return_inverse=True)
            low, high = 0, len(distinct) - 1
        if width * (high - low + 1) >= 1 << 62:
            distinct, number = np.unique(number, return_inverse=True)
            width = len(distinct)
        number = number * (high - low + 1) + (values - low)
        width *= high - low + 1
    return number


def _spread(column_P: Ints, pending: Ints, workloads: int) -> list[int]:
    column_W = np.zeros(workloads, dtype=np.int64)
    column_W[pending] = column_P
    spread: list[int] = column_W.tolist()
    return spread
