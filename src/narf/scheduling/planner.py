"""`plan`: what should start, stop or keep waiting, and why. Pure: same snapshot, policy and time, same answer.

Its phases: share and order; then, queue by queue as their shares rank them, place what fits, else hold what is being
freed, else take back, else reserve and let others into the gaps.
"""

from __future__ import annotations

import heapq

import numpy as np

from narf.scheduling.alike import Alike
from narf.scheduling.decisions import Admit, Decision, Hold, Plan, Preempt, PreemptReason, Reason
from narf.scheduling.fragmentation import mix_of
from narf.scheduling.moves import Movers
from narf.scheduling.order import STARVED, order
from narf.scheduling.policy import Policy
from narf.scheduling.requests import Placed
from narf.scheduling.reservation import Reservations
from narf.scheduling.room import Laid, Room, allowed_nodes, apart, whole_cluster
from narf.scheduling.shares import Shares
from narf.scheduling.snapshot import WHOLE, Bools, Snapshot
from narf.scheduling.victims import Victims
from narf.scheduling.waiting import Verdict, WaitingTable


def plan(snapshot: Snapshot, policy: Policy, now: float) -> Plan:
    """The decisions for `snapshot` at `now` (seconds since 1970).

    The order of rows in the snapshot does not matter. Applying the decisions and planning again decides nothing more.
    """
    return _Pass(snapshot, policy, now).run()


class _Pass:
    """One plan in the making."""

    def __init__(self, snapshot: Snapshot, policy: Policy, now: float) -> None:
        self.snapshot, self.policy, self.now = snapshot, policy, now
        self.order = order(snapshot, policy, now)
        self.shares = Shares(snapshot, self.order)
        mix = mix_of(snapshot) if policy.pack_fragments and bool((snapshot.gpu_W % WHOLE).any()) else None
        self.room = Room.of(snapshot, mix, snapshot.phase_W != 0)
        stopping = snapshot.phase_W == 2
        # Later is now, as long as nobody is leaving.
        self.later = Room.of(snapshot, None, snapshot.phase_W == 1) if stopping.any() else self.room
        self.victims: Victims | None = None
        self.reservations = Reservations(snapshot, policy, now)
        self.decisions: list[Decision] = []
        self.verdicts: dict[int, Verdict] = {}
        self.done: set[int] = set()
        self.holding: dict[int, Laid] = {}
        self.moving: dict[int, Laid] = {}  # where those go on that an earlier plan moves and that have not left yet
        self._allowed: dict[tuple[int, int, int, tuple[int, ...]], Bools] = {}
        self._places_of: dict[tuple[int, tuple[int, ...]], list[tuple[int, Bools]]] = {}
        self._places_named = 0
        self._full_now: set[int] = set()  # places where nothing is free; that only changes for the worse
        self._full_later: set[int] = set()  # the same when all have left who were asked to
        self._no_room: set[int] = set()  # groups that may take from nobody either, until the next victim leaves
        self._answered: set[int] = set()  # sorts for which nothing more can be done in this round
        self._attempts = policy.attempts if policy.preemption or policy.reclaim else 0
        self._moves = policy.moves if policy.preemption else 0
        self._impossible: set[int] = set()  # what would not start on an empty cluster
        self._never: dict[tuple[int, tuple[int, ...]], bool] = {}
        self._empty: Room | None = None
        self.alike = Alike(snapshot, self.order, self.shares)
        self.amounts = self.shares.amounts
        self._ranks: dict[tuple[int, int], tuple[int, tuple[float, ...]]] = {}

    def run(self) -> Plan:
        self._keep_moves()
        self._keep_holds()
        for _ in range(8):
            before = len(self.decisions) + len(self.holding)
            self._visit_all()
            if len(self.decisions) + len(self.holding) == before:
                break
            # Room that was made for one may serve another, and what one was given may put its queue above another's
            # share; so look again, but not for ever. Reservations are made anew: who reserves first is a matter of
            # shares, and those have changed, so the next plan would make others.
            self._no_room.clear()
            self._answered.clear()
            self.reservations.begin_again()
        kept = {**self.holding, **self.moving}
        holds = [Hold(workload=self.snapshot.ids[w], placed=self.later.placed(w, laid)) for w, laid in kept.items()]
        waiting = [w for w in self.order.pending.tolist() if w not in self.done]
        self._say_what_is_free(waiting)
        table = WaitingTable(self.snapshot, self.shares, waiting, self.verdicts)
        never = tuple(self.snapshot.ids[w] for w in waiting if w in self._impossible) if self._impossible else ()
        return Plan(decisions=(*self.decisions, *holds), waiting=table, never_fit=never)

    def _visit_all(self) -> None:
        """Every waiting workload once, the next queue by share each time, in each queue in its order."""
        position = dict.fromkeys(self.alike.queues, 0)
        heap: list[tuple[tuple[float, ...], float, int, int, int]] = []
        for queue in self.alike.queues:
            self._push(heap, queue, position)
        while heap:
            key, _, _, w, queue = heapq.heappop(heap)
            if self._is_hopeless(w):
                self._push(heap, queue, position)
                continue
            fresh = self._rank(w, queue)
            if fresh > key and heap and fresh > heap[0][0]:
                heapq.heappush(heap, (fresh, float(self.order.levels_W[w]), int(self.snapshot.tie_W[w]), w, queue))
                continue
            self._visit(w, queue)
            position[queue] += 1
            self._push(heap, queue, position)

    def _push(self, heap: list[tuple[tuple[float, ...], float, int, int, int]], queue: int, position: dict[int, int]) -> None:
        """The next workload of `queue` that has a chance; the others have had their answer from one like them."""
        waiting, place = self.alike.queues[queue], position[queue]
        sort, group, answered, no_room = self.alike.sort, self.alike.group, self._answered, self._no_room
        done, holding, count = self.done, self.holding, len(waiting)
        while place < count:
            w = waiting[place]
            if sort[w] not in answered and group[w] not in no_room and w not in done and w not in holding:
                rank = self._rank(w, queue)
                heapq.heappush(heap, (rank, float(self.order.levels_W[w]), int(self.snapshot.tie_W[w]), w, queue))
                break
            place += 1
        position[queue] = place

    def _rank(self, w: int, queue: int) -> tuple[float, ...]:
        """Which rank `queue` has with `w`; worked out once for all of its kind, as long as nothing changes."""
        key = (queue, self.alike.kind[w])
        known = self._ranks.get(key)
        if known is None or known[0] != self.shares.changes:
            known = self._ranks[key] = (self.shares.changes, self.shares.rank(queue, self.amounts[w]))
        return known[1]

    def _is_hopeless(self, w: int) -> bool:
        return self.alike.sort[w] in self._answered or self.alike.group[w] in self._no_room

    def _visit(self, w: int, queue: int) -> None:
        amounts = self.amounts[w]
        over = self.shares.over_limit(queue, amounts, with_stopping=True)
        if over is not None:
            self.verdicts[w] = Verdict(Reason.LIMIT, queue=over[0], resource=over[1])
            return
        borrowed = self.shares.over_quota(queue, amounts)
        if borrowed and not self.snapshot.preemptible_W[w] and self.shares.any_quota[0 if amounts[0] else 1]:
            self.verdicts[w] = Verdict(Reason.OVER_QUOTA, queue=queue)
            return
        places = self._places(w, queue)
        for place, allowed_N in places:
            if place not in self._full_now:
                laid = self.room.lay(w, self.reservations.open_to(w, allowed_N))
                if laid is not None:
                    self._admit(w, laid, borrowed=borrowed)
                    return
                if not self.reservations.made or self.room.lay(w, allowed_N) is None:
                    self._full_now.add(place)  # full even without the reservations
        if self._never_fits(w, queue):
            return
        for place, allowed_N in places if self.later is not self.room else ():
            if place not in self._full_later:
                if self._hold_what_leaves(w, allowed_N):
                    return
                if not self.reservations.made or self.later.lay(w, allowed_N) is None:
                    self._full_later.add(place)
        if any(self._take_back(w, queue, allowed_N) or self._move_others(w, allowed_N) for _, allowed_N in places):
            return
        self._wait(w, queue, places)

    def _admit(self, w: int, laid: Laid, *, borrowed: bool) -> None:
        self.decisions.append(Admit(workload=self.snapshot.ids[w], placed=self.room.placed(w, laid), borrowed=borrowed))
        self.reservations.started(w, laid)
        self._take(w, laid)
        self.shares.add(int(self.snapshot.queue_W[w]), self._amounts_at(w, laid))
        self.done.add(w)
        if self.victims is not None:
            self.victims.started(w)

    def _amounts_at(self, w: int, laid: Laid) -> list[int]:
        """What `w` takes there: a workload that accepts any flavor is counted for the one that it gets."""
        amounts = list(self.amounts[w])
        if amounts[0] and self.snapshot.flavors:
            amounts[3:] = [0] * (len(amounts) - 3)
            for node, gpus in laid:
                flavor = int(self.snapshot.node_flavor_N[node])
                if flavor >= 0:
                    amounts[3 + flavor] += len(gpus) * min(int(self.snapshot.gpu_W[w]), WHOLE)
        return amounts

    def _take(self, w: int, laid: Laid) -> None:
        """Out of what is free now, and of what will be."""
        self.room.take(w, laid)
        if self.later is not self.room:
            self.later.take(w, laid)

    def _hold(self, w: int, laid: Laid) -> None:
        self.holding[w] = laid
        self._take(w, laid)
        self.shares.add(int(self.snapshot.queue_W[w]), self._amounts_at(w, laid))
        self.verdicts[w] = Verdict(Reason.STOPPING)

    def _keep_holds(self) -> None:
        """What an earlier plan held is given as soon as it is free, and held on as long as others are leaving it."""
        snapshot = self.snapshot
        holds_W = np.zeros(len(snapshot.ids), dtype=np.bool_)
        holds_W[snapshot.placed_workload_A] = True
        holders = self.order.pending[holds_W[self.order.pending]].tolist()
        if not holders:
            return
        victims = self._victims()
        kept: list[tuple[int, Laid]] = []
        for w in holders:
            laid, queue = victims.laid(w), int(snapshot.queue_W[w])
            allowed_N = self._allowed_nodes(w, queue)
            if len(laid) == snapshot.replicas_W[w] and all(allowed_N[node] for node, _ in laid):
                kept.append((w, laid))
        # What must go on waiting takes its part first, as in the plan that made the holds: else a small one would start on what
        # another is counting on, and the next plan would decide otherwise than this one. Each that waits may make others wait.
        while waits := next((held for held in kept if not self._may_start(*held)), None):
            kept.remove(waits)
            self._keep_waiting(*waits)
        for w, laid in kept:
            if self._may_start(w, laid):
                self._admit(w, laid, borrowed=self.shares.over_quota(int(snapshot.queue_W[w]), self.amounts[w]))
            else:
                self._keep_waiting(w, laid)

    def _may_start(self, w: int, laid: Laid) -> bool:
        """Whether what is held for `w` is free, and no limit is in its way."""
        return self.shares.over_limit(int(self.snapshot.queue_W[w]), self.amounts[w], with_stopping=True) is None and self._is_free(
            self.room, w, laid
        )

    def _keep_waiting(self, w: int, laid: Laid) -> None:
        """Hold it on, if it will be free once all have left who were asked to, and its limit allows it then."""
        over = self.shares.over_limit(int(self.snapshot.queue_W[w]), self.amounts[w], with_stopping=False)
        if over is None and self._is_free(self.later, w, laid):
            self._hold(w, laid)

    def _is_free(self, room: Room, w: int, laid: Laid) -> bool:
        room.take(w, laid)
        nodes = {node for node, _ in laid}
        free = all(room.cpu_N[n] >= 0 and room.memory_N[n] >= 0 and (room.gpu_NG[n] >= 0).all() for n in nodes)
        room.take(w, laid, -1)
        return free

    def _hold_what_leaves(self, w: int, allowed_N: Bools) -> bool:
        laid = self.later.lay(w, self.reservations.open_to(w, allowed_N))
        if laid is not None:
            self._hold(w, laid)
        return laid is not None

    def _take_back(self, w: int, queue: int, allowed_N: Bools) -> bool:
        if not self._attempts:
            return False
        victims = self._victims()
        if not victims.may_take(w):
            return False
        self._attempts -= 1
        taken = victims.find(w, self.later, allowed_N)
        if taken is None or not taken.victims:  # free as it is: then a reservation keeps it, and it must wait
            return False
        for v, reason in taken.victims:
            self._stop(v, w, reason)
            self.shares.leaves(int(self.snapshot.queue_W[v]), self.amounts[v])
        self._hold(w, taken.laid)
        self._no_room.clear()
        self._full_later.clear()
        return True

    def _move_others(self, w: int, allowed_N: Bools) -> bool:
        """Have others go on elsewhere, so that what is free comes together for `w`. They count as running all the while."""
        if not self._moves or self.order.levels_W[w] > self.policy.move_level:
            return False
        victims = self._victims()
        if not victims.is_patient(w):
            return False
        self._moves -= 1
        everywhere_N = np.ones(len(allowed_N), dtype=np.bool_)
        movers = Movers(self.snapshot, self.order, self.shares, victims, self.room)
        found = movers.find(w, self.later, self.reservations.open_to(w, allowed_N), self.reservations.open_to(w, everywhere_N))
        if found is None:
            return False
        for v, to in found.goes:
            self._stop(v, w, PreemptReason.ROOM, self.room.placed(v, to))
            self._take(v, to)
        self._hold(w, found.laid)
        self._no_room.clear()
        self._full_later.clear()
        return True

    def _stop(self, v: int, w: int, reason: PreemptReason, moves_to: tuple[Placed, ...] = ()) -> None:
        """Ask `v` to leave for `w`."""
        victims, ids = self._victims(), self.snapshot.ids
        if self.later is self.room:
            self.later = Room(self.snapshot, None, self.room.cpu_N.copy(), self.room.memory_N.copy(), self.room.gpu_NG.copy())
        lost = float(victims.lost_W[v]) * max(1.0, float(self.order.gpus_W[v]) / WHOLE)
        self.decisions.append(Preempt(workload=ids[v], beneficiary=ids[w], reason=reason, lost_seconds=lost, moves_to=moves_to))
        self.later.take(v, victims.laid(v), -1)
        victims.remove(v)

    def _keep_moves(self) -> None:
        """Keep what is held for those who move and have not left yet, as long as it will be free."""
        snapshot = self.snapshot
        moves: dict[int, list[int]] = {}
        for w, node, gpu in zip(
            *(column.tolist() for column in (snapshot.moves_workload_M, snapshot.moves_node_M, snapshot.moves_gpu_M)), strict=True
        ):
            if snapshot.phase_W[w] == 2 and snapshot.schedulable_N[node]:
                moves.setdefault(w, [node]).append(gpu)
        for w, (node, *gpus) in sorted(moves.items(), key=lambda move: int(snapshot.tie_W[move[0]])):
            laid: Laid = [(node, tuple(gpus))]
            if not self._is_free(self.later, w, laid):
                continue
            self.moving[w] = laid
            self._take(w, laid)
            self.shares.leaves(int(snapshot.queue_W[w]), self.amounts[w], -1)

    def _places(self, w: int, queue: int) -> list[tuple[int, Bools]]:
        """The sets of nodes that `w` may be laid on, one of which it needs, each with a number of its own."""
        key = (self.alike.kind[w], self._closed(w, queue))
        if key not in self._places_of:
            sets = apart(self.snapshot, w, self._allowed_nodes(w, queue))
            self._places_of[key] = list(enumerate(sets, start=self._places_named))
            self._places_named += len(sets)
        return self._places_of[key]

    def _wait(self, w: int, queue: int, places: list[tuple[int, Bools]]) -> None:
        """It waits: behind a reservation, or because too little is free, which is said when all is decided."""
        self.verdicts.pop(w, None)
        for place, set_N in places:
            blocker = None if place in self._full_now else self.reservations.blocker(w, self.room, set_N)
            if blocker is not None:
                self.verdicts[w] = Verdict(Reason.RESERVED, blocker=blocker)
                return
        if int(self.order.levels_W[w]) == STARVED or not self.policy.preemption:
            for _, set_N in places:
                if self.reservations.reserve(w, self.later, set_N):
                    return
            if not self.reservations.are_all_made:
                return
        elif self._attempts:
            self._no_room.add(self.alike.group[w])
            return
        is_full = all(p in self._full_now and (self.later is self.room or p in self._full_later) for p, _ in places)
        if not self._attempts and is_full and not self._closed(w, queue):
            self._answered.add(self.alike.sort[w])

    def _say_what_is_free(self, waiting: list[int]) -> None:
        """The reason of each that waits for room: too little is free, or enough but not in the right places."""
        found: dict[int, Verdict] = {}
        for w in waiting:
            if w in self.verdicts:
                continue
            sort = self.alike.sort[w]
            if sort not in found:
                by_gpu = self.snapshot.gpu_W[w] > 0
                asked = self.amounts[w][0 if by_gpu else 1]
                free_N = self.room.free_N if by_gpu else self.room.cpu_N
                free = int(np.maximum(free_N[self._allowed_nodes(w, int(self.snapshot.queue_W[w]))], 0).sum())
                found[sort] = Verdict(Reason.FRAGMENTED if free >= asked else Reason.NO_CAPACITY, available=free)
            self.verdicts[w] = found[sort]

    def _never_fits(self, w: int, queue: int) -> bool:
        """Whether it could not start on an empty cluster either, be it for its size or for the limit on a flavor."""
        closed = self._closed(w, queue)
        key = (self.alike.kind[w], closed)
        if key not in self._never:
            self._never[key] = not self._fits_empty(w, self._allowed_nodes(w, queue))
        if not self._never[key]:
            return False
        open_N = allowed_nodes(self.snapshot, w, [])
        if closed and self._fits_empty(w, open_N):
            over = self.shares.over_flavor(queue, self.amounts[w][0], closed)
            self.verdicts[w] = Verdict(Reason.LIMIT, queue=over[0], resource=over[1])
        else:
            self.verdicts[w] = Verdict(Reason.NEVER_FITS if open_N.any() else Reason.NO_NODE_MATCHES)
            self._impossible.add(w)
        return True

    def _fits_empty(self, w: int, allowed_N: Bools) -> bool:
        if self._empty is None:
            self._empty = whole_cluster(self.snapshot)
        replicas = int(self.snapshot.replicas_W[w])
        sets = apart(self.snapshot, w, allowed_N)
        return any(int(np.minimum(self._empty.fits(w, set_N), replicas).sum()) >= replicas for set_N in sets)

    def _closed(self, w: int, queue: int) -> tuple[int, ...]:
        if not self.shares.flavor_limited[queue]:
            return ()
        amounts = self.amounts[w]
        if not amounts[0] or any(amounts[3:]):
            return ()  # one that names its flavor was measured against that limit already
        return self.shares.closed_flavors(queue, amounts[0])

    def _allowed_nodes(self, w: int, queue: int) -> Bools:
        closed = self._closed(w, queue)
        snapshot = self.snapshot
        key = (int(snapshot.constraint_W[w]), min(int(snapshot.gpu_W[w]), WHOLE), int(snapshot.gpu_memory_W[w]), closed)
        if key not in self._allowed:
            self._allowed[key] = allowed_nodes(self.snapshot, w, list(closed))
        return self._allowed[key]

    def _victims(self) -> Victims:
        if self.victims is None:
            self.victims = Victims(self.snapshot, self.order, self.shares, self.policy, self.now)
            for w in self.done:
                self.victims.started(w)
        return self.victims
