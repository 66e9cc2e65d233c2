"""Order: who goes first inside a queue, by priority, starvation and least attained service.

Levels grow with the logarithm of GPU-seconds used (Tiresias, NSDI 2019, generalised from two levels), so that a
workload moves down a bounded number of times, and two of a kind do not take from each other for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narf.scheduling.policy import Policy
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot

STARVED = -1  # the level before all others


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """levels_W: STARVED or 0 and up. pending: indices of what waits, the first first. gpus_W: thousandths, all replicas."""

    levels_W: Ints
    gpus_W: Ints
    run_W: Floats  # seconds of the present attempt
    waited_W: Floats  # of the present attempt, until it started or now
    pending: Ints


def order(snapshot: Snapshot, policy: Policy, now: float) -> Order:
    running_W = snapshot.phase_W != 0
    gpus_W: Ints = snapshot.gpu_W * snapshot.replicas_W
    started_W = np.where(running_W, snapshot.started_W, now)
    run_W: Floats = np.maximum(0.0, now - np.where(np.isnan(started_W), now, started_W))
    waited_W: Floats = np.where(np.isnan(started_W), now, started_W) - snapshot.queued_W
    levels_W = _levels(snapshot, policy, gpus_W, snapshot.attained_W + run_W)
    starved_W = _starved(snapshot, policy, gpus_W, running_W, run_W, waited_W)
    levels_W = np.where(starved_W, STARVED, levels_W)
    pending = np.flatnonzero(~running_W)
    first_W = np.where(levels_W == STARVED, snapshot.queued_W, gpus_W)  # small first inside a level
    keys = (snapshot.tie_W, snapshot.submitted_W, first_W, levels_W, -snapshot.priority_W)
    pending = pending[np.lexsort(tuple(key[pending] for key in keys))]
    return Order(levels_W, gpus_W, run_W, waited_W, pending)


def _levels(snapshot: Snapshot, policy: Policy, gpus_W: Ints, attained_W: Floats) -> Ints:
    width_W = np.maximum(gpus_W / WHOLE, 0.001)
    gang_W = gpus_W > int(snapshot.node_gpus_N.max(initial=1)) * WHOLE
    width_W = np.where(gang_W, width_W**policy.gang_exponent, width_W)
    service_W = attained_W * width_W
    steps_W = np.log(np.maximum(service_W, policy.level_seconds) / policy.level_seconds) / np.log(policy.level_base)
    # The smallest amount past a level's start is in it, whatever the logarithm's last digit says.
    levels_W: Ints = np.where(service_W < policy.level_seconds, 0, np.floor(steps_W + 1e-9) + 1).astype(np.int64)
    return levels_W


def starves_after(snapshot: Snapshot, policy: Policy) -> Floats:
    """How long each has to wait until it starves: longer, the more it has run already."""
    bound_W: Floats = np.maximum(policy.starvation_seconds, policy.starvation_stretch * snapshot.attained_W)
    return bound_W


def _starved(snapshot: Snapshot, policy: Policy, gpus_W: Ints, running_W: Bools, run_W: Floats, waited_W: Floats) -> Bools:
    """Those that count as starving: the longest waiting first, as many as their part of the capacity allows.

    Who was started goes on counting, in its turn, so that starting somebody does not change who else starves: until it has run
    for the least time, and one that takes more than that part of the capacity, for as much longer as it takes more.
    """
    capacity = float(snapshot.node_gpus_N[snapshot.schedulable_N].sum())
    budget = max(policy.starved_share * capacity, policy.starved_gpus) * WHOLE
    counts_W = policy.least_run_seconds * np.maximum(1.0, gpus_W / max(budget, 1.0))
    over_W: Bools = (waited_W >= starves_after(snapshot, policy)) & ~(running_W & (run_W >= counts_W))
    starved_W: Bools = np.zeros(len(over_W), dtype=np.bool_)
    over = np.flatnonzero(over_W)
    if not len(over):
        return starved_W
    over = over[np.lexsort((snapshot.tie_W[over], snapshot.queued_W[over]))]
    boosted = 0.0
    for w, gpus in zip(over.tolist(), gpus_W[over].tolist(), strict=True):
        if boosted > 0 and boosted + gpus > budget:
            continue
        boosted += gpus
        starved_W[w] = not running_W[w] or run_W[w] < policy.least_run_seconds
    return starved_W
