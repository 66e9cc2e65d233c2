"""Room: what is free on each node and GPU while a plan is being made, and how a gang is laid into it."""

from __future__ import annotations

import numpy as np

from narf.scheduling.requests import Placed
from narf.scheduling.snapshot import WHOLE, Bools, Ints, Snapshot

Laid = list[tuple[int, tuple[int, ...]]]  # for each replica: node, GPU indices


class Room:
    """Free capacity, taken and given back in place. One is made for each plan."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        nodes = len(snapshot.node_names)
        most = int(snapshot.node_gpus_N.max(initial=0))
        self.cpu_N = snapshot.node_cpu_N.copy()
        self.memory_N = snapshot.node_memory_N.copy()
        self.gpu_NG: Ints = np.where(np.arange(most) < snapshot.node_gpus_N[:, None], WHOLE, 0)
        placed_w, placed_n = snapshot.placed_workload_A, snapshot.placed_node_A
        np.subtract.at(self.cpu_N, placed_n, snapshot.cpu_W[placed_w])
        np.subtract.at(self.memory_N, placed_n, snapshot.memory_W[placed_w])
        np.subtract.at(self.gpu_NG, (snapshot.slice_node_G, snapshot.slice_gpu_G), snapshot.slice_amount_G)
        self.whole_N: Ints = (self.gpu_NG == WHOLE).sum(axis=1).reshape(nodes)

    def lay(self, workload: int, allowed_N: Bools) -> Laid | None:
        """Where the whole gang of `workload` fits best among `allowed_N`; None: nowhere. Takes nothing."""
        snapshot = self.snapshot
        gpu, replicas = int(snapshot.gpu_W[workload]), int(snapshot.replicas_W[workload])
        cpu, memory = int(snapshot.cpu_W[workload]), int(snapshot.memory_W[workload])
        fits_N = self._replicas_that_fit(gpu, cpu, memory, allowed_N)
        if gpu % WHOLE:
            fits_N = np.minimum(fits_N, (self.gpu_NG >= gpu).sum(axis=1))
        if int(np.minimum(fits_N, replicas).sum()) < replicas:
            return None
        laid: Laid = []
        counts: list[tuple[int, int]] = []
        remaining = replicas
        while remaining:  # a node for all that remain, the fullest such; else the node that takes most
            enough = np.flatnonzero(fits_N >= remaining)
            if len(enough):
                node = int(enough[np.argmin(self._free_gpus(enough))])
                taken = remaining
            else:
                node = int(np.argmax(fits_N))
                taken = int(fits_N[node])
            counts.append((node, taken))
            remaining -= taken
            fits_N[node] = 0
        for node, taken in counts:
            laid.extend(self._gpus_on(node, gpu, taken))
        return laid

    def take(self, workload: int, laid: Laid, sign: int = 1) -> None:
        """Take what `lay` found; with `sign` -1 give it back."""
        snapshot = self.snapshot
        gpu = int(snapshot.gpu_W[workload])
        amount = gpu if gpu < WHOLE else WHOLE
        for node, gpus in laid:
            self.cpu_N[node] -= sign * snapshot.cpu_W[workload]
            self.memory_N[node] -= sign * snapshot.memory_W[workload]
            for index in gpus:
                self.gpu_NG[node, index] -= sign * amount
            self.whole_N[node] = int((self.gpu_NG[node] == WHOLE).sum())

    def _replicas_that_fit(self, gpu: int, cpu: int, memory: int, allowed_N: Bools) -> Ints:
        fits_N = np.where(allowed_N & self.snapshot.schedulable_N, 1 << 30, 0)
        if gpu >= WHOLE:
            fits_N = np.minimum(fits_N, self.whole_N // (gpu // WHOLE))
        if cpu:
            fits_N = np.minimum(fits_N, np.maximum(self.cpu_N, 0) // cpu)
        if memory:
            fits_N = np.minimum(fits_N, np.maximum(self.memory_N, 0) // memory)
        return fits_N

    def _free_gpus(self, nodes: Ints) -> Ints:
        free: Ints = self.gpu_NG[nodes].sum(axis=1) * 4096 + self.cpu_N[nodes] // WHOLE
        return free

    def _gpus_on(self, node: int, gpu: int, replicas: int) -> Laid:
        if gpu == 0:
            return [(node, ())] * replicas
        row = self.gpu_NG[node]
        if gpu >= WHOLE:
            each = gpu // WHOLE
            whole = [int(index) for index in np.flatnonzero(row == WHOLE)]
            return [(node, tuple(whole[r * each : (r + 1) * each])) for r in range(replicas)]
        fitting = [int(index) for index in np.argsort(row, kind="stable") if row[index] >= gpu]
        return [(node, (index,)) for index in fitting[:replicas]]

    def placed(self, workload: int, laid: Laid) -> tuple[Placed, ...]:
        gpu = int(self.snapshot.gpu_W[workload])
        fraction = gpu / WHOLE if gpu < WHOLE else 0.0
        return tuple(Placed(node=self.snapshot.node_names[node], gpu_indices=gpus, gpu_fraction=fraction) for node, gpus in laid)
