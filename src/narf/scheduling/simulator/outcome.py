"""Outcome: what a replay came to, in the figures by which schedulers are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from narf.scheduling.snapshot import Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOutcome:
    """One job's times in seconds. finished_at is nan when it never ended. restarts: seconds lost to start again."""

    id: str
    project: str
    gpus: float
    submitted_at: float
    first_started_at: float
    finished_at: float
    duration: float
    preemptions: int = 0
    overhead: float = 0.0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """All jobs of a replay, and what the cluster did meanwhile.

    used_gpu_seconds: held by jobs. lost_gpu_seconds: of these, work that was done twice or restarts. times, allocated,
    queued, fragmented: samples over time, in seconds, GPUs, jobs, and GPUs free while something waits.
    """

    policy: str
    capacity_gpus: float
    jobs: Sequence[JobOutcome]
    used_gpu_seconds: float
    lost_gpu_seconds: float = 0.0
    seconds: float = 0.0  # from the first submission to the last end
    events: int = 0
    plans: int = 0
    wall_seconds: float = 0.0
    never_fit: Sequence[str] = ()
    samples: Sequence[tuple[float, float, int]] = field(default=())
    project_share: Sequence[tuple[str, float, float]] = ()  # project, GPU-seconds held, mean wait

    def as_json(self) -> dict[str, Any]:
        """The figures, as `narf simulate --json` prints them."""
        done = [job for job in self.jobs if job.finished_at == job.finished_at]
        jct = np.array([job.finished_at - job.submitted_at for job in done])
        queue = np.array([job.finished_at - job.submitted_at - job.duration - job.overhead for job in done])
        gpus = np.array([job.gpus for job in done])
        by_gpus = {f"{size:g}": _spread(queue[gpus == size]) for size in np.unique(gpus).tolist()}
        wide = queue[gpus > 8]
        return {
            "policy": self.policy,
            "jobs": len(done),
            "jct": _spread(jct),
            "queue": {**_spread(queue), "by_gpus": by_gpus, "mean_over_8_gpus": _rounded(wide.mean()) if len(wide) else 0.0},
            "allocated_percent": _rounded(100 * self.used_gpu_seconds / max(1e-9, self.capacity_gpus * self.seconds)),
            "fragmented_percent": _rounded(self._fragmented()),
            "fairness": self._fairness(),
            "preemptions": sum(job.preemptions for job in self.jobs),
            "failures": sum(job.failures for job in self.jobs),
            "lost_gpu_hours": _rounded(self.lost_gpu_seconds / 3600),
            "overhead_seconds": _rounded(float(np.mean([job.overhead for job in done])) if done else 0.0),
            "unfinished": len(self.jobs) - len(done),
            "never_fit": list(self.never_fit)[:20],
            "events": self.events,
            "plans": self.plans,
            "wall_seconds": _rounded(self.wall_seconds),
        }

    def _fragmented(self) -> float:
        """GPUs that were free while something waited, in per cent of all."""
        waiting = [(self.capacity_gpus - used, until - at) for (at, used, queued), (until, _, _) in _pairs(self.samples) if queued]
        total = sum(seconds for _, seconds in waiting)
        return 100 * sum(free * seconds for free, seconds in waiting) / max(1e-9, total * self.capacity_gpus)

    def _fairness(self) -> dict[str, Any]:
        """Jain's index over the projects' mean slowdown: 1 when all are delayed alike."""
        slow: dict[str, list[float]] = {}
        held: dict[str, float] = {}
        for job in self.jobs:
            if job.finished_at == job.finished_at:
                slow.setdefault(job.project, []).append((job.finished_at - job.submitted_at) / max(job.duration, 60.0))
                held[job.project] = held.get(job.project, 0.0) + job.gpus * (job.duration + job.overhead)
        means = np.array([np.mean(values) for values in slow.values()])
        jain = float(means.sum() ** 2 / (len(means) * (means**2).sum())) if len(means) else 1.0
        total = max(1e-9, sum(held.values()))
        projects = {
            name: {"share_percent": _rounded(100 * held[name] / total), "slowdown": _rounded(float(np.mean(slow[name])))} for name in slow
        }
        return {"jain_slowdown": round(jain, 4), "projects": dict(sorted(projects.items())[:100])}


def _pairs(samples: Sequence[tuple[float, float, int]]) -> Iterator[tuple[tuple[float, float, int], tuple[float, float, int]]]:
    return pairwise(samples)


def _spread(values: Floats) -> dict[str, float]:
    if not len(values):
        return {"mean": 0.0, "p50": 0.0, "p99": 0.0, "p99.9": 0.0, "max": 0.0}
    # Sums of many floats leave dust below zero where a job did not wait at all.
    values = np.where(np.abs(values) < 1e-6, 0.0, values)
    at = np.sort(values)

    def quantile(part: float) -> float:
        return _rounded(float(at[min(len(at) - 1, int(len(at) * part))]))

    return {
        "mean": _rounded(float(values.mean())),
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "p99.9": quantile(0.999),
        "max": _rounded(float(at[-1])),
    }


def _rounded(value: float) -> float:
    return round(float(value), 2)
