"""Policy: the numbers that steer `plan`. One frozen value; the default is what production runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How to share, order and take back.

    level_seconds, level_base: a workload that has run t seconds is in level 0 below `level_seconds`, then one level up each
        time t grows `level_base`-fold. Lower levels go first, and may take capacity from higher ones.
    min_run_seconds: nothing is preempted before it has run this long in its present attempt.
    starvation_seconds: a workload that has waited this long goes before all others of its priority.
    grace_seconds: how long a workload that is asked to leave may take.
    """

    level_seconds: float = 900.0
    level_base: float = 4.0
    min_run_seconds: float = 300.0
    starvation_seconds: float = 6 * 3600.0
    grace_seconds: float = 30.0
    preemption: bool = True
    backfill: bool = True
    default_duration_seconds: float = 3600.0


DEFAULT_POLICY = Policy()
