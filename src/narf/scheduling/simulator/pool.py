"""Pool: whole GPUs on equal nodes, for the baselines. Up to a node's size on the fullest node that fits; more takes whole
free nodes and, for what remains, the most free one.
"""

from __future__ import annotations

Where = tuple[tuple[int, int], ...]  # (node, GPUs)


class Pool:
    """Free GPUs, with the nodes of each free count as bits of one number, so that finding one is a few operations."""

    def __init__(self, nodes: int, gpus: int) -> None:
        self.nodes, self.size = nodes, gpus
        self.free = [gpus] * nodes
        self.free_total = nodes * gpus
        self._with: list[int] = [0] * gpus + [(1 << nodes) - 1]

    def place(self, gpus: int) -> Where | None:
        """Takes `gpus` and says where; None, and nothing is taken, when they do not fit."""
        if gpus <= self.size:
            node = self._fullest(max(gpus, 0))
            if node < 0:
                return None
            where: Where = ((node, gpus),)
        else:
            whole, rest = divmod(gpus, self.size)
            empty = self._with[self.size]
            if empty.bit_count() < whole:
                return None
            taken = []
            for _ in range(whole):
                lowest = empty & -empty
                taken.append((lowest.bit_length() - 1, self.size))
                empty ^= lowest
            if rest:
                node = self._freest(rest, {node for node, _ in taken})
                if node < 0:
                    return None
                taken.append((node, rest))
            where = tuple(taken)
        for node, count in where:
            self._move(node, -count)
        return where

    def give_back(self, where: Where) -> None:
        for node, count in where:
            self._move(node, count)

    def could_ever(self, gpus: int) -> bool:
        return gpus <= self.nodes * self.size

    def _fullest(self, gpus: int) -> int:
        for count in range(gpus, self.size + 1):
            if self._with[count]:
                mask = self._with[count]
                return (mask & -mask).bit_length() - 1
        return -1

    def _freest(self, gpus: int, excluded: set[int]) -> int:
        best = -1
        for node, free in enumerate(self.free):
            if free >= gpus and node not in excluded and (best < 0 or free > self.free[best]):
                best = node
        return best

    def _move(self, node: int, change: int) -> None:
        old = self.free[node]
        self.free[node] = old + change
        self.free_total += change
        self._with[old] ^= 1 << node
        self._with[old + change] |= 1 << node
