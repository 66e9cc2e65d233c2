"""Room: what is free on each node and GPU while a plan is being made, and how a gang is laid into it.

There are two layers of it: what is free *now*, and what will be *later*, when all that was told to leave has left.
Waiting workloads are admitted into the first; what is held for them is taken from both.
"""

from __future__ import annotations

import numpy as np

from narf.scheduling.fragmentation import Fragmentation, Mix
from narf.scheduling.requests import Placed
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot

Laid = list[tuple[int, tuple[int, ...]]]  # for each replica: node, GPU indices
MANY = 1 << 30
# In thousandths of a fragmented GPU: little enough to decide only between nodes that would be fragmented about alike.
PER_GPU_LEFT = 10.0


class Room:
    """Free capacity, taken and given back in place. It may be below nothing where what is held is not yet free."""

    SHORT = 0.6  # what a GPU counts that CPU or memory will be short for, beside one that is fragmented

    def __init__(self, snapshot: Snapshot, mix: Mix | None, cpu_N: Ints, memory_N: Ints, gpu_NG: Ints) -> None:
        self.snapshot = snapshot
        self.cpu_N, self.memory_N, self.gpu_NG = cpu_N, memory_N, gpu_NG
        self.whole_N: Ints = (gpu_NG == WHOLE).sum(axis=1)
        self.free_N: Ints = gpu_NG.sum(axis=1)
        self.fragmentation = Fragmentation(mix, self.SHORT) if mix is not None and mix.has_fractions else None

    @classmethod
    def of(cls, snapshot: Snapshot, mix: Mix | None, which_W: Bools) -> Room:
        """What is left when the workloads `which_W` are where they are placed."""
        most = int(snapshot.node_gpus_N.max(initial=0))
        cpu_N, memory_N = snapshot.node_cpu_N.copy(), snapshot.node_memory_N.copy()
        gpu_NG: Ints = np.where(np.arange(most) < snapshot.node_gpus_N[:, None], WHOLE, 0)
        rows = which_W[snapshot.placed_workload_A]
        placed_w, placed_n = snapshot.placed_workload_A[rows], snapshot.placed_node_A[rows]
        np.subtract.at(cpu_N, placed_n, snapshot.cpu_W[placed_w])
        np.subtract.at(memory_N, placed_n, snapshot.memory_W[placed_w])
        rows = which_W[snapshot.slice_workload_G]
        where = (snapshot.slice_node_G[rows], snapshot.slice_gpu_G[rows])
        np.subtract.at(gpu_NG, where, snapshot.slice_amount_G[rows])
        return cls(snapshot, mix, cpu_N, memory_N, gpu_NG)

    def lay(self, workload: int, allowed_N: Bools) -> Laid | None:
        """Where the whole gang of `workload` fits best among `allowed_N`; None: nowhere. Takes nothing."""
        snapshot = self.snapshot
        gpu, replicas = int(snapshot.gpu_W[workload]), int(snapshot.replicas_W[workload])
        fits_N = self.fits(workload, allowed_N)
        if replicas == 1:
            return self._lay_one(workload, gpu, fits_N)
        fits_N = np.minimum(fits_N, replicas)
        if int(fits_N.sum()) < replicas:
            return None
        # Whole nodes first, of those the fullest; then the fullest that takes what remains.
        order = np.lexsort((self.free_N, -fits_N))
        total = np.cumsum(fits_N[order])
        last = int(np.searchsorted(total, replicas))
        nodes = order[:last].tolist()
        counts = fits_N[order[:last]].tolist()
        remaining = replicas - (int(total[last - 1]) if last else 0)
        fits_N[order[:last]] = 0
        enough = np.flatnonzero(fits_N >= remaining)
        nodes.append(int(enough[np.argmin(self.free_N[enough])]))
        counts.append(remaining)
        laid: Laid = []
        for node, count in zip(nodes, counts, strict=True):
            laid.extend(self._gpus_on(node, gpu, count))
        return laid

    def fits(self, workload: int, allowed_N: Bools) -> Ints:
        """How many replicas of `workload` each node takes."""
        snapshot = self.snapshot
        gpu, cpu, memory = int(snapshot.gpu_W[workload]), int(snapshot.cpu_W[workload]), int(snapshot.memory_W[workload])
        if gpu >= WHOLE:
            fits_N = self.whole_N // (gpu // WHOLE)
        elif gpu:
            fits_N = (self.gpu_NG // gpu).clip(min=0).sum(axis=1)
        else:
            fits_N = np.full(len(self.cpu_N), MANY)
        if cpu:
            fits_N = np.minimum(fits_N, self.cpu_N // cpu)
        if memory:
            fits_N = np.minimum(fits_N, self.memory_N // memory)
        return np.where(allowed_N, np.maximum(fits_N, 0), 0)

    def take(self, workload: int, laid: Laid, sign: int = 1) -> None:
        """Take what `lay` found; with `sign` -1 give it back."""
        snapshot = self.snapshot
        gpu, cpu, memory = int(snapshot.gpu_W[workload]), int(snapshot.cpu_W[workload]), int(snapshot.memory_W[workload])
        amount = sign * min(gpu, WHOLE)
        touched = set()
        for node, gpus in laid:
            self.cpu_N[node] -= sign * cpu
            self.memory_N[node] -= sign * memory
            for index in gpus:
                self.gpu_NG[node, index] -= amount
            touched.add(node)
        for node in touched:
            row = self.gpu_NG[node]
            self.whole_N[node] = np.count_nonzero(row == WHOLE)
            self.free_N[node] = row.sum()
            if self.fragmentation is not None:
                self.fragmentation.changed(node)

    def _lay_one(self, workload: int, gpu: int, fits_N: Ints) -> Laid | None:
        candidates = np.flatnonzero(fits_N)
        if not len(candidates):
            return None
        if self.fragmentation is not None and gpu:
            snapshot = self.snapshot
            kind = (gpu, int(snapshot.cpu_W[workload]), int(snapshot.memory_W[workload]))
            rise_N, gpu_N = self.fragmentation.increase(kind, self.gpu_NG, self.cpu_N, self.memory_N)
            waste = self.waste(candidates, rise_N[candidates])
            node = int(candidates[np.lexsort((self.free_N[candidates], np.round(waste, 6)))[0]])
            if gpu < WHOLE:
                return [(node, (int(gpu_N[node]),))]
        else:
            node = int(candidates[np.argmin(self.tightness(candidates))])
        return self._gpus_on(node, gpu, 1)

    def waste(self, nodes: Ints, rise: Floats) -> Floats:
        """What it costs to use each of `nodes`: the `rise` of what it wastes, and what it has left, so that what is begun is filled first."""
        wasted: Floats = rise + PER_GPU_LEFT * self.free_N[nodes] / WHOLE
        return wasted

    def tightness(self, nodes: Ints) -> Floats:
        """How much each of `nodes` has left: the least is the best fit."""
        tight: Floats = self.free_N[nodes] + self.cpu_N[nodes] / (1 << 40)
        return tight

    def _gpus_on(self, node: int, gpu: int, replicas: int) -> Laid:
        if gpu == 0:
            return [(node, ())] * replicas
        row = self.gpu_NG[node].tolist()
        if gpu >= WHOLE:
            each = gpu // WHOLE
            whole = [index for index, free in enumerate(row) if free == WHOLE]
            return [(node, tuple(whole[r * each : (r + 1) * each])) for r in range(replicas)]
        laid: Laid = []
        for _ in range(replicas):  # the fullest GPU that takes it
            index = min((g for g, free in enumerate(row) if free >= gpu), key=lambda g: row[g])
            row[index] -= gpu
            laid.append((node, (index,)))
        return laid

    def placed(self, workload: int, laid: Laid) -> tuple[Placed, ...]:
        gpu = int(self.snapshot.gpu_W[workload])
        fraction = gpu / WHOLE if 0 < gpu < WHOLE else 0.0
        names = self.snapshot.node_names
        return tuple(Placed(node=names[node], gpu_indices=gpus, gpu_fraction=fraction) for node, gpus in laid)


def allowed_nodes(snapshot: Snapshot, workload: int, closed_flavors: list[int]) -> Bools:
    """The nodes that `workload` may use at all, full or not."""
    allowed_N: Bools = snapshot.eligible_KN[snapshot.constraint_W[workload]] & snapshot.schedulable_N
    memory = int(snapshot.gpu_memory_W[workload])
    if memory:
        part = min(int(snapshot.gpu_W[workload]), WHOLE) / WHOLE
        size_N = snapshot.node_gpu_memory_N
        allowed_N = allowed_N & ((size_N == 0) | (size_N * part >= memory))
    if closed_flavors and snapshot.gpu_W[workload]:
        allowed_N = allowed_N & ~np.isin(snapshot.node_flavor_N, closed_flavors)
    return allowed_N


def apart(snapshot: Snapshot, workload: int, allowed_N: Bools) -> list[Bools]:
    """The sets of nodes that `workload` may be laid on, one of which it needs: for a gang, those of each cluster."""
    if snapshot.replicas_W[workload] == 1:
        return [allowed_N]
    clusters = int(snapshot.node_cluster_N.max(initial=0)) + 1
    return [allowed_N] if clusters == 1 else [allowed_N & (snapshot.node_cluster_N == cluster) for cluster in range(clusters)]


def whole_cluster(snapshot: Snapshot) -> Room:
    """The cluster as if nothing ran on it."""
    return Room.of(snapshot, None, np.zeros(len(snapshot.ids), dtype=np.bool_))
