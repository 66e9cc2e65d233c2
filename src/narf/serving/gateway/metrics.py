"""Prometheus text of the gateways of one machine: requests, errors and latencies of each endpoint and revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from narf.serving.gateway.table import LATENCY_BOUNDS, Table

Counts = Sequence[Mapping[str, Any]]
_COUNTERS = {
    "requests": ("narf_endpoint_requests_total", "Requests answered."),
    "errors": ("narf_endpoint_errors_total", "Requests answered with 5xx or not at all."),
    "rejected": ("narf_endpoint_rejected_total", "Requests refused with 429."),
}


def counts(table: Table) -> list[dict[str, Any]]:
    """What one gateway has counted, as JSON that another can show with its own."""
    return [
        {
            "endpoint": endpoint.name,
            "in_flight": endpoint.in_flight,
            "revisions": [
                {
                    "revision": revision.number,
                    "model": revision.model,
                    "version": revision.version,
                    "replicas": len(revision.replicas),
                    "requests": revision.total.requests,
                    "errors": revision.total.errors,
                    "rejected": revision.total.rejected,
                    "seconds": revision.total.seconds,
                    "histogram": list(revision.total.histogram),
                }
                for revision in endpoint.revisions
            ],
        }
        for endpoint in table.endpoints.values()
    ]


def gateway_metrics(by_gateway: Mapping[str, Counts]) -> str:
    """All gateways, each under its own label: one that is started again begins its counters anew, and the others' go on."""
    lines = ["# HELP narf_endpoint_in_flight Requests now.", "# TYPE narf_endpoint_in_flight gauge"]
    for gateway, endpoints in by_gateway.items():
        lines += [
            f'narf_endpoint_in_flight{{endpoint="{endpoint["endpoint"]}",gateway="{gateway}"}} {endpoint["in_flight"]}'
            for endpoint in endpoints
        ]
    found = [
        (_labels(gateway, endpoint, revision), revision)
        for gateway, endpoints in by_gateway.items()
        for endpoint in endpoints
        for revision in endpoint["revisions"]
    ]
    lines += ["# HELP narf_endpoint_replicas Replicas known.", "# TYPE narf_endpoint_replicas gauge"]
    lines += [f"narf_endpoint_replicas{{{labels}}} {revision['replicas']}" for labels, revision in found]
    for key, (name, text) in _COUNTERS.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f"{name}{{{labels}}} {revision[key]}" for labels, revision in found]
    lines += ["# HELP narf_endpoint_seconds Time of a request in its replica.", "# TYPE narf_endpoint_seconds histogram"]
    for labels, revision in found:
        lines += _histogram(labels, revision)
    return "\n".join(lines) + "\n"


def _histogram(labels: str, revision: Mapping[str, Any]) -> list[str]:
    total, lines = 0, []
    for bound, count in zip((*(bound / 1e3 for bound in LATENCY_BOUNDS), "+Inf"), revision["histogram"], strict=True):
        total += count
        lines.append(f'narf_endpoint_seconds_bucket{{{labels},le="{bound}"}} {total}')
    return [*lines, f"narf_endpoint_seconds_sum{{{labels}}} {revision['seconds']}", f"narf_endpoint_seconds_count{{{labels}}} {total}"]


def _labels(gateway: str, endpoint: Mapping[str, Any], revision: Mapping[str, Any]) -> str:
    return (
        f'endpoint="{endpoint["endpoint"]}",revision="{revision["revision"]}",model="{revision["model"]}",'
        f'version="{revision["version"]}",gateway="{gateway}"'
    )
