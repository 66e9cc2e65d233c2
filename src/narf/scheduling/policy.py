"""Policy: the numbers that steer `plan`. One frozen value; the default is what production runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to share, order and take back.

    level_seconds, level_base: a workload that has used s GPU-seconds is in level 0 below `level_seconds`, then one level
        up each time s grows `level_base`-fold. Lower levels go first, and may take capacity from higher ones.
    gang_exponent: a gang over several nodes of g GPUs counts as g ** gang_exponent GPUs there. Below 1, because it
        waits longer for room of its size than its use alone would explain.
    min_run_seconds: nothing is preempted before it has run this long in its present attempt.
    patience_seconds: how long a workload waits for room by itself before it may take it from one of its own queue. Most
        waits end sooner, and then nobody has paid for a restart. For a gang as often as it needs nodes: it disturbs more.
    gang_share: a gang over several nodes is taken back only for one at least half its size (or that starves): its place is soon
        filled, and it waits long for another. While all such gangs hold no more than this part of the capacity, one that holds
        no more than a quarter of that part only for one at least its size.
    collateral: GPUs taken back at most, as a multiple of those asked for.
    starvation_seconds: waiting this long (and `starvation_stretch` times what it has run) makes a workload starve: it goes
        first and may take from any of its priority or below.
    starved_share, starved_gpus: starving workloads get this part of the capacity, but no fewer GPUs than that, in the mean over
        time, one after another; more would only turn the order into first come, first served.
    attempts: how often one plan tries to take back, in the order of who is next; the following plan goes on.
    moves: how often one plan looks whether others could go on elsewhere, so that what is free comes together for one that waits.
    move_level: the highest level that others move for. In scattered GPUs new work starts at once; those who have run long
        would take them away.
    reservations: how many waiting workloads may keep room free for themselves at once.
    """

    level_seconds: float = 900.0
    level_base: float = 4.0
    gang_exponent: float = 0.87
    min_run_seconds: float = 1800.0
    patience_seconds: float = 1800.0
    gang_share: float = 0.5
    collateral: float = 8.0
    starvation_seconds: float = 8 * 3600.0
    starvation_stretch: float = 10.0
    starved_share: float = 0.004
    starved_gpus: float = 0.25
    attempts: int = 128
    moves: int = 16
    move_level: int = 3
    reservations: int = 8
    preemption: bool = True
    reclaim: bool = True
    pack_fragments: bool = True
    default_duration_seconds: float = 3600.0

    @property
    def least_run_seconds(self) -> float:
        """`min_run_seconds`, but never nothing: who starts at a moment is not stopped, nor is its turn over, at that moment."""
        return max(self.min_run_seconds, 1.0)


DEFAULT_POLICY = Policy()
