"""Victims: from whom capacity is taken back for a workload that may have it, and why.

Every rule is one-way, so that nobody takes back in turn: quota from what is borrowed, share only while the one who gives
stays above the one who gets, and inside a queue from lower priority, or from a higher level of attained service.
"""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from operator import add

import numpy as np

from narf.scheduling.decisions import PreemptReason
from narf.scheduling.order import STARVED, Order
from narf.scheduling.policy import Policy
from narf.scheduling.room import Laid, Room
from narf.scheduling.shares import EPSILON, Shares
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot

_REASONS = (PreemptReason.QUOTA, PreemptReason.SHARE, PreemptReason.PRIORITY, PreemptReason.STARVED, PreemptReason.SERVICE)
_NONE = 9
RESTART_SECONDS = 60.0  # what a stop costs besides the work that is lost


@dataclass(frozen=True, slots=True, eq=False)
class Taken:
    """What is taken back for one workload: (victim, reason) each, and where the workload then goes."""

    victims: list[tuple[int, PreemptReason]]
    laid: Laid


class Victims:
    """Who runs, what it costs to stop each, and from whom each queue has borrowed. Lives as long as one plan."""

    def __init__(self, snapshot: Snapshot, order: Order, shares: Shares, policy: Policy, now: float) -> None:
        self.snapshot, self.order, self.shares, self.policy, self.now = snapshot, order, shares, policy, now
        running = np.flatnonzero(snapshot.phase_W == 1)
        can = snapshot.preemptible_W[running] & (order.run_W[running] >= policy.least_run_seconds)
        self.rows: Ints = running[can]
        since = np.fmax(snapshot.started_W, snapshot.checkpointed_W)
        self.lost_W: Floats = np.maximum(0.0, now - np.where(np.isnan(since), now, since))
        self._gpus_W = order.gpus_W / WHOLE
        level_W = np.maximum(order.levels_W, 0)
        self._cost_W = (RESTART_SECONDS + self.lost_W) * np.maximum(self._gpus_W, 0.1) / (1.0 + level_W)
        self._gone = np.zeros(len(snapshot.ids), dtype=np.bool_)
        self._new = np.zeros(len(snapshot.ids), dtype=np.bool_)  # started by this plan
        self._since_W = np.where(np.isnan(snapshot.started_W), now, snapshot.started_W)
        self._borrowed = np.zeros(len(snapshot.ids), dtype=np.bool_)
        self._firm_of: dict[int, list[int]] | None = None  # of each queue what runs, the firmest first
        self._unsettled: set[int] = set()
        self._largest = max(1, int(snapshot.node_gpus_N.max(initial=1)))
        self._gangs_hold = float(self._gpus_W[running][self._gpus_W[running] > self._largest].sum())
        self._top_ratio: float | None = None
        self._children: dict[int, Ints] = {}
        self._after: dict[int, tuple[int, Ints, Floats, float]] = {}
        self._same: dict[int, tuple[int, int]] = {}  # of each queue: the lowest priority and the highest level that run
        queues, priorities, levels = snapshot.queue_W[self.rows], snapshot.priority_W[self.rows], order.levels_W[self.rows]
        for queue, priority, level in zip(queues.tolist(), priorities.tolist(), levels.tolist(), strict=True):
            lowest, highest = self._same.get(queue, (priority, level))
            self._same[queue] = (min(lowest, priority), max(highest, level))
        self._many_queues = len(shares.chains) > 1
        self._rank_W = np.lexsort((snapshot.tie_W, self._cost_W, -level_W))  # those to take first first
        self._preference_W = np.empty(len(self._rank_W), dtype=np.int64)
        self._preference_W[self._rank_W] = np.arange(len(self._rank_W))
        self._frees: dict[bool, tuple[Ints, Ints, Floats]] = {}
        self._slices_of = _RowsOf(snapshot.slice_workload_G, len(snapshot.ids))
        self._placed_of = _RowsOf(snapshot.placed_workload_A, len(snapshot.ids))

    def find(self, w: int, later: Room, allowed_N: Bools) -> Taken | None:
        """The cheapest set found that makes room for `w` in `later`, of which none can be left out. `later` is unchanged."""
        if not len(self.rows):
            return None
        reason_V = self._reasons(w)
        may = reason_V != _NONE
        rows, reasons = self.rows[may], reason_V[may]
        made = self.make_room(w, later, allowed_N, rows) if len(rows) else None
        if made is None:
            return None
        laid, victims = made
        reason_of = dict(zip(rows.tolist(), reasons.tolist(), strict=True))
        taken = [(v, _REASONS[reason_of[v]]) for v in victims]
        return Taken(taken, laid) if self._acceptable(w, taken) else None

    def make_room(self, w: int, later: Room, allowed_N: Bools, rows: Ints) -> tuple[Laid, list[int]] | None:
        """Where `w` goes when some of `rows` leave, and who: the cheapest found, none of whom could stay."""
        chosen = self._cheapest(w, later, allowed_N, rows)
        return None if chosen is None else self._minimal(w, later, allowed_N, chosen)

    def remove(self, w: int) -> None:
        """`w` is asked to leave."""
        self._gone[w] = True
        self.rows = self.rows[self.rows != w]
        self._after.clear()
        self._changed(w, -1)
        if self._firm_of is not None:
            self._firm_of[int(self.snapshot.queue_W[w])].remove(w)

    def started(self, w: int) -> None:
        """`w` starts: what it holds may make others of its queue borrowers."""
        self._new[w] = True
        self._changed(w, 1)
        if self._firm_of is not None:
            insort(self._firm_of.setdefault(int(self.snapshot.queue_W[w]), []), w, key=self._firmness)

    def _changed(self, w: int, sign: int) -> None:
        if self._gpus_W[w] > self._largest:
            self._gangs_hold += sign * float(self._gpus_W[w])
        self._top_ratio = None
        self._unsettled.add(int(self.snapshot.queue_W[w]))

    def laid(self, w: int) -> Laid:
        """Where running workload `w` is."""
        snapshot = self.snapshot
        gpus: dict[int, list[int]] = {}
        for row in self._slices_of(w):
            gpus.setdefault(int(snapshot.slice_replica_G[row]), []).append(int(snapshot.slice_gpu_G[row]))
        return [
            (int(snapshot.placed_node_A[row]), tuple(gpus.get(int(snapshot.placed_replica_A[row]), ())))
            for row in self._placed_of(w)
        ]  # fmt: skip

    def _reasons(self, w: int) -> Ints:
        """For each possible victim why `w` may take from it, as an index into _REASONS; _NONE where it may not."""
        snapshot, policy, rows = self.snapshot, self.policy, self.rows
        queue, level = int(snapshot.queue_W[w]), int(self.order.levels_W[w])
        reason_V = np.full(len(rows), _NONE)
        same_V = snapshot.queue_W[rows] == queue
        if policy.preemption:
            level_V, priority_V = self.order.levels_W[rows], snapshot.priority_W[rows]
            equal_V = same_V & (priority_V == snapshot.priority_W[w])
            if level == STARVED:
                reason_V[equal_V & (level_V != STARVED)] = 3
            elif self.is_patient(w):
                gpus_V = self._gpus_W[rows]
                wide_V = (gpus_V > self._largest) & ((gpus_V > 2 * self._gpus_W[w]) | ((gpus_V > self._gpus_W[w]) & self._keeps(gpus_V)))
                reason_V[equal_V & (level_V > level) & ~wide_V] = 4
            reason_V[same_V & (priority_V < snapshot.priority_W[w])] = 2
        if policy.reclaim and self._many_queues:
            self._reclaim(w, queue, same_V, reason_V)
        return reason_V

    def _keeps(self, gpus_V: Floats) -> Bools:
        """Which gangs are small in the cluster, while gangs over several nodes hold little of it."""
        most = self.policy.gang_share * float(self.shares.capacity_R[0]) / WHOLE
        keeps_V: Bools = (gpus_V <= most / 4) & (self._gangs_hold <= most)
        return keeps_V

    def is_patient(self, w: int) -> bool:
        """Whether `w` has waited as long as one of its size should before it disturbs others."""
        nodes = max(1.0, self._gpus_W[w] / self._largest)
        return bool(self.order.waited_W[w] >= self.policy.patience_seconds * nodes)

    def may_take(self, w: int) -> bool:
        """Whether `w` may take from anybody at all, by a few comparisons: most of what waits may not."""
        queue, priority = int(self.snapshot.queue_W[w]), int(self.snapshot.priority_W[w])
        if self.policy.preemption and queue in self._same:
            lowest, highest = self._same[queue]
            if priority > lowest:
                return True
            level = int(self.order.levels_W[w])
            if level == STARVED or (level < highest and self.is_patient(w)):
                return True
        if not (self.policy.reclaim and self._many_queues):
            return False
        amounts = self.shares.amounts[w]
        return not self.shares.over_quota(queue, amounts) or self.shares.ratio(queue, amounts) < self._highest_ratio()

    def _highest_ratio(self) -> float:
        """The most that any queue, of a project or above, holds over its share."""
        if self._top_ratio is None:
            self._top_ratio = max(map(self.shares.ratio, range(len(self.shares.chains))), default=0.0)
        return self._top_ratio

    def _reclaim(self, w: int, queue: int, same_V: Bools, reason_V: Ints) -> None:
        """Capacity of other queues: what is guaranteed, of all that they borrow; else of those further over their share."""
        shares = self.shares
        amounts = shares.amounts[w]
        borrowed_V = self._borrowed_W()[self.rows] & ~same_V
        if not shares.over_quota(queue, amounts):
            reason_V[borrowed_V] = 0
            return
        # Compared where the two branches meet: a project cannot take from another department by being small in its own.
        ancestors = shares.chains[queue]
        for us, above in zip(ancestors, [*ancestors[1:], -1], strict=True):
            mine = shares.ratio(us, amounts) + EPSILON
            they_V, after_V, highest = self._after_leaving(above)
            if highest > mine:
                reason_V[borrowed_V & (they_V != us) & (after_V > mine)] = 1

    def _after_leaving(self, above: int) -> tuple[Ints, Floats, float]:
        """For each possible victim the queue directly below `above` that it is in, and what that would hold over its share
        without it, -1 and nothing where it is in none; and the highest of these."""
        shares = self.shares
        known = self._after.get(above)
        if known is None or known[0] != shares.changes:
            they_V = self._children_of(above)[self.snapshot.queue_W[self.rows]]
            below = np.flatnonzero(they_V >= 0)
            held_VR = shares.held_QR[they_V[below], :3] - shares.amounts_WR[self.rows[below], :3]
            after_V = np.full(len(they_V), -np.inf)
            after_V[below] = (held_VR / np.maximum(shares.capacity_R[:3], 1)).max(axis=1) / np.maximum(
                shares.fair_Q[they_V[below]], EPSILON
            )
            known = self._after[above] = (shares.changes, they_V, after_V, float(after_V.max(initial=-np.inf)))
        return known[1:]

    def _children_of(self, above: int) -> Ints:
        """For each queue the one of its chain directly below `above`."""
        if above not in self._children:
            self._children[above] = np.array([_child_of(chain, above) for chain in self.shares.chains])
        return self._children[above]

    def _borrowed_W(self) -> Bools:
        """What runs beyond its queue's quota: in each queue all but the first that fit into it, the firmest first."""
        if self._firm_of is None:
            snapshot = self.snapshot
            running = np.flatnonzero(((snapshot.phase_W == 1) & ~self._gone) | self._new)
            keys = (snapshot.tie_W, self._since_W, -snapshot.priority_W, snapshot.preemptible_W)
            running = running[np.lexsort(tuple(key[running] for key in keys))]
            self._firm_of = {}
            for w, queue in zip(running.tolist(), snapshot.queue_W[running].tolist(), strict=True):
                self._firm_of.setdefault(queue, []).append(w)
            self._unsettled.update(self._firm_of)
        for queue in self._unsettled:
            self._settle(queue, self._firm_of.get(queue, []))
        self._unsettled.clear()
        return self._borrowed

    def _settle(self, queue: int, running: list[int]) -> None:
        """Say of all that run in `queue`, the firmest first, which of them is borrowed."""
        quota, any_quota = self.shares.quota[queue], self.shares.any_quota
        held = [0] * len(quota)
        for w in running:
            amounts = self.shares.amounts[w]
            self._borrowed[w] = is_beyond = _beyond(held, amounts, quota, any_quota)
            if not is_beyond:
                held = list(map(add, held, amounts))

    def _firmness(self, w: int) -> tuple[bool, int, float, int]:
        snapshot = self.snapshot
        return bool(snapshot.preemptible_W[w]), -int(snapshot.priority_W[w]), float(self._since_W[w]), int(snapshot.tie_W[w])

    def _freed(self, rows: Ints, gpu: int) -> tuple[Ints, Ints, Floats]:
        """For each of `rows` on each of its nodes: (victim, node, amount freed there); by node, those to take first first."""
        by_gpu = gpu > 0
        if by_gpu not in self._frees:
            snapshot = self.snapshot
            if by_gpu:
                source_w, source_n, amount = snapshot.slice_workload_G, snapshot.slice_node_G, snapshot.slice_amount_G
            else:
                source_w, source_n = snapshot.placed_workload_A, snapshot.placed_node_A
                amount = snapshot.cpu_W[source_w]
            workloads = max(1, len(self._rank_W))
            pairs, inverse = np.unique(source_n * workloads + self._preference_W[source_w], return_inverse=True)
            amounts: Floats = np.bincount(inverse, weights=amount.astype(np.float64), minlength=len(pairs)).astype(np.float64)
            self._frees[by_gpu] = (self._rank_W[pairs % workloads], pairs // workloads, amounts)
        who, where, amounts = self._frees[by_gpu]
        chosen_W = np.zeros(len(self.snapshot.ids), dtype=np.bool_)
        chosen_W[rows] = True
        mine = chosen_W[who]
        return who[mine], where[mine], amounts[mine]

    def _cheapest(self, w: int, later: Room, allowed_N: Bools, rows: Ints) -> list[int] | None:
        """Victims on the nodes where room for all replicas of `w` costs least; generous, to be cut down afterwards."""
        snapshot = self.snapshot
        gpu, replicas = int(snapshot.gpu_W[w]), int(snapshot.replicas_W[w])
        unit = gpu or int(snapshot.cpu_W[w])
        free_N = (later.whole_N * WHOLE if gpu >= WHOLE else later.free_N if gpu else later.cpu_N).astype(np.float64)
        size_N = (snapshot.node_gpus_N * WHOLE if gpu else snapshot.node_cpu_N) // unit
        want_N = np.where(allowed_N, np.minimum(size_N, replicas), 0) * float(unit)
        who, where, amount = self._freed(rows, gpu)
        total = np.cumsum(amount)
        first = np.searchsorted(where, where)  # the first row of the same node
        before = total - amount - (total[first] - amount[first])
        needed = before < (want_N - free_N)[where]
        gain_N = free_N + np.bincount(where[needed], weights=amount[needed], minlength=len(free_N))
        cost_N = np.bincount(where[needed], weights=self._cost_W[who[needed]], minlength=len(free_N))
        takes_N = np.where(allowed_N, np.minimum(np.maximum(gain_N, 0) // unit, replicas), 0).astype(np.int64)
        usable = np.flatnonzero(takes_N)
        if int(takes_N[usable].sum()) < replicas:
            return None
        usable = usable[np.lexsort((usable, cost_N[usable] / takes_N[usable]))]
        count = int(np.searchsorted(np.cumsum(takes_N[usable]), replicas)) + 1
        nodes = np.zeros(len(free_N), dtype=np.bool_)
        nodes[usable[:count]] = True
        chosen = np.unique(who[nodes[where] & needed])
        if self._lay_without(w, later, allowed_N, chosen.tolist()) is None:  # fractions, CPU or memory stand in the way too
            chosen = np.unique(who[nodes[where]])
            if self._lay_without(w, later, allowed_N, chosen.tolist()) is None:
                chosen = rows if len(rows) <= 64 else chosen
        order = np.lexsort((self._preference_W[chosen],))
        return [int(v) for v in chosen[order]]

    def _minimal(self, w: int, later: Room, allowed_N: Bools, chosen: list[int]) -> tuple[Laid, list[int]] | None:
        """`chosen` without everyone who can stay: tried from the last to be taken to the first."""
        laid = self._lay_without(w, later, allowed_N, chosen)
        if laid is None:
            return None
        kept = list(chosen)
        for v in reversed(chosen):
            fewer = [other for other in kept if other != v]
            without = self._lay_without(w, later, allowed_N, fewer)
            if without is not None:
                kept, laid = fewer, without
        return laid, kept

    def _lay_without(self, w: int, later: Room, allowed_N: Bools, victims: list[int]) -> Laid | None:
        for v in victims:
            later.take(v, self.laid(v), -1)
        laid = later.lay(w, allowed_N)
        for v in victims:
            later.take(v, self.laid(v))
        return laid

    def _acceptable(self, w: int, taken: list[tuple[int, PreemptReason]]) -> bool:
        """The limits on what one preemption may cost, and on what it may do to other queues' shares."""
        policy, shares, snapshot = self.policy, self.shares, self.snapshot
        service = sum(self._gpus_W[v] for v, reason in taken if reason is PreemptReason.SERVICE)
        if service > max(policy.collateral * self._gpus_W[w], 1.0):
            return False
        shared = [v for v, reason in taken if reason is PreemptReason.SHARE]
        if not shared:
            return True
        queue = int(snapshot.queue_W[w])
        for v in shared:
            shares.add(int(snapshot.queue_W[v]), shares.amounts[v], -1)
        fair = True
        for v in shared:
            chain = shares.chains[int(snapshot.queue_W[v])]
            above = set(chain) & set(shares.chains[queue])
            us = _below(shares.chains[queue], above)
            fair &= shares.ratio(_below(chain, above)) >= shares.ratio(us, shares.amounts[w])
        for v in shared:
            shares.add(int(snapshot.queue_W[v]), shares.amounts[v])
        return fair


def _below(chain: list[int], above: set[int]) -> int:
    """The last of `chain` (from a queue to the root) that is not in `above`."""
    return [q for q in chain if q not in above][-1]


def _child_of(chain: list[int], above: int) -> int:
    """The queue of `chain` (from a queue to the root) that is directly below `above` (-1: the root itself); -1: none."""
    if above == -1:
        return chain[-1]
    return chain[chain.index(above) - 1] if above in chain[1:] else -1


def _beyond(held: list[int], amounts: list[int], quota: list[int], any_quota: list[bool]) -> bool:
    if amounts[0] == 0:
        return any(any_quota[r] and held[r] + amounts[r] > quota[r] for r in (1, 2))
    if held[0] + amounts[0] <= quota[0]:
        return False
    flavors = [r for r in range(3, len(amounts)) if amounts[r]]
    return not flavors or any(held[r] + amounts[r] > quota[r] for r in flavors)


class _RowsOf:
    """Rows of a table by the workload that they belong to."""

    def __init__(self, workload_X: Ints, workloads: int) -> None:
        self._rows = np.argsort(workload_X, kind="stable")
        self._start = np.searchsorted(workload_X[self._rows], np.arange(workloads + 1))

    def __call__(self, w: int) -> list[int]:
        rows: list[int] = self._rows[self._start[w] : self._start[w + 1]].tolist()
        return rows
