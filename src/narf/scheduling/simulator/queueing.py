"""Baselines that never take back: FIFO, SJF (knowing each duration) and DRF, strict or best effort.

Strict: the scan of the queue stops at the first job that does not fit. Best effort: it goes on.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable

from narf.scheduling.simulator.outcome import JobOutcome, Outcome
from narf.scheduling.simulator.pool import Pool, Where
from narf.scheduling.simulator.traces import Trace, TraceJob

Key = tuple[float, ...]
KEYS: dict[str, Callable[[TraceJob], Key]] = {
    "fifo": lambda job: (job.submitted_at,),
    "sjf": lambda job: (job.duration, job.submitted_at),
}


def replay_queue(trace: Trace, nodes: int, gpus: int, *, order: str, strict: bool, name: str) -> Outcome:
    """`trace` on nodes x gpus by a fixed order: "fifo", "sjf" or "drf" (the project that holds least first)."""
    began = time.perf_counter()
    pool = Pool(nodes, gpus)
    jobs = [job for job in trace.jobs if pool.could_ever(int(job.gpus))]
    waiting = _Drf(jobs) if order == "drf" else _Sorted(jobs, KEYS[order], strict=strict)
    started = [0.0] * len(jobs)
    where: list[Where] = [()] * len(jobs)
    ends: list[tuple[float, int]] = []
    next_job, events, used, last = 0, 0, 0.0, jobs[0].submitted_at if jobs else 0.0
    samples: list[tuple[float, float, int]] = []
    now = last
    while next_job < len(jobs) or ends:
        due = ends[0][0] if ends else float("inf")
        now = min(due, jobs[next_job].submitted_at if next_job < len(jobs) else float("inf"))
        used += (now - last) * (nodes * gpus - pool.free_total)
        last = now
        while ends and ends[0][0] <= now:
            job = heapq.heappop(ends)[1]
            pool.give_back(where[job])
            waiting.ended(job)
            events += 1
        while next_job < len(jobs) and jobs[next_job].submitted_at <= now:
            waiting.add(next_job)
            next_job += 1
            events += 1
        for job, place in waiting.start(pool):
            started[job], where[job] = now, place
            heapq.heappush(ends, (now + jobs[job].duration, job))
        samples.append((now, nodes * gpus - pool.free_total, len(waiting)))
    outcomes = [
        JobOutcome(
            id=job.id, project=job.project, gpus=job.gpus, submitted_at=job.submitted_at, first_started_at=start,
            finished_at=start + job.duration, duration=job.duration,
        )
        for job, start in zip(jobs, started, strict=True)
    ]  # fmt: skip
    never = [job.id for job in trace.jobs if not pool.could_ever(int(job.gpus))]
    return Outcome(
        policy=name, capacity_gpus=nodes * gpus, jobs=outcomes, used_gpu_seconds=used, events=events, samples=samples, never_fit=never,
        seconds=now - jobs[0].submitted_at if jobs else 0.0, wall_seconds=time.perf_counter() - began,
    )  # fmt: skip


class _Sorted:
    """Waiting jobs in a fixed order, a heap for each size: what fits of one size is always its first."""

    def __init__(self, jobs: list[TraceJob], key: Callable[[TraceJob], Key], *, strict: bool) -> None:
        self._keys = [(*key(job), float(number)) for number, job in enumerate(jobs)]
        self._gpus = [int(job.gpus) for job in jobs]
        self._strict = strict
        self._heaps: dict[int, list[tuple[Key, int]]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, job: int) -> None:
        heapq.heappush(self._heaps.setdefault(self._gpus[job], []), (self._keys[job], job))
        self._count += 1

    def ended(self, job: int) -> None:
        """Nothing changes for those that wait."""

    def start(self, pool: Pool) -> list[tuple[int, Where]]:
        started = []
        heads = [(heap[0], gpus) for gpus, heap in self._heaps.items() if heap]
        heapq.heapify(heads)
        while heads:
            (_, job), gpus = heads[0]
            place = pool.place(gpus)
            if place is None:
                if self._strict:
                    break
                heapq.heappop(heads)
                continue
            started.append((job, place))
            heap = self._heaps[gpus]
            heapq.heappop(heap)
            self._count -= 1
            if heap:
                heapq.heapreplace(heads, (heap[0], gpus))
            else:
                heapq.heappop(heads)
        return started


class _Drf:
    """The project that holds the fewest GPUs goes first, first come first served inside; best effort."""

    def __init__(self, jobs: list[TraceJob]) -> None:
        self._jobs = jobs
        self._held: dict[str, float] = {}
        self._waiting: dict[str, _Sorted] = {}
        self._all = jobs

    def __len__(self) -> int:
        return sum(len(waiting) for waiting in self._waiting.values())

    def add(self, job: int) -> None:
        project = self._jobs[job].project
        if project not in self._waiting:
            self._waiting[project] = _Sorted(self._jobs, KEYS["fifo"], strict=False)
        self._waiting[project].add(job)

    def ended(self, job: int) -> None:
        self._held[self._jobs[job].project] -= self._jobs[job].gpus

    def start(self, pool: Pool) -> list[tuple[int, Where]]:
        started: list[tuple[int, Where]] = []
        for project in sorted(self._waiting, key=lambda name: (self._held.get(name, 0.0), name)):
            for job, place in self._waiting[project].start(pool):
                self._held[project] = self._held.get(project, 0.0) + self._jobs[job].gpus
                started.append((job, place))
        return started
