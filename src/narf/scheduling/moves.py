"""Moves: who may go on elsewhere, so that what is free comes together for one that needs it in one place (consolidation).

Nobody loses a place by it: who moves has room held where it goes, of the same kind and in the same cluster, before it is
asked to leave. What it costs is a restart, so it is done only for one that has been patient, and for no more than its wait is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narf.scheduling.order import Order
from narf.scheduling.room import Laid, Room, allowed_nodes
from narf.scheduling.shares import Shares
from narf.scheduling.snapshot import WHOLE, Bools, Ints, Snapshot
from narf.scheduling.victims import RESTART_SECONDS, Victims


@dataclass(frozen=True, slots=True)
class Moves:
    """laid: where the one goes for which others move. goes: who moves, and where to."""

    laid: Laid
    goes: list[tuple[int, Laid]]


class Movers:
    """Finds moves for one workload after another, in the rooms of one plan."""

    def __init__(self, snapshot: Snapshot, order: Order, shares: Shares, victims: Victims, now: Room) -> None:
        self._snapshot, self._order, self._shares, self._victims, self._now = snapshot, order, shares, victims, now

    def find(self, w: int, later: Room, allowed_N: Bools, open_to: Bools) -> Moves | None:
        """The cheapest moves found that make room for `w` on `allowed_N`; those who move go to nodes of `open_to`.

        Both rooms are left as they are.
        """
        snapshot = self._snapshot
        gpus = int(self._order.gpus_W[w])
        if not gpus or int(np.maximum(later.free_N[allowed_N], 0).sum()) < gpus:
            return None
        rows = self._movable(w, later)
        made = self._victims.make_room(w, later, allowed_N, rows) if len(rows) else None
        if made is None:
            return None
        laid, moved = made
        if any(self._shares.is_beyond_limit(int(snapshot.queue_W[v])) for v in moved):
            return None  # once it has left it could not start again
        cost = sum(float(RESTART_SECONDS + self._victims.lost_W[v]) * int(self._order.gpus_W[v]) for v in moved)
        if not moved or sum(int(self._order.gpus_W[v]) for v in moved) > gpus or cost > float(self._order.waited_W[w]) * gpus:
            return None
        self._now.take(w, laid)
        goes = self._elsewhere(sorted(moved, key=lambda v: (-int(self._order.gpus_W[v]), int(snapshot.tie_W[v]))), open_to)
        self._now.take(w, laid, -1)
        return Moves(laid, goes) if goes is not None else None

    def _movable(self, w: int, later: Room) -> Ints:
        """Of those that may be stopped, who is in one piece, no more important than `w`, and no larger than what is free somewhere."""
        snapshot, rows = self._snapshot, self._victims.rows
        gpu_V = snapshot.gpu_W[rows]
        largest = int(later.whole_N[snapshot.schedulable_N].max(initial=0)) * WHOLE
        fits_V = (gpu_V <= largest) | (gpu_V < WHOLE)
        movable: Ints = rows[
            (gpu_V > 0) & fits_V & (snapshot.replicas_W[rows] == 1) & (snapshot.priority_W[rows] <= snapshot.priority_W[w])
        ]
        return movable

    def _elsewhere(self, moved: list[int], open_to: Bools) -> list[tuple[int, Laid]] | None:
        """A free place for each of `moved`, all together; None: there is none for one of them."""
        snapshot, goes = self._snapshot, []
        for v in moved:
            (node, _), *_ = self._victims.laid(v)
            like_N = (snapshot.node_flavor_N == snapshot.node_flavor_N[node]) & (snapshot.node_cluster_N == snapshot.node_cluster_N[node])
            to = self._now.lay(v, allowed_nodes(snapshot, v, []) & like_N & open_to)
            if to is None:
                break
            goes.append((v, to))
            self._now.take(v, to)
        for v, to in goes:
            self._now.take(v, to, -1)
        return goes if len(goes) == len(moved) else None
