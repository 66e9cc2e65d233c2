"""What gateways report: how much is asked of each endpoint, and how each revision answers. Kept in memory, minutes go to the database."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from narf.control.endpoints.rollout import Answers
from narf.control.endpoints.scaling import Demand
from narf.serving.gateway.table import LATENCY_BOUNDS

_KEEP = timedelta(minutes=30)
_GATEWAY_FORGOTTEN = timedelta(seconds=10)
_LOST = timedelta(seconds=30)


@dataclass(slots=True)
class _Endpoint:
    by_gateway: dict[str, Demand] = field(default_factory=dict)
    history: deque[Demand] = field(default_factory=deque)
    answers: deque[tuple[datetime, str, Answers]] = field(default_factory=deque)
    last_used: datetime | None = None
    slept_at: datetime | None = None
    ejected: dict[str, dict[str, datetime]] = field(default_factory=dict)  # by gateway: replicas that it leaves out, and since when


class DemandBoard:
    def __init__(self) -> None:
        self._endpoints: dict[str, _Endpoint] = {}
        self._lock = threading.Lock()

    def report(self, gateway: str, endpoint_id: str, value: Mapping[str, Any], now: datetime) -> bool:
        """Note one gateway's report. True if somebody waits for a replica."""
        with self._lock:
            board = self._endpoints.setdefault(endpoint_id, _Endpoint())
            board.by_gateway[gateway] = Demand(at=now, concurrency=value["concurrency"], waiting=value["waiting"])
            live = {name: demand for name, demand in board.by_gateway.items() if now - demand.at <= _GATEWAY_FORGOTTEN}
            board.by_gateway = live
            total = Demand(at=now, concurrency=sum(d.concurrency for d in live.values()), waiting=sum(d.waiting for d in live.values()))
            board.history.append(total)
            if value["arrived"] or total.concurrency:
                board.last_used = now
            for revision, answers in value["revisions"].items():
                board.answers.append(
                    (now, revision, Answers(requests=answers["requests"], errors=answers["errors"], histogram=tuple(answers["histogram"])))
                )
            before = board.ejected.get(gateway, {})
            board.ejected = {name: replicas for name, replicas in board.ejected.items() if name in live}
            board.ejected[gateway] = {replica: before.get(replica, now) for replica in value.get("ejected", ())}
            for kept in (board.history, board.answers):
                while kept and now - _time(kept[0]) > _KEEP:
                    kept.popleft()
            return total.waiting > 0

    def history(self, endpoint_id: str) -> list[Demand]:
        with self._lock:
            board = self._endpoints.get(endpoint_id)
            return list(board.history) if board else []

    def last_used(self, endpoint_id: str) -> datetime | None:
        with self._lock:
            board = self._endpoints.get(endpoint_id)
            return board.last_used if board else None

    def put_to_sleep(self, endpoint_id: str, now: datetime) -> None:
        """What was asked until now no longer counts: it needs no replica until the next request."""
        with self._lock:
            self._endpoints.setdefault(endpoint_id, _Endpoint()).slept_at = now

    def slept_at(self, endpoint_id: str) -> datetime | None:
        with self._lock:
            board = self._endpoints.get(endpoint_id)
            return board.slept_at if board else None

    def unreachable(self, endpoint_id: str, now: datetime) -> set[str]:
        """Replicas that a gateway has left out, again and again, for so long that they will not come back."""
        with self._lock:
            board = self._endpoints.get(endpoint_id)
            seen = [pair for replicas in board.ejected.values() for pair in replicas.items()] if board else []
        return {replica for replica, since in seen if now - since >= _LOST}

    def answers(self, endpoint_id: str, revision_id: str, since: datetime) -> Answers:
        """What a revision answered since then."""
        with self._lock:
            board = self._endpoints.get(endpoint_id)
            found = [a for at, revision, a in (board.answers if board else ()) if revision == revision_id and at >= since]
        histogram = [0] * (len(LATENCY_BOUNDS) + 1)
        for one in found:
            histogram = [a + b for a, b in zip(histogram, one.histogram, strict=True)]
        return Answers(requests=sum(a.requests for a in found), errors=sum(a.errors for a in found), histogram=tuple(histogram))

    def forget(self, endpoint_id: str) -> None:
        with self._lock:
            self._endpoints.pop(endpoint_id, None)


def _time(item: Any) -> datetime:
    at: datetime = item.at if isinstance(item, Demand) else item[0]
    return at
