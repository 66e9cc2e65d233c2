"""Fragmentation: how much free GPU the usual workloads cannot use, after Weng et al., "Beware of Fragmentation" (ATC 2023).

The mix of usual workloads is that of the snapshot itself: what runs and what waits.

A fragment knows only the next workload: a node with one CPU more than that asks for counts as usable with all its GPUs. So what many
of the mix would find beside it is counted too: the GPUs of a node that will be left when its CPU or memory is used up (`shortage`).

Letters: N nodes, G GPUs of a node, M kinds of usual workload, C candidates (a GPU of a node).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from narf.scheduling.snapshot import WHOLE, Floats, Ints, Snapshot

MOST_KINDS = 64  # the rarest kinds change nothing that could be seen
SPREAD, SPREAD_LEAST = 0.5, 100_000.0  # how far what comes is from the mean, as a part of the root of the GPUs it fills


@dataclass(frozen=True, slots=True, eq=False)
class Mix:
    gpu_M: Ints
    cpu_M: Ints
    memory_M: Ints
    part_M: Floats
    cpu_per_gpu: float
    memory_per_gpu: float

    @property
    def has_fractions(self) -> bool:
        return bool(((self.gpu_M % WHOLE) > 0).any())


def mix_of(snapshot: Snapshot) -> Mix:
    """The commonest kinds of replica in `snapshot`, and their parts."""
    # Memory is left out: it is seldom what makes a GPU unusable, and it would split what is alike into many rare kinds.
    table = np.stack([snapshot.gpu_W, snapshot.cpu_W, np.zeros_like(snapshot.memory_W)], axis=1)
    kinds, counts = np.unique(table, axis=0, return_counts=True)
    commonest = np.argsort(-counts, kind="stable")[:MOST_KINDS]
    part_M = counts[commonest] / max(1, counts[commonest].sum())
    with_gpu_W = snapshot.gpu_W > 0
    gpus = max(1, int(snapshot.gpu_W[with_gpu_W].sum()))
    cpu, memory = float(snapshot.cpu_W[with_gpu_W].sum()) / gpus, float(snapshot.memory_W[with_gpu_W].sum()) / gpus
    return Mix(kinds[commonest, 0], kinds[commonest, 1], kinds[commonest, 2], part_M, cpu, memory)


def fragment(mix: Mix, gpu_XG: Ints, cpu_X: Ints, memory_X: Ints) -> Floats:
    """For each of X node states: the thousandths of free GPU that a workload drawn from `mix` is expected not to use."""
    free_XG = np.maximum(gpu_XG, 0)
    total_X = free_XG.sum(axis=1).astype(np.float64)
    whole_X = (free_XG == WHOLE).sum(axis=1)
    expected_X: Floats = np.zeros(len(total_X))
    for gpu, cpu, memory, part in zip(mix.gpu_M, mix.cpu_M, mix.memory_M, mix.part_M, strict=True):
        if gpu == 0:
            expected_X += part * total_X
            continue
        usable_XG = free_XG >= min(gpu, WHOLE)
        enough_X = whole_X * WHOLE >= gpu if gpu >= WHOLE else usable_XG.any(axis=1)
        enough_X = enough_X & (cpu_X >= cpu) & (memory_X >= memory)
        unusable_X = np.where(usable_XG, 0, free_XG).sum(axis=1)
        expected_X += part * np.where(enough_X, unusable_X, total_X)
    return expected_X


def shortage(mix: Mix, gpu_XG: Ints, cpu_X: Ints, memory_X: Ints) -> Floats:
    """For each of X node states: the thousandths of free GPU that are expected to be left without CPU or memory, if what comes is like
    `mix` in the mean. What comes is drawn, so a little is expected also where there is just enough."""
    free_X = np.maximum(gpu_XG, 0).sum(axis=1).astype(np.float64)
    fed_X = np.full(len(free_X), np.inf)
    for left_X, per_gpu in ((cpu_X, mix.cpu_per_gpu), (memory_X, mix.memory_per_gpu)):
        if per_gpu > 0:
            fed_X = np.minimum(fed_X, left_X / per_gpu)
    spread_X = SPREAD * np.sqrt(free_X * WHOLE + SPREAD_LEAST)
    expected_X: Floats = spread_X * np.logaddexp(0.0, (free_X - fed_X) / spread_X)
    return expected_X


class Fragmentation:
    """Answers "which GPU of which node" for one kind of replica after another, remembering what has not changed.

    short: how much `shortage` counts beside the fragment.
    """

    def __init__(self, mix: Mix, short: float) -> None:
        self.mix, self.short = mix, short
        self._seen: dict[tuple[int, int, int], tuple[Floats, Ints]] = {}
        self._stale: dict[tuple[int, int, int], set[int]] = {}

    def changed(self, node: int) -> None:
        for stale in self._stale.values():
            stale.add(node)

    def increase(self, kind: tuple[int, int, int], gpu_NG: Ints, cpu_N: Ints, memory_N: Ints) -> tuple[Floats, Ints]:
        """For each node the least increase of what it wastes by one replica of `kind`, and the GPU that gives it (of a
        fraction). Nodes where it does not fit have infinity."""
        if kind not in self._seen:
            nodes = np.arange(len(cpu_N))
            self._seen[kind] = self._increase(kind, gpu_NG, cpu_N, memory_N)
            self._stale[kind] = set()
        elif self._stale[kind]:
            nodes = np.array(sorted(self._stale[kind]))
            scores, gpus = self._increase(kind, gpu_NG[nodes], cpu_N[nodes], memory_N[nodes])
            self._seen[kind][0][nodes], self._seen[kind][1][nodes] = scores, gpus
            self._stale[kind].clear()
        return self._seen[kind]

    def _increase(self, kind: tuple[int, int, int], gpu_NG: Ints, cpu_N: Ints, memory_N: Ints) -> tuple[Floats, Ints]:
        gpu, cpu, memory = kind
        best_N, gpu_N = np.full(len(cpu_N), np.inf), np.full(len(cpu_N), -1, dtype=np.int64)
        fits_N = (cpu_N >= cpu) & (memory_N >= memory)
        before_N = self._wasted(gpu_NG, cpu_N, memory_N)
        if gpu % WHOLE == 0:
            taken_NG = _without_whole(gpu_NG, gpu // WHOLE)
            fits_N &= (gpu_NG == WHOLE).sum(axis=1) * WHOLE >= gpu
            after_N = self._wasted(taken_NG, cpu_N - cpu, memory_N - memory)
            best_N[fits_N] = (after_N - before_N)[fits_N]
            return best_N, gpu_N
        nodes_C, gpus_C = np.nonzero(_first_of_each_amount((gpu_NG >= gpu) & fits_N[:, None], gpu_NG))
        taken_CG = gpu_NG[nodes_C].copy()
        taken_CG[np.arange(len(nodes_C)), gpus_C] -= gpu
        rise_C = self._wasted(taken_CG, cpu_N[nodes_C] - cpu, memory_N[nodes_C] - memory) - before_N[nodes_C]
        for c in np.lexsort((gpus_C, rise_C))[::-1]:  # the best is written last
            best_N[nodes_C[c]], gpu_N[nodes_C[c]] = rise_C[c], gpus_C[c]
        return best_N, gpu_N

    def _wasted(self, gpu_XG: Ints, cpu_X: Ints, memory_X: Ints) -> Floats:
        wasted_X = fragment(self.mix, gpu_XG, cpu_X, memory_X)
        if self.short:
            wasted_X += self.short * shortage(self.mix, gpu_XG, cpu_X, memory_X)
        return wasted_X


def _without_whole(gpu_NG: Ints, count: int) -> Ints:
    """`gpu_NG` after the first `count` whole GPUs of each node are taken."""
    whole_NG = gpu_NG == WHOLE
    taken_NG = whole_NG & (np.cumsum(whole_NG, axis=1) <= count)
    return np.where(taken_NG, 0, gpu_NG)


def _first_of_each_amount(candidate_NG: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], gpu_NG: Ints) -> Ints:
    """Of GPUs with the same amount free on one node, only the first: the others would give the same answer."""
    kept = candidate_NG.copy()
    for g in range(1, gpu_NG.shape[1]):
        kept[:, g] &= ~((gpu_NG[:, :g] == gpu_NG[:, g : g + 1]) & candidate_NG[:, :g]).any(axis=1)
    return kept.astype(np.int64)
