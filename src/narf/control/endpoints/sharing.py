"""Which models share a process: pure decisions.

Small models of one project are put together, as many as fit. What happens in a process happens to all in it, and which of them it was
is not known: when it ends by itself, or has to be replaced, each of them is served apart for a while, so that one that does it again
does it alone. That one then stays apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MOST_MODELS = 32  # in one process
MOST_PACKAGE_BYTES = 256 << 20  # more is not small
SUSPECTED = timedelta(minutes=10)  # it was in a process that ended: apart for so long
PROVEN = timedelta(days=7)  # its own process ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A shared process. revisions: what it holds, also what it is about to take in or let go of. takes_more: it is not about to end."""

    workload_id: str
    project: str
    revisions: tuple[str, ...]
    takes_more: bool = True


def choose_host(hosts: Sequence[Host], project: str, revision: str) -> str | None:
    """The process that takes in `revision`, the fullest first; None: a new one. Two replicas of a revision never share one."""
    fitting = [
        host
        for host in hosts
        if host.project == project and host.takes_more and revision not in host.revisions and len(host.revisions) < MOST_MODELS
    ]
    return max(fitting, key=lambda host: (len(host.revisions), host.workload_id)).workload_id if fitting else None


def apart_until(before: datetime | None, now: datetime, *, was_shared: bool) -> datetime:
    """Until when a revision whose process has ended by itself is served apart. Never sooner than was said before."""
    until = now + (SUSPECTED if was_shared else PROVEN)
    return until if before is None else max(before, until)


def must_be_apart(*, platforms_environment: bool, size_bytes: int, apart_until: datetime | None, now: datetime) -> bool:
    """Whether this revision gets a process of its own although its endpoint shares."""
    suspected = apart_until is not None and now < apart_until
    return suspected or not platforms_environment or size_bytes > MOST_PACKAGE_BYTES
