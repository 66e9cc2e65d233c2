"""A rollout step by step: hold, go on, promote or roll back. A pure decision over what both revisions answered in this step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum


class Move(StrEnum):
    HOLD = "hold"
    ADVANCE = "advance"
    PROMOTE = "promote"
    ROLL_BACK = "roll_back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """steps: percent of traffic for the new revision, ascending; after the last it gets everything.

    A step lasts until it saw `least_requests` and `least` has passed, or `most` has passed. It fails when errors are
    more frequent than in the old revision by more than `error_margin` (and chance), or the 95th percentile of latency
    is more than `latency_factor` times the old one's plus `latency_slack_ms`.
    """

    steps: tuple[int, ...] = ()
    least_requests: int = 50
    least: timedelta = timedelta(seconds=10)
    most: timedelta = timedelta(minutes=10)
    error_margin: float = 0.02
    latency_factor: float = 2.0
    latency_slack_ms: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a revision answered in this step. histogram: counts under `bounds` (milliseconds), the last above all of them."""

    requests: int = 0
    errors: int = 0
    histogram: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    move: Move
    because: str


def next_move(policy: Policy, step: int, began: datetime, new: Answers, old: Answers, bounds: Sequence[float], now: datetime) -> Verdict:
    """What to do in step number `step` (from 0), which began at `began`."""
    if reason := _worse(policy, new, old, bounds):
        return Verdict(Move.ROLL_BACK, reason)
    lasted = now - began
    seen_enough = new.requests >= policy.least_requests and lasted >= policy.least
    if not seen_enough and lasted < policy.most:
        return Verdict(Move.HOLD, f"{new.requests} of {policy.least_requests} requests seen.")
    shown = f"{new.requests} requests, {new.errors} errors"
    if step + 1 < len(policy.steps):
        return Verdict(Move.ADVANCE, f"{shown}: on to {policy.steps[step + 1]} %.")
    return Verdict(Move.PROMOTE, shown)


def _worse(policy: Policy, new: Answers, old: Answers, bounds: Sequence[float]) -> str:
    if new.errors >= 3:
        rate, before = new.errors / new.requests, old.errors / old.requests if old.requests else 0.0
        # Two standard errors of the old rate: so many more can be chance.
        chance = 2 * math.sqrt(max(before * (1 - before), 1e-9) / new.requests)
        if rate > before + policy.error_margin + chance:
            return f"{rate:.1%} of its requests failed, against {before:.1%} before."
    if new.requests >= 50 and old.requests >= 50:
        slow, before_ms = percentile(new.histogram, bounds, 0.95), percentile(old.histogram, bounds, 0.95)
        if slow > policy.latency_factor * before_ms + policy.latency_slack_ms:
            return f"95 % of its requests took up to {slow:g} ms, against {before_ms:g} ms before."
    return ""


def percentile(histogram: Sequence[int], bounds: Sequence[float], share: float) -> float:
    """The bound under which `share` of the counts fall; infinity when that is above all bounds, 0 for no counts."""
    total = sum(histogram)
    if total == 0:
        return 0.0
    cumulated = 0
    for count, bound in zip(histogram, (*bounds, math.inf), strict=True):
        cumulated += count
        if cumulated >= share * total:
            return bound
    return math.inf
