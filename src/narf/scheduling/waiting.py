"""Why each workload waits, kept as codes while a plan is made and turned into `Waiting` when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from narf.scheduling.decisions import Plan, Reason, Waiting
from narf.scheduling.shares import Shares
from narf.scheduling.snapshot import WHOLE, Snapshot


@dataclass(frozen=True, slots=True)
class Verdict:
    """Indices, not names. queue and resource: of a limit or quota. available: thousandths that are free."""

    reason: Reason
    queue: int = -1
    resource: int = 0
    blocker: int = -1
    available: int = 0


class WaitingTable(Mapping[str, Waiting]):
    """From workload to the reason of its wait, the next to start first."""

    def __init__(self, snapshot: Snapshot, shares: Shares, waiting: list[int], verdicts: dict[int, Verdict]) -> None:
        self._snapshot, self._shares, self._verdicts, self._waiting = snapshot, shares, verdicts, waiting
        self._position: dict[str, tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions())

    def __getitem__(self, workload: str) -> Waiting:
        w, position = self._positions()[workload]
        snapshot, shares = self._snapshot, self._shares
        verdict = self._verdicts[w]
        amounts = shares.amounts[w]
        r = verdict.resource if verdict.reason is Reason.LIMIT else 0 if amounts[0] else 1
        unit = 1 if r == 2 else WHOLE
        available = verdict.available
        if verdict.reason is Reason.LIMIT:
            available = max(0, shares.limit[verdict.queue][r] - shares.held[verdict.queue][r])
        elif verdict.reason is Reason.OVER_QUOTA:
            available = max(0, shares.quota[verdict.queue][r] - shares.held[verdict.queue][r])
        return Waiting(
            workload=workload,
            reason=verdict.reason,
            position=position,
            resource=shares.resources[r],
            asked=amounts[r] / unit,
            available=available / unit,
            queue=snapshot.queue_names[verdict.queue if verdict.queue >= 0 else snapshot.queue_W[w]],
            blocker=snapshot.ids[verdict.blocker] if verdict.blocker >= 0 else "",
        )

    def reasons(self) -> Iterator[tuple[str, Reason]]:
        """Of each, only the reason: without its operands, which cost far more."""
        return ((self._snapshot.ids[w], self._verdicts[w].reason) for w in self._waiting)

    def _positions(self) -> dict[str, tuple[int, int]]:
        if self._position is None:
            queue_W, ids = self._snapshot.queue_W, self._snapshot.ids
            # Stable: inside a queue in its order, between queues as their shares rank them.
            queue_of = {w: int(queue_W[w]) for w in self._waiting}
            nothing = [0] * len(self._shares.resources)
            ranks = {queue: self._shares.rank(queue, nothing) for queue in set(queue_of.values())}
            ranked = sorted(self._waiting, key=lambda w: ranks[queue_of[w]])
            self._position = {ids[w]: (w, position) for position, w in enumerate(ranked, start=1)}
        return self._position


def reasons_of(answer: Plan) -> Iterator[tuple[str, Reason]]:
    """Of each that waits, only the reason: without its operands, which cost far more."""
    if isinstance(answer.waiting, WaitingTable):
        return answer.waiting.reasons()
    return ((workload, waiting.reason) for workload, waiting in answer.waiting.items())
