"""HTTP of the shared cluster: nodes and queues, quotas, why a workload waits, what was decided, what if."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime

from narf.control.access.caller import caller
from narf.control.access.rules import ADMIN, SIGNED_IN, Rules, of
from narf.control.access.service import require_admin
from narf.control.cluster.clusters import Clusters, ClusterState, backend_name
from narf.control.cluster.service import ClusterService, QueueView, WouldStart
from narf.control.cluster.store import Decided, QueueQuota
from narf.domain.access import Principal, Role
from narf.domain.workload import Resources, Workload
from narf.scheduling.decisions import Reason, Waiting
from narf.scheduling.explanation import Explanation, TakesBack, past_sentence
from narf.scheduling.forward import StartForecast
from narf.scheduling.requests import Forecast, Node, Request
from narf.scheduling.snapshot import WHOLE, Snapshot
from narf.wire.cluster import (
    ClusterEntry,
    ClusterIn,
    ClusterOut,
    DecidedOut,
    ForecastOut,
    GpuOut,
    HolderOut,
    NodeOut,
    QueueOut,
    QuotaIn,
    QuotaOut,
    TakesBackOut,
    WhatIfIn,
    WhatIfOut,
    WhatIfStart,
    WhyOut,
)
from narf.wire.page import Page

RULES: Rules = {
    ("GET", "/api/v1/cluster"): SIGNED_IN,
    ("GET", "/api/v1/clusters"): SIGNED_IN,
    ("POST", "/api/v1/clusters"): ADMIN,
    ("DELETE", "/api/v1/clusters/{cluster}"): ADMIN,
    ("GET", "/api/v1/quotas"): SIGNED_IN,
    ("PUT", "/api/v1/quotas/{queue}"): ADMIN,
    ("DELETE", "/api/v1/quotas/{queue}"): ADMIN,
    ("POST", "/api/v1/cluster/what-if"): ADMIN,  # its answer names the workloads of all projects
    ("GET", "/api/v1/workloads/{workload}/why"): of("workload", Role.VIEWER),
    ("GET", "/api/v1/workloads/{workload}/decisions"): of("workload", Role.VIEWER),
}


def router(cluster: ClusterService, clusters: Clusters) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["cluster"])

    @routes.get("/cluster", response_model=ClusterOut)
    def show(principal: Principal = Depends(caller)) -> ClusterOut:
        """Nodes with their GPUs, and queues with what they hold. Of projects that the caller cannot see, names are left out."""
        snapshot, queues = cluster.view()
        return _cluster(snapshot, queues, principal, cluster.troubles())

    @routes.get("/clusters", response_model=Page[ClusterEntry])
    def list_clusters(principal: Principal = Depends(caller)) -> Page[ClusterEntry]:
        """The clusters that are connected, and whether each shows nodes."""
        return Page(items=[_entry(state, principal) for state in clusters.states()])

    @routes.post("/clusters", response_model=ClusterEntry, status_code=201)
    def add_cluster(body: ClusterIn, principal: Principal = Depends(caller)) -> ClusterEntry:
        """Connect a cluster; its nodes take workloads as soon as they are seen."""
        require_admin(principal)
        name = body.name or backend_name(body.kind, body.address)
        state = clusters.add(name, body.kind, body.address.strip(), may_grow=body.may_grow, offline=body.offline, by=principal)
        return _entry(state, principal)

    @routes.delete("/clusters/{cluster}", status_code=204)
    def remove_cluster(
        cluster: str,
        force: bool = Query(False, description="stop what runs there; it starts again elsewhere"),
        principal: Principal = Depends(caller),
    ) -> None:
        """Let go of a cluster."""
        require_admin(principal)
        clusters.remove(cluster, force=force, by=principal)

    @routes.get("/quotas", response_model=Page[QuotaOut])
    def list_quotas(principal: Principal = Depends(caller)) -> Page[QuotaOut]:
        seen = principal.projects
        items = [_quota(quota) for quota in cluster.quotas() if seen is None or quota.queue in seen]
        return Page(items=items)

    @routes.put("/quotas/{queue}", response_model=QuotaOut)
    def set_quota(queue: str, body: QuotaIn, principal: Principal = Depends(caller)) -> QuotaOut:
        """Set quota, limit and weight of a project, or of a department as `department:<name>`."""
        require_admin(principal)
        wanted = QueueQuota(queue=queue, quota=body.quota, limit=body.limit, weight=body.weight)
        quota, warnings = cluster.set_quota(wanted, by=principal)
        return _quota(quota, warnings)

    @routes.delete("/quotas/{queue}", status_code=204)
    def remove_quota(queue: str, principal: Principal = Depends(caller)) -> None:
        require_admin(principal)
        cluster.remove_quota(queue, by=principal)

    @routes.get("/workloads/{workload}/why", response_model=WhyOut)
    def why(workload: str) -> WhyOut:
        """Why it waits: the binding constraint, who holds the capacity, its position, and when it will start."""
        found = cluster.why(workload)
        return _running(found) if isinstance(found, Workload) else _why(found)

    @routes.get("/workloads/{workload}/decisions", response_model=Page[DecidedOut])
    def decisions(
        workload: str,
        after: AwareDatetime | None = Query(None, description="only what was after this moment"),
        before: AwareDatetime | None = Query(None, description="only what was before this moment"),
    ) -> Page[DecidedOut]:
        """What was decided about it and why it waited, oldest first."""
        return Page(items=[_decided(row) for row in cluster.history(workload, after=after, before=before)])

    @routes.post("/cluster/what-if", response_model=WhatIfOut)
    def what_if(body: WhatIfIn, principal: Principal = Depends(caller)) -> WhatIfOut:
        """When what waits would start with more nodes, other quotas or more submitted. Nothing is changed."""
        require_admin(principal)
        nodes = [
            Node(name=f"new-{a}-{b}", cpu=n.cpu, memory_bytes=n.memory_bytes, gpus=n.gpus, flavor=n.flavor)
            for a, n in enumerate(body.add_nodes)
            for b in range(n.count)
        ]
        submit = [
            Request(
                id=f"new-{number}", queue=s.project, resources=Resources(gpu=s.gpu, cpu=s.cpu, flavor=s.flavor), replicas=s.replicas,
                submitted_at=0.0, max_seconds=s.duration_seconds,
                forecast=Forecast(low=s.duration_seconds, middle=s.duration_seconds, high=s.duration_seconds) if s.duration_seconds else None,
            )
            for number, s in enumerate(body.submit, start=1)
        ]  # fmt: skip
        found = cluster.what_if(add_nodes=nodes, quota=body.quota, submit=submit)
        return WhatIfOut(is_rough=found.is_rough, warnings=list(found.warnings), starts=[_would_start(start) for start in found.starts])

    return routes


def _entry(state: ClusterState, principal: Principal) -> ClusterEntry:
    row = state.connected
    hidden = not principal.is_admin and not state.is_fixed
    return ClusterEntry(
        id=row.name, name=row.name, kind=row.kind, address="" if hidden else row.address, may_grow=row.may_grow, nodes=state.nodes,
        gpus=state.gpus, sentence="It shows no node now." if hidden and state.sentence else state.sentence, is_fixed=state.is_fixed,
        added_by=row.added_by, added_at=row.added_at,
    )  # fmt: skip


def _cluster(snapshot: Snapshot, queues: list[QueueView], principal: Principal, troubles: list[str]) -> ClusterOut:
    seen = principal.projects
    visible_Q = [seen is None or name in seen for name in snapshot.queue_names]
    holders: dict[tuple[int, int], list[str]] = {}
    free_NG = {(n, g): WHOLE for n, gpus in enumerate(snapshot.node_gpus_N.tolist()) for g in range(gpus)}
    active = snapshot.phase_W != 0
    rows = np.flatnonzero(active[snapshot.slice_workload_G])
    for w, n, g, amount in zip(
        snapshot.slice_workload_G[rows].tolist(), snapshot.slice_node_G[rows].tolist(), snapshot.slice_gpu_G[rows].tolist(),
        snapshot.slice_amount_G[rows].tolist(), strict=True,
    ):  # fmt: skip
        free_NG[n, g] -= amount
        holders.setdefault((n, g), []).append(snapshot.ids[w] if visible_Q[int(snapshot.queue_W[w])] else "")
    cpu_N, memory_N = snapshot.node_cpu_N.copy(), snapshot.node_memory_N.copy()
    placed = np.flatnonzero(active[snapshot.placed_workload_A])
    np.subtract.at(cpu_N, snapshot.placed_node_A[placed], snapshot.cpu_W[snapshot.placed_workload_A[placed]])
    np.subtract.at(memory_N, snapshot.placed_node_A[placed], snapshot.memory_W[snapshot.placed_workload_A[placed]])
    nodes = [
        NodeOut(
            name=name, flavor=snapshot.flavors[f] if (f := int(snapshot.node_flavor_N[n])) >= 0 else "", schedulable=bool(snapshot.schedulable_N[n]),
            cpu=snapshot.node_cpu_N[n] / WHOLE, cpu_free=cpu_N[n] / WHOLE, memory_bytes=int(snapshot.node_memory_N[n]),
            memory_free_bytes=int(memory_N[n]),
            gpus=[
                GpuOut(index=g, free=free_NG[n, g] / WHOLE, workloads=holders.get((n, g), []))
                for g in range(int(snapshot.node_gpus_N[n]))
            ],
        )
        for n, name in enumerate(snapshot.node_names)
    ]  # fmt: skip
    shown = [_queue(queue) for queue in queues if seen is None or queue.name in seen]
    return ClusterOut(
        nodes=nodes, queues=shown, gpus=float(snapshot.node_gpus_N.sum()), gpus_free=sum(free_NG.values()) / WHOLE,
        waiting=int((snapshot.phase_W == 0).sum()), troubles=troubles,
    )  # fmt: skip


def _queue(queue: QueueView) -> QueueOut:
    return QueueOut(
        name=queue.name, parent=queue.parent, quota=dict(queue.quota), limit=dict(queue.limit), weight=queue.weight, held=dict(queue.held),
        running=queue.running, waiting=queue.waiting, usage_gpu_hours=queue.usage_gpu_hours,
    )  # fmt: skip


def _quota(quota: QueueQuota, warnings: list[str] | None = None) -> QuotaOut:
    return QuotaOut(
        id=quota.queue, queue=quota.queue, parent=quota.parent, quota=dict(quota.quota), limit=dict(quota.limit), weight=quota.weight,
        warnings=warnings or [],
    )  # fmt: skip


def _running(workload: Workload) -> WhyOut:
    return WhyOut(workload=workload.id, state=workload.state.value, sentence=workload.sentence())


def _why(found: Explanation) -> WhyOut:
    waiting = found.waiting
    return WhyOut(
        workload=waiting.workload, state="queued", sentence=found.sentence, remedy=found.remedy, reason=waiting.reason.value,
        position=waiting.position, resource=waiting.resource, asked=waiting.asked, available=waiting.available, queue=waiting.queue,
        blocker=waiting.blocker, forecast=_forecast(found.forecast), takes_back=_takes_back(found.takes_back),
        holders=[
            HolderOut(workload=h.workload, queue=h.queue, amount=h.amount, running_seconds=h.running_seconds) for h in found.holders
        ],
    )  # fmt: skip


def _takes_back(found: TakesBack | None) -> TakesBackOut | None:
    return None if found is None else TakesBackOut(seconds=found.seconds, reason=found.reason.value, victims=list(found.victims))


def _forecast(found: StartForecast | None) -> ForecastOut | None:
    return None if found is None else ForecastOut(seconds=found.seconds, low=found.low, high=found.high)


def _would_start(start: WouldStart) -> WhatIfStart:
    why = start.explained
    return WhatIfStart(
        workload=start.workload, project=start.project, before=_forecast(start.before), after=_forecast(start.after),
        sentence=f"{why.sentence} {why.remedy}".strip() if why else "",
    )  # fmt: skip


def _decided(row: Decided) -> DecidedOut:
    return DecidedOut(
        kind=row.kind, reason=row.reason, sentence=_sentence_of(row), from_at=row.from_at, until_at=row.until_at, detail=dict(row.detail)
    )


def _sentence_of(row: Decided) -> str:
    if row.kind == "waiting":
        return past_sentence(Waiting(workload=row.workload, reason=Reason(row.reason), **row.detail))
    if row.kind == "preempted":
        return f"It was asked to leave for {row.detail['beneficiary']} ({row.reason}); {row.detail['lost_seconds']:.0f} GPU-seconds since its last checkpoint were lost."
    return f"It was given {', '.join(sorted(set(row.detail['nodes'])))}{', borrowed beyond its quota' if row.detail['borrowed'] else ''}."
