"""What `plan` answers: decisions to carry out, and a reason for everything that keeps waiting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from narf.scheduling.requests import Placed


class Reason(StrEnum):
    """Why a workload waits. Operands are in `Waiting`; `narf.scheduling.explanation` has the sentences."""

    NEVER_FITS = "never_fits"  # no node, however empty, is large enough, or too few of them
    NO_NODE_MATCHES = "no_node_matches"  # no usable node has the flavor and labels asked for
    LIMIT = "limit"  # the queue, or one above it, holds as much as it may
    OVER_QUOTA = "over_quota"  # not preemptible, so it may not borrow, and its quota is in use
    NO_CAPACITY = "no_capacity"  # too little is free
    FRAGMENTED = "fragmented"  # enough is free, but not together
    RESERVED = "reserved"  # what is free is kept for one that waits longer, and this one would be in its way
    STOPPING = "stopping"  # what it needs is being freed for it


class PreemptReason(StrEnum):
    QUOTA = "quota"  # another queue takes back what it is guaranteed
    SHARE = "share"  # another queue is further below its fair share
    PRIORITY = "priority"  # a more important workload of the same queue
    SERVICE = "service"  # one of the same queue that has run far less
    STARVED = "starved"  # one that has waited past the bound
    ROOM = "room"  # it goes on elsewhere, so that one that needs its room together can start


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit:
    """Start it there, all replicas at once."""

    workload: str
    placed: tuple[Placed, ...]
    borrowed: bool = False  # beyond its queue's quota


@dataclass(frozen=True, slots=True, kw_only=True)
class Preempt:
    """Ask it to leave. `beneficiary` has a `Hold` on what it frees. moves_to: what is kept for it elsewhere, when it only moves."""

    workload: str
    beneficiary: str
    reason: PreemptReason
    lost_seconds: float  # work since its last checkpoint, over all its GPUs
    moves_to: tuple[Placed, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Keep this capacity for a waiting workload until those that are leaving have left, or for one that moves until it has.

    Store it with the workload (as `Preempt.moves_to`) and give it back in the next snapshot: as `Request.placed` of a PENDING
    request, as `Request.moves_to` of one that still is STOPPING. A workload without a `Hold` in the newest plan has none.
    """

    workload: str
    placed: tuple[Placed, ...]


Decision = Admit | Preempt | Hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """Why one workload waits: the binding constraint with its operands.

    position: 1 is the next of all that wait. resource: "gpu", "gpu:<flavor>", "cpu" or "memory". asked, available: of it, in
    all. queue: whose limit or quota binds. blocker: the workload that it waits for (RESERVED).
    """

    workload: str
    reason: Reason
    position: int
    resource: str = "gpu"
    asked: float = 0.0
    available: float = 0.0
    queue: str = ""
    blocker: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All decisions of one pass, in the order in which they were made."""

    decisions: tuple[Decision, ...]
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    never_fit: tuple[str, ...] = ()  # of the waiting those that could not start on an empty cluster either

    @property
    def admits(self) -> list[Admit]:
        return [decision for decision in self.decisions if isinstance(decision, Admit)]

    @property
    def preempts(self) -> list[Preempt]:
        return [decision for decision in self.decisions if isinstance(decision, Preempt)]

    @property
    def holds(self) -> list[Hold]:
        return [decision for decision in self.decisions if isinstance(decision, Hold)]

    @property
    def is_empty(self) -> bool:
        return not any(isinstance(decision, Admit | Preempt) for decision in self.decisions)
