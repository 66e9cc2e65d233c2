"""Prometheus text of the gateway: requests, errors and latencies of each endpoint and revision."""

from __future__ import annotations

from collections.abc import Callable

from narf.serving.gateway.table import LATENCY_BOUNDS, Endpoint, Revision, Table


def gateway_metrics(table: Table) -> str:
    lines = ["# HELP narf_endpoint_in_flight Requests now.", "# TYPE narf_endpoint_in_flight gauge"]
    endpoints = list(table.endpoints.values())
    lines += [f'narf_endpoint_in_flight{{endpoint="{endpoint.name}"}} {endpoint.in_flight}' for endpoint in endpoints]
    lines += ["# HELP narf_endpoint_replicas Replicas known.", "# TYPE narf_endpoint_replicas gauge"]
    pairs = [(endpoint, revision) for endpoint in endpoints for revision in endpoint.revisions]
    lines += [f"narf_endpoint_replicas{_labels(endpoint, revision)} {len(revision.replicas)}" for endpoint, revision in pairs]
    counters: dict[str, tuple[str, Callable[[Revision], float]]] = {
        "narf_endpoint_requests_total": ("Requests answered.", lambda revision: revision.total.requests),
        "narf_endpoint_errors_total": ("Requests answered with 5xx or not at all.", lambda revision: revision.total.errors),
        "narf_endpoint_rejected_total": ("Requests refused with 429.", lambda revision: revision.total.rejected),
    }
    for name, (text, read) in counters.items():
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        lines += [f"{name}{_labels(endpoint, revision)} {read(revision)}" for endpoint, revision in pairs]
    lines += ["# HELP narf_endpoint_seconds Time of a request in its replica.", "# TYPE narf_endpoint_seconds histogram"]
    for endpoint, revision in pairs:
        lines += _histogram(endpoint, revision)
    return "\n".join(lines) + "\n"


def _histogram(endpoint: Endpoint, revision: Revision) -> list[str]:
    labels, total, lines = _labels(endpoint, revision)[1:-1], 0, []
    for bound, count in zip((*(bound / 1e3 for bound in LATENCY_BOUNDS), "+Inf"), revision.total.histogram, strict=True):
        total += count
        lines.append(f'narf_endpoint_seconds_bucket{{{labels},le="{bound}"}} {total}')
    return [*lines, f"narf_endpoint_seconds_sum{{{labels}}} {revision.total.seconds}", f"narf_endpoint_seconds_count{{{labels}}} {total}"]


def _labels(endpoint: Endpoint, revision: Revision) -> str:
    return f'{{endpoint="{endpoint.name}",revision="{revision.number}",model="{revision.model}",version="{revision.version}"}}'
