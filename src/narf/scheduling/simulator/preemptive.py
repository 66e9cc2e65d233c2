"""Baselines that take back: SRTF and SRSF (knowing each duration), and Tiresias and LAS (knowing nothing).

At each event, or each round, all that is there is put in order, the first that fit together stay or start, and the rest
stops. Stopping keeps the work done; starting again costs `RestartCost`.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass

import numpy as np

from narf.scheduling.simulator.outcome import JobOutcome, Outcome
from narf.scheduling.simulator.pool import Pool, Where
from narf.scheduling.simulator.restart import RestartCost
from narf.scheduling.simulator.traces import Trace
from narf.scheduling.snapshot import Floats, Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """How jobs are put in order.

    kind: "srtf" (remaining seconds), "srsf" (remaining GPU-seconds), "las" (levels of attained GPU-seconds, first come
    first served in each). bounds: the starts of the levels. round_seconds: 0 decides at each event, else this often.
    strict: what does not fit stops the scan. repack: at each decision all is laid anew on an empty cluster, in order, and what
    runs may be moved for it (as in the simulator that Muri's figures come from); else what runs stays where it is.
    """

    kind: str
    bounds: tuple[float, ...] = ()
    round_seconds: float = 0.0
    strict: bool = False
    repack: bool = False


def tiresias(bound: float = 18_000.0, round_seconds: float = 60.0) -> Ranking:
    """Two levels of attained GPU-seconds (Gu et al., NSDI 2019)."""
    return Ranking(kind="las", bounds=(bound,), round_seconds=round_seconds)


def las(first: float = 900.0, base: float = 4.0, levels: int = 12, round_seconds: float = 300.0) -> Ranking:
    return Ranking(kind="las", bounds=tuple(first * base**k for k in range(levels)), round_seconds=round_seconds)


def replay_preemptive(trace: Trace, nodes: int, gpus: int, ranking: Ranking, name: str, cost: RestartCost | None = None) -> Outcome:
    """`trace` on nodes x gpus by `ranking`."""
    return _Replay(trace, nodes, gpus, ranking, name, cost or RestartCost(node_gpus=gpus)).run()


class _Replay:
    def __init__(self, trace: Trace, nodes: int, gpus: int, ranking: Ranking, name: str, cost: RestartCost) -> None:
        self.pool = Pool(nodes, gpus)
        self.jobs = [job for job in trace.jobs if self.pool.could_ever(int(job.gpus))]
        self.never = [job.id for job in trace.jobs if not self.pool.could_ever(int(job.gpus))]
        self.ranking, self.name, self.cost = ranking, name, cost
        count = len(self.jobs)
        self.gpus_J: Ints = np.array([int(job.gpus) for job in self.jobs], dtype=np.int64)
        self.duration_J: Floats = np.array([job.duration for job in self.jobs])
        self.done_J: Floats = np.zeros(count)  # seconds of work, until `since`
        self.since_J: Floats = np.full(count, np.nan)  # start of work of what runs (after its restart)
        self.overhead_J: Floats = np.zeros(count)
        self.preempted_J: Ints = np.zeros(count, dtype=np.int64)
        self.first_J: Floats = np.full(count, np.nan)
        self.finish_J: Floats = np.full(count, np.nan)
        self.where: dict[int, Where] = {}
        self.epoch: list[int] = [0] * count
        self.ends: list[tuple[float, int, int]] = []
        self.active: list[int] = []
        self.now = 0.0

    def run(self) -> Outcome:
        began = time.perf_counter()
        start = last = self.now = self.jobs[0].submitted_at if self.jobs else 0.0
        next_job, events, used, tick = 0, 0, 0.0, start
        capacity = self.pool.nodes * self.pool.size
        samples: list[tuple[float, float, int]] = []
        infinity = float("inf")
        while next_job < len(self.jobs) or self.active:
            arrival = self.jobs[next_job].submitted_at if next_job < len(self.jobs) else infinity
            end = self.ends[0][0] if self.ends else infinity
            self.now = min(arrival, end, tick)
            used += (self.now - last) * (capacity - self.pool.free_total)
            last = self.now
            changed = False
            while self.ends and self.ends[0][0] <= self.now:
                _, job, epoch = heapq.heappop(self.ends)
                if self.epoch[job] == epoch:
                    self._finish(job)
                    changed, events = True, events + 1
            while next_job < len(self.jobs) and self.jobs[next_job].submitted_at <= self.now:
                self.active.append(next_job)
                next_job, changed, events = next_job + 1, True, events + 1
            if self.ranking.round_seconds == 0 or self.now >= tick:
                self._decide()
                samples.append((self.now, capacity - self.pool.free_total, len(self.active) - len(self.where)))
            elif changed:
                self._fill()
            tick = self._next_tick(tick, arrival)
        return self._outcome(start, used, events, samples, time.perf_counter() - began)

    def _next_tick(self, tick: float, arrival: float) -> float:
        """The next round, or the next moment at which a level is crossed where somebody waits."""
        step = self.ranking.round_seconds
        if step:
            if self.now < tick:
                return tick
            return (tick if self.active else max(tick, arrival)) + step
        return float("inf")

    def _decide(self) -> None:
        if not self.active:
            return
        active = np.array(self.active)
        if len(self.where) == len(active):
            return  # all run
        order = active[np.lexsort((active, *self._keys(active)))]
        if self.ranking.repack:
            self._repack(order)
            return
        chosen = self._chosen(order)
        for job in [job for job in self.where if job not in chosen]:
            self._stop(job)
        for job in sorted((job for job in chosen if job not in self.where), key=lambda job: -int(self.gpus_J[job])):
            self._start(job)
        self._fill(order)

    def _repack(self, order: Ints) -> None:
        pool = Pool(self.pool.nodes, self.pool.size)
        laid: dict[int, Where] = {}
        for job in order.tolist():
            where = pool.place(int(self.gpus_J[job]))
            if where is not None:
                laid[job] = where
            elif self.ranking.strict:
                break
            if not pool.free_total:
                break
        for job in [job for job in self.where if job not in laid]:
            self._stop(job)
        self.pool = pool
        for job, where in laid.items():
            if job in self.where:
                self.where[job] = where
            else:
                self._begin(job, where)

    def _chosen(self, order: Ints) -> set[int]:
        """The first that fit together by count."""
        free, chosen = self.pool.nodes * self.pool.size, set()
        for job, gpus in zip(order.tolist(), self.gpus_J[order].tolist(), strict=True):
            if gpus <= free:
                chosen.add(job)
                free -= gpus
                if not free:
                    break
            elif self.ranking.strict:
                break
        return chosen

    def _fill(self, order: Ints | None = None) -> None:
        """Start what waits and fits in the room that is left, in order."""
        if not self.pool.free_total or len(self.where) == len(self.active):
            return
        if order is None:
            active = np.array(self.active)
            order = active[np.lexsort((active, *self._keys(active)))]
        failed = 1 << 30
        for job in order.tolist():
            if job in self.where or self.gpus_J[job] >= failed:
                continue
            if not self._start(job):
                failed = min(failed, int(self.gpus_J[job]))
                if self.ranking.strict:
                    break

    def _keys(self, active: Ints) -> tuple[Floats, ...]:
        since_A = self.since_J[active]
        done_A = self.done_J[active] + np.where(np.isnan(since_A), 0.0, np.maximum(0.0, self.now - since_A))
        if self.ranking.kind == "srtf":
            return (self.duration_J[active] - done_A,)
        if self.ranking.kind == "srsf":
            return ((self.duration_J[active] - done_A) * self.gpus_J[active],)
        return (np.searchsorted(np.array(self.ranking.bounds), done_A * self.gpus_J[active], side="right").astype(np.float64),)

    def _start(self, job: int) -> bool:
        where = self.pool.place(int(self.gpus_J[job]))
        if where is not None:
            self._begin(job, where)
        return where is not None

    def _begin(self, job: int, where: Where) -> None:
        restart = self.cost.of(float(self.gpus_J[job])) if self.preempted_J[job] else 0.0
        self.where[job] = where
        self.since_J[job] = self.now + restart
        self.overhead_J[job] += restart
        if np.isnan(self.first_J[job]):
            self.first_J[job] = self.now
        self.epoch[job] += 1
        heapq.heappush(self.ends, (self.now + restart + float(self.duration_J[job] - self.done_J[job]), job, self.epoch[job]))

    def _stop(self, job: int) -> None:
        self.pool.give_back(self.where.pop(job))
        worked = self.now - float(self.since_J[job])
        if worked < 0:  # stopped while it was starting again
            self.overhead_J[job] += worked
        self.done_J[job] += max(0.0, worked)
        self.since_J[job] = np.nan
        self.preempted_J[job] += 1
        self.epoch[job] += 1

    def _finish(self, job: int) -> None:
        self.pool.give_back(self.where.pop(job))
        self.finish_J[job] = self.now
        self.active.remove(job)

    def _outcome(self, start: float, used: float, events: int, samples: list[tuple[float, float, int]], wall: float) -> Outcome:
        outcomes = [
            JobOutcome(
                id=job.id, project=job.project, gpus=job.gpus, submitted_at=job.submitted_at, first_started_at=float(self.first_J[j]),
                finished_at=float(self.finish_J[j]), duration=job.duration, preemptions=int(self.preempted_J[j]),
                overhead=float(self.overhead_J[j]),
            )
            for j, job in enumerate(self.jobs)
        ]  # fmt: skip
        return Outcome(
            policy=self.name, capacity_gpus=self.pool.nodes * self.pool.size, jobs=outcomes, used_gpu_seconds=used,
            lost_gpu_seconds=float((self.overhead_J * self.gpus_J).sum()), seconds=self.now - start, events=events, samples=samples,
            wall_seconds=wall, never_fit=self.never,
        )  # fmt: skip
