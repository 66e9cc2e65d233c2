"""Packing: where each job is put decides how much fits, be it best fit or FGD (Weng et al., "Beware of Fragmentation", ATC 2023).

`pack` is their experiment: pods arrive one after another and none leaves; measured is the part of the GPUs that is allocated when
as many have been asked for as there are, and what does not fit when it arrives is lost. `replay_packing` is a baseline for whole
traces: first come first served, whoever fits, and jobs leave when they have run.
"""

from __future__ import annotations

import heapq
import random
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from narf.domain.workload import Resources
from narf.scheduling.fragmentation import mix_of
from narf.scheduling.requests import Node, Queue, Request
from narf.scheduling.room import Laid, Room, whole_cluster
from narf.scheduling.simulator.outcome import JobOutcome, Outcome
from narf.scheduling.simulator.traces import Trace, TraceJob, shape_of
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot, snapshot_of

Measure = Literal["best-fit", "fgd"]
MEASURES: dict[str, Measure] = {"best-fit": "best-fit", "fgd": "fgd"}


@dataclass(frozen=True, slots=True)
class Packed:
    """allocated_percent: of all GPUs. lost: how many pods found no room."""

    allocated_percent: float
    lost: int


class _BestFit(Room):
    """The node with the least left, GPU and CPU counting the same, each as a part of the largest node's."""

    def tightness(self, nodes: Ints) -> Floats:
        gpu, cpu = max(1, int(self.snapshot.node_gpus_N.max()) * WHOLE), max(1, int(self.snapshot.node_cpu_N.max()))
        left: Floats = self.free_N[nodes] / gpu + self.cpu_N[nodes] / cpu
        return left


class _Fgd(Room):
    """The node whose fragment rises least, and nothing else."""

    SHORT = 0.0

    def waste(self, nodes: Ints, rise: Floats) -> Floats:
        return rise


def arrivals(pods: Sequence[TraceJob], gpus: float, seed: int) -> list[TraceJob]:
    """The pods in random order, then some of them again, until `gpus` are asked for."""
    rng = random.Random(seed)
    order = list(pods)
    rng.shuffle(order)
    chosen: list[TraceJob] = []
    asked = 0.0
    while True:
        for pod in order:
            if asked + pod.gpus > gpus:
                return chosen
            asked += pod.gpus
            chosen.append(pod)
        order = rng.choices(pods, k=len(pods))


def pack(arriving: Sequence[TraceJob], nodes: Sequence[Node], measure: Measure) -> Packed:
    """Lays the pods one after another by `measure`."""
    requests = [
        Request(
            id=f"{pod.id}-{at}", queue="all", resources=Resources(gpu=pod.gpus, cpu=pod.cpu, memory_bytes=pod.memory_bytes), submitted_at=0.0
        )
        for at, pod in enumerate(arriving)
    ]  # fmt: skip
    snapshot = snapshot_of(nodes, [Queue(name="all")], requests)
    row = {workload: w for w, workload in enumerate(snapshot.ids)}
    room, allowed_N = _empty(snapshot, measure), snapshot.schedulable_N
    used, lost = 0.0, 0
    for request in requests:
        laid = room.lay(row[request.id], allowed_N)
        if laid is None:
            lost += 1
        else:
            room.take(row[request.id], laid)
            used += request.resources.gpu
    return Packed(100 * used / float(snapshot.node_gpus_N.sum()), lost)


def replay_packing(trace: Trace, nodes: Sequence[Node], measure: Measure) -> Outcome:
    """`trace` on `nodes`: whoever fits starts, the first come first, and goes where `measure` says. Nothing is taken back."""
    began = time.perf_counter()
    replay = _PackingReplay(trace.jobs, nodes, measure)
    start = trace.jobs[0].submitted_at if trace.jobs else 0.0
    end = replay.run(start)
    outcomes = [
        JobOutcome(
            id=job.id, project=job.project, gpus=job.gpus, submitted_at=job.submitted_at, first_started_at=started,
            finished_at=started + job.duration, duration=job.duration,
        )
        for job, started in zip(trace.jobs, replay.started, strict=True)
    ]  # fmt: skip
    return Outcome(
        policy=measure, capacity_gpus=replay.capacity, jobs=outcomes, used_gpu_seconds=replay.used, events=replay.events,
        samples=replay.samples, never_fit=replay.never, seconds=end - start, wall_seconds=time.perf_counter() - began,
    )  # fmt: skip


class _PackingReplay:
    def __init__(self, jobs: Sequence[TraceJob], nodes: Sequence[Node], measure: Measure) -> None:
        self.jobs = jobs
        largest = max((node.gpus for node in nodes), default=0)
        shapes = [shape_of(job.gpus, largest) for job in jobs]
        # What a trace asks for may be more or less than anybody may ask for here, so the amounts are put in place unchecked.
        requests = [
            Request(id=str(number), queue="all", replicas=replicas, submitted_at=job.submitted_at, resources=Resources())
            for number, (job, (replicas, _)) in enumerate(zip(jobs, shapes, strict=True))
        ]
        cpu = [round(job.cpu * WHOLE) // replicas for job, (replicas, _) in zip(jobs, shapes, strict=True)]
        memory = [job.memory_bytes // replicas for job, (replicas, _) in zip(jobs, shapes, strict=True)]
        self.snapshot = replace(
            snapshot_of(nodes, [Queue(name="all")], requests),
            gpu_W=np.array([gpu for _, gpu in shapes], dtype=np.int64),
            cpu_W=np.array(cpu, dtype=np.int64),
            memory_W=np.array(memory, dtype=np.int64),
        )
        self.room, self.whole = _empty(self.snapshot, measure), whole_cluster(self.snapshot)
        self.capacity = float(self.snapshot.node_gpus_N.sum())
        flavors = np.array([node.flavor for node in nodes])
        self._allowed: dict[tuple[str, ...], Bools] = {(): self.snapshot.schedulable_N}
        for job in jobs:
            if job.flavors not in self._allowed:
                self._allowed[job.flavors] = self.snapshot.schedulable_N & np.isin(flavors, job.flavors)
        self.kinds = [(shape, job.cpu, job.memory_bytes, job.flavors) for job, shape in zip(jobs, shapes, strict=True)]
        self.waiting: dict[object, deque[int]] = {}
        self.ends: list[tuple[float, int]] = []
        self.laid: dict[int, Laid] = {}
        self.started = [float("nan")] * len(jobs)
        self.used = self.busy = 0.0
        self.events = self.waits = 0
        self.samples: list[tuple[float, float, int]] = []
        self.never: list[str] = []

    def run(self, start: float) -> float:
        """When the last has ended."""
        jobs, now, following = self.jobs, start, 0
        empty: dict[object, bool] = {}
        while following < len(jobs) or self.ends:
            due = self.ends[0][0] if self.ends else float("inf")
            at = min(due, jobs[following].submitted_at if following < len(jobs) else float("inf"))
            self.used += (at - now) * self.busy
            now = at
            while self.ends and self.ends[0][0] <= now:
                j = heapq.heappop(self.ends)[1]
                self.room.take(j, self.laid.pop(j), -1)
                self.busy -= jobs[j].gpus
                self.events += 1
            while following < len(jobs) and jobs[following].submitted_at <= now:
                kind = self.kinds[following]
                if kind not in empty:
                    empty[kind] = self._fits_empty(following)
                if empty[kind]:
                    self.waiting.setdefault(kind, deque()).append(following)
                    self.waits += 1
                else:
                    self.never.append(jobs[following].id)
                following += 1
                self.events += 1
            self._start(now)
            self.samples.append((now, self.busy, self.waits))
        return now

    def _start(self, now: float) -> None:
        """Whoever fits, the first come first. What is of one kind fits or does not fit alike."""
        heads = [(jobs[0], kind) for kind, jobs in self.waiting.items()]
        heads.sort(key=lambda head: head[0])
        heap = [(j, number) for number, (j, _) in enumerate(heads)]
        while heap:
            j, number = heap[0]
            laid = self.room.lay(j, self._allowed[self.jobs[j].flavors])
            if laid is None:
                heapq.heappop(heap)
                continue
            self.room.take(j, laid)
            self.laid[j], self.started[j] = laid, now
            self.busy += self.jobs[j].gpus
            heapq.heappush(self.ends, (now + self.jobs[j].duration, j))
            kind = heads[number][1]
            same = self.waiting[kind]
            same.popleft()
            self.waits -= 1
            if same:
                heapq.heapreplace(heap, (same[0], number))
            else:
                del self.waiting[kind]
                heapq.heappop(heap)

    def _fits_empty(self, j: int) -> bool:
        replicas = int(self.snapshot.replicas_W[j])
        return int(np.minimum(self.whole.fits(j, self._allowed[self.jobs[j].flavors]), replicas).sum()) >= replicas


def _empty(snapshot: Snapshot, measure: Measure) -> Room:
    nobody_W = np.zeros(len(snapshot.ids), dtype=np.bool_)
    if measure == "fgd":
        return _Fgd.of(snapshot, mix_of(snapshot), nobody_W)
    return _BestFit.of(snapshot, None, nobody_W)
