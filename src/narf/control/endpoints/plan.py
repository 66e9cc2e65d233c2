"""What an endpoint needs done now: which replicas to start and stop, and where its traffic goes. A pure decision."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from narf.control.endpoints.scaling import shares


class Role(StrEnum):
    """What a revision is to its endpoint."""

    NEW = "new"  # starts; takes traffic once it is ready
    ACTIVE = "active"  # has the traffic
    RETIRED = "retired"  # had it, or was rolled back
    FAILED = "failed"  # never became ready, or was judged bad


class ReplicaState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    LEAVING = "leaving"  # answers until its successor does: it cannot go on for long
    DRAINING = "draining"  # out of the table; stopped after a moment, when gateways know
    ENDED = "ended"

    @property
    def answers(self) -> bool:
        """Whether it is in the table."""
        return self in (ReplicaState.READY, ReplicaState.LEAVING)


DRAIN = timedelta(seconds=1.5)
WARM = timedelta(minutes=2)  # so long after losing its traffic a revision keeps a replica in any case
WARM_WITH_ROOM = timedelta(hours=1)  # and so long while nobody waits for room, if that replica has no GPU
MOST_FAILURES = 3  # replicas of a revision that end before they are ready


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    id: str
    revision: str
    state: ReplicaState
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """weight: percent of traffic. failures: replicas that ended before they were ready, in a row."""

    id: str
    number: int
    role: Role
    weight: float
    failures: int = 0
    last_failure: datetime | None = None
    retired_at: datetime | None = None  # when a newer one took its traffic; None: none did


@dataclass(frozen=True, slots=True)
class Start:
    revision: str


@dataclass(frozen=True, slots=True)
class Drain:
    replica: str


@dataclass(frozen=True, slots=True)
class Stop:
    replica: str


Action = Start | Drain | Stop


def warm_revisions(
    revisions: Sequence[Revision], now: datetime, *, has_gpu: bool, crowded: bool, cooled_at: datetime | None = None
) -> frozenset[str]:
    """Those that keep a replica, so that going back to them takes no start.

    Args:
        crowded: a workload waits for room. cooled_at: when a replica needed the room of all that were kept.
    """
    long = WARM if has_gpu or crowded else WARM_WITH_ROOM
    return frozenset(
        r.id
        for r in revisions
        if r.role is Role.RETIRED
        and r.retired_at is not None
        and now - r.retired_at < long
        and (cooled_at is None or r.retired_at > cooled_at)
    )


def replica_actions(
    revisions: Sequence[Revision],
    replicas: Sequence[Replica],
    wanted: int,
    now: datetime,
    *,
    for_new: int = 1,
    warm: Set[str] = frozenset(),
) -> list[Action]:
    """Bring the replicas of each revision to their share of `wanted`. for_new: what a new revision gets before it has traffic.
    warm: retired revisions that keep one of their ready replicas, so that going back to them takes no start.

    A new revision has its share beside the old ones until it takes over; an active one keeps a ready replica in the table
    until another has one, so that traffic always has somewhere to go. One that leaves counts as gone, and goes on answering
    until as many others are ready. Failing revisions are tried again more and more slowly.
    """
    actions: list[Action] = []
    split = dict(zip((r.id for r in revisions), _split(revisions, wanted, for_new), strict=True))
    someone_ready = {replica.revision for replica in replicas if replica.state.answers}
    takes_traffic = {revision.id for revision in revisions if revision.role is Role.ACTIVE}
    for revision in revisions:
        mine = [replica for replica in replicas if replica.revision == revision.id]
        live = [replica for replica in mine if replica.state in (ReplicaState.STARTING, ReplicaState.READY)]
        leaving = sorted(
            (replica for replica in mine if replica.state is ReplicaState.LEAVING), key=lambda replica: replica.since, reverse=True
        )
        want = split[revision.id]
        still_needed = want - sum(replica.state is ReplicaState.READY for replica in mine)  # of those that leave
        if revision.role in (Role.RETIRED, Role.FAILED) and takes_traffic and not (takes_traffic & someone_ready) and wanted > 0:
            want, still_needed = len(live), len(leaving)  # nobody else can answer yet
        elif revision.id in warm and revision.role is Role.RETIRED and wanted > 0:
            want, still_needed = min(1, sum(replica.state is ReplicaState.READY for replica in live)), 0
        if len(live) < want and _may_start(revision, now):
            actions += [Start(revision.id)] * (want - len(live))
        elif len(live) > want:
            order = sorted(live, key=lambda replica: (replica.state is ReplicaState.READY, replica.since), reverse=False)
            actions += [Drain(replica.id) for replica in order[: len(live) - want]]
        actions += [Drain(replica.id) for replica in leaving[max(0, still_needed) :]]
        actions += [Stop(replica.id) for replica in mine if replica.state is ReplicaState.DRAINING and now - replica.since >= DRAIN]
    return actions


def _split(revisions: Sequence[Revision], wanted: int, for_new: int) -> list[int]:
    """Replicas by weight for those with traffic; a new revision gets at least one, to prove itself before it has any."""
    split = shares(wanted, [revision.weight if revision.role in (Role.ACTIVE, Role.NEW) else 0.0 for revision in revisions])
    return [max(count, for_new) if revision.role is Role.NEW else count for revision, count in zip(revisions, split, strict=True)]


def _may_start(revision: Revision, now: datetime) -> bool:
    if revision.failures == 0 or revision.last_failure is None:
        return True
    return now - revision.last_failure >= timedelta(seconds=min(60.0, 0.5 * 2.0**revision.failures))
