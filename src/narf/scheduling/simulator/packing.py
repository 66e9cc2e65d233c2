"""Packing: pods arrive one after another and none leaves, as in Weng et al., "Beware of Fragmentation" (ATC 2023).

The measure is the part of the GPUs that is allocated when as many have been asked for as there are. What does not fit when
it arrives is lost.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from narf.domain.workload import Resources
from narf.scheduling.fragmentation import mix_of
from narf.scheduling.requests import Node, Queue, Request
from narf.scheduling.room import Room
from narf.scheduling.simulator.traces import TraceJob
from narf.scheduling.snapshot import WHOLE, Floats, Ints, Snapshot, snapshot_of

Measure = Literal["best-fit", "fgd"]


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


def _empty(snapshot: Snapshot, measure: Measure) -> Room:
    nobody_W = np.zeros(len(snapshot.ids), dtype=np.bool_)
    if measure == "fgd":
        return Room.of(snapshot, mix_of(snapshot), nobody_W)
    return _BestFit.of(snapshot, None, nobody_W)
