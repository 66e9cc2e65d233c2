"""What may be deleted, decided from what is there: pure, so that a wrong deletion can be ruled out by a test.

A thing goes when it has not been needed for as long as its kind is kept, and the longest unneeded go first when a kind has
outgrown its quota. What is held (it runs, or has not been delivered yet) stays, whatever the quota says.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from narf.domain.errors import BadInput

_WARN_FROM = 0.8  # of a quota
_UNITS = {"Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}
_PERIODS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


class Kind(StrEnum):
    """The parts of what the platform keeps, each a folder of its home."""

    JOBS = "jobs"  # folders of ended jobs: their output, working copy and delivered spool
    CHECKPOINTS = "checkpoints"  # of ended workloads
    ENVIRONMENTS = "environments"  # built again when they are asked for again
    OBJECTS = "objects"  # code snapshots that no workload refers to
    ARTIFACTS = "artifacts"  # never deleted here: they are the users' results; only measured and warned of


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long a kind is kept after it was last needed, and how many bytes it may take (0: as many as there are)."""

    period: timedelta | None = None  # None: for ever
    quota_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What is kept how long, and below which free space people are warned."""

    keep: Mapping[Kind, Keep] = field(
        default_factory=lambda: {
            Kind.JOBS: Keep(period=timedelta(days=30)),
            Kind.CHECKPOINTS: Keep(period=timedelta(days=14)),
            Kind.ENVIRONMENTS: Keep(period=timedelta(days=30)),
            Kind.OBJECTS: Keep(period=timedelta(days=2)),  # a young one may belong to a submission under way
            Kind.ARTIFACTS: Keep(),
        }
    )
    least_free_bytes: int = 5 << 30
    least_free_share: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One thing on the disk. `held` says why it may not go, "" when it may."""

    kind: Kind
    id: str
    size_bytes: int
    needed_at: datetime
    held: str = ""


def to_delete(things: Sequence[Kept], policy: RetentionPolicy, now: datetime) -> list[Kept]:
    """Those of `things` that the policy no longer keeps, the longest unneeded first."""
    chosen = []
    for kind, of_kind in _by_kind(things).items():
        keep = policy.keep.get(kind, Keep())
        left = sum(thing.size_bytes for thing in of_kind)
        for thing in sorted(of_kind, key=lambda thing: (thing.needed_at, thing.id)):
            too_old = keep.period is not None and now - thing.needed_at > keep.period
            too_much = 0 < keep.quota_bytes < left
            if kind is not Kind.ARTIFACTS and not thing.held and (too_old or too_much):
                chosen.append(thing)
                left -= thing.size_bytes
    return chosen


def warnings(use: Mapping[str, int], policy: RetentionPolicy, *, free_bytes: int, total_bytes: int, where: str) -> list[str]:
    """What will hurt soon, a sentence each. `use`: bytes by kind."""
    said = []
    if free_bytes < policy.least_free_bytes or free_bytes < total_bytes * policy.least_free_share:
        said.append(f"Only {free_bytes / 1e9:.1f} GB are free below {where}. Free some: narf gc")
    for kind, keep in policy.keep.items():
        used = use.get(kind.value, 0)
        if keep.quota_bytes and used > _WARN_FROM * keep.quota_bytes:
            remedy = "Delete runs that nobody needs, or raise it" if kind is Kind.ARTIFACTS else "Free some: narf gc; or raise it"
            amounts = f"{used / (1 << 30):.1f} of the {keep.quota_bytes / (1 << 30):.1f} GiB"
            said.append(f"{kind.value.capitalize()} take {amounts} that they may. {remedy} in NARF_RETENTION.")
    return said


def parse_policy(text: str) -> RetentionPolicy:
    """The policy written as "jobs=30d/50Gi, checkpoints=14d, artifacts=/500Gi"; what is not named keeps its default.

    Raises:
        BadInput: an unknown kind, or no period or size.
    """
    keep = dict(RetentionPolicy().keep)
    for part in (part.strip() for part in text.split(",")):
        if not part:
            continue
        name, _, value = part.partition("=")
        match = re.fullmatch(r"(?:(\d+)([hdw])|ever)?(?:/(\d+(?:\.\d+)?)(Mi|Gi|Ti))?", value.strip())
        if name.strip() not in {kind.value for kind in Kind} or not match or not value.strip():
            raise BadInput(
                f"NARF_RETENTION has {part[:60]!r}, which is no retention policy.",
                remedy=f"Write jobs=30d/50Gi: a period (h, d, w, or ever) and a quota (Mi, Gi, Ti) of one of {', '.join(Kind)}.",
            )
        kind, (number, unit, amount, size) = Kind(name.strip()), match.groups()
        period = int(number) * _PERIODS[unit] if number else None if value.strip().startswith("ever") else keep[kind].period
        keep[kind] = Keep(period=period, quota_bytes=int(float(amount) * _UNITS[size]) if amount else 0)
    return RetentionPolicy(keep=keep)


def _by_kind(things: Iterable[Kept]) -> dict[Kind, list[Kept]]:
    found: dict[Kind, list[Kept]] = defaultdict(list)
    for thing in things:
        found[thing.kind].append(thing)
    return found
