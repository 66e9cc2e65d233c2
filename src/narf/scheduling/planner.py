"""`plan`: what should start, stop or keep waiting, and why. Pure: same snapshot, policy and time, same answer."""

from __future__ import annotations

import numpy as np

from narf.scheduling.decisions import Admit, Decision, Plan, Reason, Waiting
from narf.scheduling.policy import Policy
from narf.scheduling.room import Room
from narf.scheduling.snapshot import UNLIMITED, WHOLE, Ints, Snapshot


def plan(snapshot: Snapshot, policy: Policy, now: float) -> Plan:
    """The decisions for `snapshot` at `now` (seconds since 1970).

    The order of rows in the snapshot does not matter. Applying the decisions and planning again decides nothing more.
    """
    room = Room(snapshot)
    held_QR = _held(snapshot)
    pending = np.flatnonzero(snapshot.phase_W == 0)
    order = pending[np.lexsort((snapshot.tie_W[pending], snapshot.submitted_W[pending], -snapshot.priority_W[pending]))]
    decisions: list[Decision] = []
    waiting: dict[str, Waiting] = {}
    for w in (int(w) for w in order):
        amounts = _amounts(snapshot, w)
        over = _over_limit(snapshot, held_QR, w, amounts)
        laid = None if over else room.lay(w, snapshot.eligible_KN[snapshot.constraint_W[w]])
        if laid is not None:
            room.take(w, laid)
            for q in _above(snapshot, int(snapshot.queue_W[w])):
                held_QR[q] += amounts
            decisions.append(Admit(workload=snapshot.ids[w], placed=room.placed(w, laid)))
            continue
        position = len(waiting) + 1
        waiting[snapshot.ids[w]] = over or _no_room(snapshot, room, w, position)
    return Plan(decisions=tuple(decisions), waiting=waiting)


def _above(snapshot: Snapshot, queue: int) -> list[int]:
    chain = []
    while queue >= 0:
        chain.append(queue)
        queue = int(snapshot.queue_parent_Q[queue])
    return chain


def _amounts(snapshot: Snapshot, w: int) -> Ints:
    amounts = np.zeros(len(snapshot.resources), dtype=np.int64)
    amounts[:3] = (snapshot.gpu_W[w], snapshot.cpu_W[w], snapshot.memory_W[w])
    flavor = snapshot.constraints[snapshot.constraint_W[w]][0]
    if flavor in snapshot.flavors:
        amounts[3 + snapshot.flavors.index(flavor)] = snapshot.gpu_W[w]
    total: Ints = amounts * int(snapshot.replicas_W[w])
    return total


def _held(snapshot: Snapshot) -> Ints:
    held_QR = np.zeros_like(snapshot.quota_QR)
    for w in np.flatnonzero(snapshot.phase_W != 0):
        for q in _above(snapshot, int(snapshot.queue_W[w])):
            held_QR[q] += _amounts(snapshot, int(w))
    return held_QR


def _over_limit(snapshot: Snapshot, held_QR: Ints, w: int, amounts: Ints) -> Waiting | None:
    for q in _above(snapshot, int(snapshot.queue_W[w])):
        for r in np.flatnonzero((held_QR[q] + amounts > snapshot.limit_QR[q]) & (snapshot.limit_QR[q] < UNLIMITED)):
            resource = snapshot.resources[r]
            unit = 1 if resource == "memory" else WHOLE
            room = max(0, int(snapshot.limit_QR[q, r] - held_QR[q, r])) / unit
            return Waiting(
                workload=snapshot.ids[w], reason=Reason.LIMIT, position=0, resource=resource,
                asked=float(amounts[r]) / unit, available=room, queue=snapshot.queue_names[q],
            )  # fmt: skip
    return None


def _no_room(snapshot: Snapshot, room: Room, w: int, position: int) -> Waiting:
    eligible = snapshot.eligible_KN[snapshot.constraint_W[w]] & snapshot.schedulable_N
    asked = float(snapshot.gpu_W[w] * snapshot.replicas_W[w]) / WHOLE
    free = float(room.gpu_NG[eligible].sum()) / WHOLE
    reason = Reason.NO_NODE_MATCHES if not eligible.any() else Reason.FRAGMENTED if free >= asked > 0 else Reason.NO_CAPACITY
    return Waiting(workload=snapshot.ids[w], reason=reason, position=position, asked=asked, available=free)
