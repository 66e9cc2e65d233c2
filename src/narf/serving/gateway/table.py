"""The routing table: what the control plane says of endpoints, revisions and replicas, and what the gateway knows of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from narf.serving.gateway.balance import Health, RetryBudget
from narf.serving.gateway.payloads import KeepPolicy, keep_policy
from narf.serving.gateway.upstream import Upstream

LATENCY_BOUNDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)


@dataclass(slots=True, eq=False)
class Replica:
    id: str
    url: str
    upstream: Upstream
    health: Health = field(default_factory=Health)
    in_flight: int = 0
    prefix: bytes = b""  # of its paths, where it shares a process with others


@dataclass(slots=True)
class Traffic:
    """What a revision answered since the last report, and in all."""

    requests: int = 0
    errors: int = 0  # the platform's or the model's fault: 5xx and no answer
    rejected: int = 0  # 429
    histogram: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS) + 1))
    seconds: float = 0.0

    def take(self) -> dict[str, Any]:
        taken = {
            "requests": self.requests,
            "errors": self.errors,
            "rejected": self.rejected,
            "histogram": self.histogram,
            "seconds": self.seconds,
        }
        self.requests = self.errors = self.rejected = 0
        self.seconds = 0.0
        self.histogram = [0] * (len(LATENCY_BOUNDS) + 1)
        return taken


@dataclass(slots=True, eq=False)
class Revision:
    id: str
    number: int
    model: str
    version: str
    weight: float
    replicas: list[Replica] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    total: Traffic = field(default_factory=Traffic)


@dataclass(slots=True, eq=False)
class Endpoint:
    id: str
    name: str
    project: str
    max_replicas: int
    timeout_seconds: float
    is_public: bool = False
    keep: KeepPolicy | None = None  # None: no payloads
    revisions: list[Revision] = field(default_factory=list)
    budget: RetryBudget = field(default_factory=RetryBudget)
    in_flight: int = 0
    peak: int = 0  # the most at once since the last report
    arrived: int = 0
    held: deque[Any] = field(default_factory=deque)
    trouble: str = ""  # why it cannot start, when it cannot


class Table:
    """Updated whole; replicas that stay keep their connections and their health."""

    def __init__(self) -> None:
        self.endpoints: dict[bytes, Endpoint] = {}
        self.removed: list[Endpoint] = []  # by the last update
        self.version = ""

    def update(self, value: Mapping[str, Any]) -> None:
        known: dict[str, Replica] = {
            replica.id + replica.url: replica for endpoint in self.endpoints.values() for r in endpoint.revisions for replica in r.replicas
        }
        revisions = {revision.id: revision for endpoint in self.endpoints.values() for revision in endpoint.revisions}
        old = {endpoint.id: endpoint for endpoint in self.endpoints.values()}
        table: dict[bytes, Endpoint] = {}
        for item in value["endpoints"]:
            endpoint = old.get(item["id"]) or Endpoint(item["id"], item["name"], item["project"], 1, 30.0)
            endpoint.max_replicas, endpoint.timeout_seconds = int(item["max_replicas"]), float(item["timeout_seconds"])
            endpoint.name, endpoint.trouble = item["name"], str(item.get("trouble", ""))
            endpoint.keep = keep_policy(item.get("keep"))
            endpoint.is_public = bool(item.get("public", False))
            fresh = []
            for part in item["revisions"]:
                revision = revisions.get(part["id"]) or Revision(part["id"], int(part["number"]), part["model"], part["version"], 0.0)
                revision.weight = float(part["weight"])
                revision.replicas = [_kept(known, r["id"], r["url"]) for r in part["replicas"]]
                fresh.append(revision)
            endpoint.revisions = fresh
            table[item["name"].encode()] = endpoint
        for gone in known.values():
            gone.upstream.close()
        left = {endpoint.id for endpoint in table.values()}
        self.removed = [endpoint for endpoint in self.endpoints.values() if endpoint.id not in left]
        for endpoint in self.removed:
            endpoint.revisions = []
        self.endpoints = table
        self.version = str(value["version"])


def _kept(known: dict[str, Replica], replica_id: str, url: str) -> Replica:
    """The replica as it was, with its connections, or a new one."""
    found = known.pop(replica_id + url, None)
    return Replica(replica_id, url, Upstream(url), prefix=urlsplit(url).path.encode()) if found is None else found
