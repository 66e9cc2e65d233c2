"""Reservations: room that opens for a workload which has waited too long, and the gaps before it that others may use.

A reservation is a set of nodes and the time at which enough of them are expected to be free, by the longest that what
runs there is forecast to take. Another workload may be put on these nodes only if it is expected to be gone by then.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narf.scheduling.policy import Policy
from narf.scheduling.room import Laid, Room
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot


@dataclass(frozen=True, slots=True, eq=False)
class Reservation:
    workload: int
    starts_at: float
    nodes_N: Bools


class Reservations:
    """Those of one plan."""

    def __init__(self, snapshot: Snapshot, policy: Policy, now: float) -> None:
        self.snapshot, self.policy, self.now = snapshot, policy, now
        self.made: list[Reservation] = []
        self._ends: Floats | None = None
        self._ending: dict[bool, tuple[Ints, Ints, Floats]] = {}
        self._started: list[tuple[int, int, int]] = []  # (workload, node, GPU taken there) of this plan's own admissions

    def begin_again(self) -> None:
        """Forget what is reserved, to be made anew with what has been admitted since."""
        self.made.clear()

    @property
    def are_all_made(self) -> bool:
        """Whether the policy allows no more."""
        return len(self.made) >= self.policy.reservations

    def started(self, w: int, laid: Laid) -> None:
        """`w` was admitted in this plan: what it holds will be free again, as that of any other that runs."""
        gpu = int(self.snapshot.gpu_W[w])
        self._ending.clear()
        self._started += [(w, node, min(gpu, WHOLE) * len(gpus)) for node, gpus in laid]

    def open_to(self, w: int, allowed_N: Bools) -> Bools:
        """The nodes of `allowed_N` that `w` may use without being in the way of a reservation."""
        for reservation in self.made:
            if reservation.workload != w and self.now + self._longest(w) > reservation.starts_at:
                allowed_N = allowed_N & ~reservation.nodes_N
        return allowed_N

    def blocker(self, w: int, room: Room, allowed_N: Bools) -> int | None:
        """The workload whose reservation keeps `w` from starting now, if one does."""
        if not self.made or room.lay(w, allowed_N) is None:
            return None
        return self.made[0].workload

    def reserve(self, w: int, room: Room, allowed_N: Bools) -> bool:
        """Reserve for `w` the nodes that are expected to be free for it first; whether that could be."""
        if self.are_all_made:
            return False
        snapshot = self.snapshot
        replicas = int(snapshot.replicas_W[w])
        free_at_N, takes_N = self._free_at(w, room)
        for reservation in self.made:
            takes_N = np.where(reservation.nodes_N, 0, takes_N)
        usable = np.flatnonzero(allowed_N & (takes_N > 0) & np.isfinite(free_at_N))
        if int(np.minimum(takes_N[usable], replicas).sum()) < replicas:
            return False
        usable = usable[np.lexsort((usable, free_at_N[usable]))]
        count = int(np.searchsorted(np.cumsum(np.minimum(takes_N[usable], replicas)), replicas)) + 1
        nodes_N = np.zeros(len(allowed_N), dtype=np.bool_)
        nodes_N[usable[:count]] = True
        self.made.append(Reservation(w, float(free_at_N[usable[count - 1]]), nodes_N))
        return True

    def _free_at(self, w: int, room: Room) -> tuple[Floats, Ints]:
        """For each node when it can take as many replicas of `w` as it ever could, and how many those are."""
        snapshot = self.snapshot
        gpu, replicas = int(snapshot.gpu_W[w]), int(snapshot.replicas_W[w])
        size_N = snapshot.node_gpus_N * WHOLE if gpu else snapshot.node_cpu_N
        unit = gpu or int(snapshot.cpu_W[w])
        takes_N = np.minimum(size_N // unit, replicas)
        free_N = np.maximum(room.free_N if gpu else room.cpu_N, 0).astype(np.float64)
        free_at_N = np.where(free_N >= takes_N * unit, self.now, np.inf)
        node_E, freed_E, at_E = self._leaving(by_gpu=gpu > 0)
        enough_E = free_N[node_E] + freed_E >= takes_N[node_E] * unit
        reached = np.flatnonzero(enough_E & np.isinf(free_at_N[node_E]))[::-1]
        free_at_N[node_E[reached]] = at_E[reached]  # the first of each node is written last
        return free_at_N, takes_N

    def _leaving(self, *, by_gpu: bool) -> tuple[Ints, Ints, Floats]:
        """A row for each that will end on a node, by node and time: the node, how much of it is freed by then, when that is."""
        if by_gpu in self._ending:
            return self._ending[by_gpu]
        snapshot = self.snapshot
        table = (snapshot.slice_workload_G, snapshot.slice_node_G) if by_gpu else (snapshot.placed_workload_A, snapshot.placed_node_A)
        running = snapshot.phase_W[table[0]] != 0
        who, node = table[0][running], table[1][running]
        amount = snapshot.slice_amount_G[running] if by_gpu else snapshot.cpu_W[who]
        at = self._ends_W()[who]
        ours = [row for row in self._started if bool(snapshot.gpu_W[row[0]]) or not by_gpu]
        if ours:
            own_w, own_node, own_amount = (np.array(column) for column in zip(*ours, strict=True))
            node = np.concatenate((node, own_node))
            amount = np.concatenate((amount, own_amount if by_gpu else snapshot.cpu_W[own_w]))
            at = np.concatenate((at, self.now + self._left_W(np.zeros(len(snapshot.ids)))[own_w]))
        rows = np.lexsort((at, node))
        node, at, freed = node[rows], at[rows], np.cumsum(amount[rows])
        in_front = np.concatenate(([0], freed))[np.searchsorted(node, node)]
        self._ending[by_gpu] = (node, freed - in_front, at)
        return self._ending[by_gpu]

    def _ends_W(self) -> Floats:
        """When what runs will have ended at the latest that is forecast, or by its time limit."""
        if self._ends is None:
            self._ends = self.now + self._left_W(self.now - self.snapshot.started_W)
        return self._ends

    def _left_W(self, run_W: Floats) -> Floats:
        """How much longer each takes that has run for `run_W` in this attempt."""
        snapshot = self.snapshot
        longest_W = snapshot.duration_3W[2] - snapshot.attained_W
        # One that has outlived its forecast is expected to go on as long again.
        longest_W = np.where(np.isnan(longest_W), self.policy.default_duration_seconds, longest_W)
        left_W = np.where(longest_W > run_W, longest_W - run_W, np.maximum(run_W, 60.0))
        return np.minimum(left_W, np.maximum(snapshot.max_seconds_W - run_W, 0.0))

    def _longest(self, w: int) -> float:
        snapshot = self.snapshot
        forecast = float(snapshot.duration_3W[2, w]) - float(snapshot.attained_W[w])
        if not forecast > 0:
            forecast = self.policy.default_duration_seconds
        return min(forecast, float(snapshot.max_seconds_W[w]))
