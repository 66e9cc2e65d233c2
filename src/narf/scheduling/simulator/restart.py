"""What it costs to start a job again after a preemption, as the published replays charge it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartCost:
    """Seconds for one GPU, for up to a node, and for more."""

    one: float = 7.0
    node: float = 30.0
    gang: float = 60.0
    node_gpus: int = 8

    def of(self, gpus: float) -> float:
        return self.one if gpus <= 1 else self.node if gpus <= self.node_gpus else self.gang
