"""How many replicas an endpoint needs: a pure decision over what was asked of it lately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

STABLE = timedelta(seconds=30)  # a peak counts for this long, so that a pause between two bursts takes nothing away

REST = timedelta(seconds=5)  # without a request for so long, an endpoint may be put to sleep for another that needs its room


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """target: requests at once that one replica is meant to have. idle: without a request for this long, down to `least`."""

    least: int = 0
    most: int = 1
    target: float = 16.0
    idle: timedelta = timedelta(minutes=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What gateways saw in one report interval. waiting: requests held for want of a replica."""

    at: datetime
    concurrency: int
    waiting: int = 0


def wanted_replicas(history: Sequence[Demand], limits: Limits, now: datetime, *, last_used: datetime | None) -> int:
    """The number of replicas to have. last_used: the last request ever, or the deployment.

    At once up, slowly down; one as soon as anybody waits; none after `idle` without a request, where `least` allows it.
    """
    if limits.most == 0:
        return 0
    recent = [demand for demand in history if now - demand.at <= STABLE]
    peak = max((demand.concurrency + demand.waiting for demand in recent), default=0)
    wanted = math.ceil(peak / limits.target)
    if last_used is not None and now - last_used < limits.idle:
        wanted = max(wanted, 1)
    return min(max(wanted, limits.least), limits.most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Idler:
    """An endpoint that may sleep, what one replica of it holds, and when it was last used."""

    endpoint: str
    project: str
    cpu: float
    memory_bytes: int
    gpu: float
    last_used: datetime


def who_sleeps(idlers: Sequence[Idler], project: str, resource: str, now: datetime, *, in_project: bool) -> Idler | None:
    """Whose replicas go now, so that a replica of `project`, which waits for `resource`, finds room. None: nobody rests long enough.

    resource: "gpu", "gpu:<flavor>", "cpu" or "memory"; only who holds some of it helps. in_project: it waits for a limit of its project,
    so that only the project's own can make room. The project's own go first, then who was not used for the longest.
    """
    kind = resource.partition(":")[0]
    helping = [
        idler
        for idler in idlers
        if now - idler.last_used >= REST
        and (idler.project == project or not in_project)
        and {"gpu": idler.gpu, "memory": idler.memory_bytes}.get(kind, idler.cpu) > 0
    ]
    return min(helping, key=lambda idler: (idler.project != project, idler.last_used, idler.endpoint), default=None)


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` replicas split over revisions by their weight: at least one for each that has any, the rest to the largest remainders."""
    carrying = [index for index, weight in enumerate(weights) if weight > 0]
    split = [0] * len(weights)
    if total <= 0 or not carrying:
        return split
    for index in carrying:
        split[index] = 1
    left = total - len(carrying)
    whole = sum(weights[index] for index in carrying)
    if left <= 0:
        return split
    exact = {index: max(0.0, total * weights[index] / whole - 1) for index in carrying}
    scale = left / (sum(exact.values()) or 1.0)
    given = {index: math.floor(value * scale) for index, value in exact.items()}
    rest = left - sum(given.values())
    for index in sorted(carrying, key=lambda i: (given[i] - exact[i] * scale, i))[:rest]:
        given[index] += 1
    for index in carrying:
        split[index] += given[index]
    return split
