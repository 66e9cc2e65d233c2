"""Share: what each queue holds, is guaranteed and deserves.

Quota comes first, what is left over goes by weight, less to those that used much lately, never more than is asked for
(water-filling, level by level). Amounts are compared by dominant share (Ghodsi et al., NSDI 2011), so that a queue
cannot starve others of CPU or memory while it is modest with GPUs.
"""

from __future__ import annotations

import numpy as np

from narf.scheduling.order import Order
from narf.scheduling.snapshot import UNLIMITED, WHOLE, Floats, Ints, Snapshot

EPSILON = 1e-9


class Shares:
    """What every queue holds while a plan is being made; changed in place by `add` and `remove`."""

    def __init__(self, snapshot: Snapshot, order: Order) -> None:
        self.snapshot = snapshot
        self.resources = snapshot.resources
        self.amounts_WR = _amounts(snapshot)
        self.amounts: list[list[int]] = self.amounts_WR.tolist()  # the same, quicker to read one by one
        self.capacity_R = _capacity(snapshot)
        parents = snapshot.queue_parent_Q.tolist()
        self.chains = [_chain(parents, q) for q in range(len(parents))]  # from the queue itself to the root
        self._above_of = [chain[:0:-1] for chain in self.chains]  # from the root to the one above it
        # Each queue beside each of its chain, itself among them.
        self._above = np.array([above for chain in self.chains for above in chain], dtype=np.int64)
        self._below = np.repeat(np.arange(len(self.chains)), [len(chain) for chain in self.chains])
        running, stopping = snapshot.phase_W == 1, snapshot.phase_W == 2
        self.held_QR = self._totals(running)
        self.held = self.held_QR.tolist()
        self.stopping = self._totals(stopping).tolist()
        demand_QR = self._totals(np.ones(len(running), dtype=np.bool_))
        self.fair_Q = _fair(snapshot, self.capacity_R, demand_QR)
        self.fair = self.fair_Q.tolist()
        self.quota = snapshot.quota_QR.tolist()
        self.limit = snapshot.limit_QR.tolist()
        self._capacity = [max(1, amount) for amount in self.capacity_R.tolist()]
        self.has_gpu_quota = [any(amount > 0 for r, amount in enumerate(row) if r == 0 or r > 2) for row in self.quota]
        self.any_quota = [bool(column.any()) for column in snapshot.quota_QR.T] or [False] * 3
        self._limited = [any(amount < UNLIMITED for amount in row) for row in self.limit]
        by_flavor = [any(amount < UNLIMITED for amount in row[3:]) for row in self.limit]
        self.flavor_limited = [any(by_flavor[q] for q in chain) for chain in self.chains]
        self._ratio: list[float | None] = [None] * len(parents)  # of what each holds now, where it is known
        self.changes = 0  # how often what they hold has changed: what was worked out before is old

    def add(self, queue: int, amounts: list[int], sign: int = 1) -> None:
        self.changes += 1
        for q in self.chains[queue]:
            self._ratio[q] = None
            row = self.held[q]
            for r, amount in enumerate(amounts):
                row[r] += sign * amount
            self.held_QR[q] = row

    def leaves(self, queue: int, amounts: list[int], sign: int = 1) -> None:
        """What takes `amounts` was asked to leave; with `sign` -1: it was, and will go on all the same, elsewhere."""
        self.add(queue, amounts, -sign)
        for q in self.chains[queue]:
            self.stopping[q] = [stopping + sign * amount for stopping, amount in zip(self.stopping[q], amounts, strict=True)]

    def over_limit(self, queue: int, amounts: list[int], *, with_stopping: bool) -> tuple[int, int] | None:
        """The queue and resource whose limit `amounts` more would break; the queue itself before those above it."""
        for q in self.chains[queue]:
            if not self._limited[q]:
                continue
            for r, amount in enumerate(amounts):
                held = self.held[q][r] + (self.stopping[q][r] if with_stopping else 0)
                if amount and held + amount > self.limit[q][r]:
                    return q, r
        return None

    def is_beyond_limit(self, queue: int) -> bool:
        """Whether the queue, or one above it, holds more than it may: its limit was lowered since."""
        return any(
            held > most for q in self.chains[queue] if self._limited[q] for held, most in zip(self.held[q], self.limit[q], strict=True)
        )

    def closed_flavors(self, queue: int, gpus: int) -> tuple[int, ...]:
        """Flavors whose limit `gpus` more would break: a workload that takes any flavor must not be put there."""
        flavors = range(len(self.snapshot.flavors))
        return tuple(f for f in flavors if self._over_flavor(queue, gpus, f) >= 0)

    def over_flavor(self, queue: int, gpus: int, closed: tuple[int, ...]) -> tuple[int, int]:
        """The queue and resource whose limit closes the first of `closed`."""
        return self._over_flavor(queue, gpus, closed[0]), 3 + closed[0]

    def _over_flavor(self, queue: int, gpus: int, flavor: int) -> int:
        r = 3 + flavor
        for q in self.chains[queue]:
            if self._limited[q] and self.held[q][r] + self.stopping[q][r] + gpus > self.limit[q][r]:
                return q
        return -1

    def over_quota(self, queue: int, amounts: list[int]) -> bool:
        """Would `amounts` more be beyond what the queue is guaranteed, by the resource that matters for it?"""
        for q in self.chains[queue]:
            if q != queue and not self.has_gpu_quota[q]:
                continue  # a queue above without a quota of its own guarantees the sum of those below
            held, quota = self.held[q], self.quota[q]
            if amounts[0] == 0:
                if any(self.any_quota[r] and held[r] + amounts[r] > quota[r] for r in (1, 2)):
                    return True
            elif held[0] + amounts[0] > quota[0]:
                flavors = [r for r in range(3, len(amounts)) if amounts[r]]
                if not flavors or any(held[r] + amounts[r] > quota[r] for r in flavors):
                    return True
        return False

    def dominant(self, amounts: list[int]) -> float:
        gpu, cpu, memory = self._capacity[:3]
        return float(max(amounts[0] / gpu, amounts[1] / cpu, amounts[2] / memory))

    def ratio(self, queue: int, amounts: list[int] | None = None, sign: int = 1) -> float:
        """Allocation over fair share, after `amounts` more (or, with `sign` -1, less)."""
        if amounts is not None:
            row = [held + sign * amount for held, amount in zip(self.held[queue], amounts, strict=True)]
            return self.dominant(row) / float(max(self.fair[queue], EPSILON))
        known = self._ratio[queue]
        if known is None:
            known = self._ratio[queue] = self.dominant(self.held[queue]) / float(max(self.fair[queue], EPSILON))
        return known

    def rank(self, queue: int, amounts: list[int]) -> tuple[float, ...]:
        """Which queue is next: in quota before over quota, then the least allocation over share; from the root down."""
        key: list[float] = []
        known = self._ratio
        for q in self._above_of[queue]:
            if self.has_gpu_quota[q]:
                key.append(1.0 if self.held[q][0] + amounts[0] > self.quota[q][0] else 0.0)
            ratio = known[q]
            key.append(self.ratio(q) if ratio is None else ratio)
        return (*key, 1.0 if self.over_quota(queue, amounts) else 0.0, self.ratio(queue))

    def _totals(self, which_W: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Ints:
        """Amounts of these workloads for each queue, with those below it."""
        snapshot = self.snapshot
        queues = len(self.chains)
        own_QR = np.zeros((queues, len(self.resources)), dtype=np.int64)
        rows = np.flatnonzero(which_W)
        for r in range(len(self.resources)):
            counted = np.bincount(snapshot.queue_W[rows], weights=self.amounts_WR[rows, r].astype(np.float64), minlength=queues)
            own_QR[:, r] = np.rint(counted).astype(np.int64)
        if (snapshot.queue_parent_Q < 0).all():
            return own_QR
        total_QR = np.zeros_like(own_QR)
        np.add.at(total_QR, self._above, own_QR[self._below])
        return total_QR


def _amounts(snapshot: Snapshot) -> Ints:
    """What each workload takes in all. Its flavor is that of the GPUs that it has, before that the one it asks for."""
    replicas_W = snapshot.replicas_W
    table_WR = np.zeros((len(replicas_W), 3 + len(snapshot.flavors)), dtype=np.int64)
    table_WR[:, 0] = snapshot.gpu_W * replicas_W
    table_WR[:, 1] = snapshot.cpu_W * replicas_W
    table_WR[:, 2] = snapshot.memory_W * replicas_W
    if snapshot.flavors:
        flavor_K = np.array([snapshot.flavors.index(f) if f in snapshot.flavors else -1 for f, _ in snapshot.constraints], dtype=np.int64)
        asked_W = flavor_K[snapshot.constraint_W] if len(flavor_K) else np.full(len(replicas_W), -1)
        pending = np.flatnonzero((snapshot.phase_W == 0) & (asked_W >= 0))
        table_WR[pending, 3 + asked_W[pending]] = table_WR[pending, 0]
        flavor_G = snapshot.node_flavor_N[snapshot.slice_node_G]
        mine = np.flatnonzero((flavor_G >= 0) & (snapshot.phase_W[snapshot.slice_workload_G] != 0))
        np.add.at(table_WR, (snapshot.slice_workload_G[mine], 3 + flavor_G[mine]), snapshot.slice_amount_G[mine])
    return table_WR


def _capacity(snapshot: Snapshot) -> Ints:
    usable = snapshot.schedulable_N
    flavors = [int(snapshot.node_gpus_N[usable & (snapshot.node_flavor_N == f)].sum()) * WHOLE for f in range(len(snapshot.flavors))]
    gpus = int(snapshot.node_gpus_N[usable].sum()) * WHOLE
    return np.array([gpus, snapshot.node_cpu_N[usable].sum(), snapshot.node_memory_N[usable].sum(), *flavors], dtype=np.int64)


def _chain(parents: list[int], queue: int) -> list[int]:
    chain = []
    while queue >= 0:
        chain.append(queue)
        queue = parents[queue]
    return chain


def _fair(snapshot: Snapshot, capacity_R: Ints, demand_QR: Ints) -> Floats:
    """The part of the cluster that each queue deserves now, by dominant share."""
    per_R = np.maximum(capacity_R[:3], 1)
    demand_Q = np.minimum((demand_QR[:, :3] / per_R).max(axis=1, initial=0.0), 1.0)
    quota_Q = np.minimum((snapshot.quota_QR[:, :3] / per_R).max(axis=1, initial=0.0), 1.0)
    total = float(snapshot.usage_Q.sum())
    # A queue that used all there was counts half as much as one that used nothing.
    weight_Q = snapshot.weight_Q / (1.0 + snapshot.usage_Q / total) if total > 0 else snapshot.weight_Q
    fair_Q = np.zeros(len(weight_Q))
    todo = [(-1, 1.0)]
    while todo:
        parent, available = todo.pop()
        children = np.flatnonzero(snapshot.queue_parent_Q == parent)
        if not len(children):
            continue
        fair_Q[children] = _fill(available, quota_Q[children], demand_Q[children], weight_Q[children])
        if parent >= 0 or (snapshot.queue_parent_Q >= 0).any():
            todo.extend((int(q), float(fair_Q[q])) for q in children if (snapshot.queue_parent_Q == q).any())
    return fair_Q


def _fill(available: float, quota: Floats, demand: Floats, weight: Floats) -> Floats:
    """Quota first, then the rest by weight, nobody beyond its demand."""
    base = np.minimum(quota, demand)
    if base.sum() >= available:
        scaled: Floats = base * (available / max(float(base.sum()), EPSILON))
        return scaled
    rest = available - float(base.sum())
    want = demand - base
    full_at = want / weight  # the water level at which each has all it wants
    order = np.argsort(full_at, kind="stable")
    given_before = np.cumsum(want[order]) - want[order]
    weight_left = np.cumsum(weight[order][::-1])[::-1]
    level_at = (rest - given_before) / weight_left
    still = full_at[order] > level_at
    level = float(level_at[np.argmax(still)]) if still.any() else float(full_at.max(initial=0.0))
    filled: Floats = base + np.minimum(want, weight * level)
    return filled
