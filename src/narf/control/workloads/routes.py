"""HTTP of workloads: submit, list, show, follow, cancel."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response

from narf.backends.protocol import LogChunk
from narf.control.access.caller import caller
from narf.control.access.rules import Rules, in_project, of
from narf.control.workloads.service import Submission, WorkloadService
from narf.control.workloads.store import Attempt, Event
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput
from narf.domain.workload import Program, Resources, Workload, WorkloadKind, WorkloadState
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor
from narf.wire.workloads import (
    AttemptOut,
    EventOut,
    LogOut,
    PlacementOut,
    ResourcesBody,
    Submitted,
    WorkloadDetail,
    WorkloadIn,
    WorkloadOut,
)

RULES: Rules = {
    ("GET", "/api/v1/projects/{project}/workloads"): in_project(Role.VIEWER, workload_may=True),
    ("POST", "/api/v1/projects/{project}/workloads"): in_project(Role.DEVELOPER, workload_may=True),
    ("GET", "/api/v1/workloads/{workload}"): of("workload", Role.VIEWER, workload_may=True),
    ("POST", "/api/v1/workloads/{workload}/cancel"): of("workload", Role.DEVELOPER, workload_may=True),
    ("GET", "/api/v1/workloads/{workload}/logs"): of("workload", Role.VIEWER, workload_may=True),
    ("GET", "/api/v1/workloads/{workload}/logs/raw"): of("workload", Role.VIEWER),
}
_LOOK_SECONDS = 0.1
_MOST_LOG = 4 << 20


def router(workloads: WorkloadService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["workloads"])

    @routes.get("/projects/{project}/workloads", response_model=Page[WorkloadOut])
    def list_workloads(
        project: str,
        state: list[WorkloadState] = Query(default=[]),
        kind: list[WorkloadKind] = Query(default=[]),
        owner: str = Query("", max_length=63),
        text: str = Query("", max_length=200, description="part of a name, or an id"),
        limit: Limit = 50,
        cursor: str = Query("", max_length=500),
    ) -> Page[WorkloadOut]:
        """Workloads of a project, newest first."""
        before = _before(cursor) if cursor else None
        found = workloads.page(project, states=state, kinds=kind, owner=owner, text=text, before=before, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = encode_cursor(last.created_at.isoformat(), last.id) if last else None
        return Page(items=[workload_out(workload) for workload in found[:limit]], next=following)

    @routes.post("/projects/{project}/workloads", response_model=Submitted, status_code=201)
    def submit(
        project: str,
        body: WorkloadIn,
        principal: Principal = Depends(caller),
        idempotency_key: str = Header("", max_length=200),
    ) -> Submitted:
        """Submit a workload. It runs when the scheduler admits it."""
        workload = workloads.submit(_submission(project, body, principal, idempotency_key))
        return Submitted(id=workload.id, workload_id=workload.id, run_id=workload.run_id, state=workload.state, name=workload.name)

    @routes.get("/workloads/{workload}", response_model=WorkloadDetail)
    def show(workload: str) -> WorkloadDetail:
        """One workload with its attempts and history."""
        found = workloads.workload(workload)
        return WorkloadDetail(
            **workload_out(found).model_dump(),
            attempts=[_attempt(attempt) for attempt in workloads.attempts(workload)],
            events=[_event(event) for event in workloads.events(workload)],
        )

    @routes.post("/workloads/{workload}/cancel", response_model=WorkloadOut)
    def cancel(workload: str, principal: Principal = Depends(caller)) -> WorkloadOut:
        """Ask it to stop: SIGTERM, and SIGKILL after the grace period. Safe to repeat."""
        return workload_out(workloads.cancel(workload, by=principal.user))

    @routes.get("/workloads/{workload}/logs", response_model=LogOut)
    async def logs(
        workload: str,
        attempt: int | None = Query(None, ge=1, le=1_000_000),
        offset: int = Query(0, ge=0, le=1 << 50),
        limit: int = Query(1 << 20, ge=1, le=_MOST_LOG),
        wait: float = Query(0.0, ge=0, le=30, description="seconds to wait for new output when there is none yet"),
    ) -> LogOut:
        """Output of one attempt from a byte offset on. With `wait`, this is how it is followed."""
        deadline = time.monotonic() + wait
        while True:
            chunk = await to_thread.run_sync(lambda: workloads.logs(workload, attempt=attempt, offset=offset, limit=limit))
            if chunk.data or chunk.is_complete or time.monotonic() >= deadline:
                return _log(chunk)
            await asyncio.sleep(_LOOK_SECONDS)

    @routes.get("/workloads/{workload}/logs/raw")
    def raw_logs(
        workload: str,
        attempt: int | None = Query(None, ge=1, le=1_000_000),
        offset: int = Query(0, ge=0, le=1 << 50),
        limit: int = Query(_MOST_LOG, ge=1, le=_MOST_LOG),
    ) -> Response:
        """The same as bytes, unchanged."""
        chunk = workloads.logs(workload, attempt=attempt, offset=offset, limit=limit)
        headers = {
            "X-Narf-Start": str(chunk.start),
            "X-Narf-Complete": str(chunk.is_complete).lower(),
            "X-Content-Type-Options": "nosniff",
        }
        return Response(chunk.data, media_type="application/octet-stream", headers=headers)

    return routes


def _submission(project: str, body: WorkloadIn, principal: Principal, key: str) -> Submission:
    program = Program(
        script=body.script,
        arguments=tuple(body.arguments),
        command=tuple(body.command),
        snapshot=body.snapshot,
        environment=tuple(sorted(body.environment.items())),
        secrets=tuple(sorted(body.secrets.items())),
        data=tuple(body.data),
        requirements=body.requirements,
    )
    code = {f"narf.code.{name}": value for name, value in body.code.items()}
    if body.snapshot:
        code["narf.snapshot"] = body.snapshot
    return Submission(
        project=project,
        owner=principal.user,
        name=body.name,
        kind=body.kind,
        program=program,
        resources=resources_of(body.resources),
        replicas=body.replicas,
        priority=body.priority,
        preemptible=body.preemptible,
        experiment=body.experiment,
        time_limit_seconds=body.time_limit_seconds,
        max_retries=body.max_retries,
        webhook=body.webhook,
        labels=tuple(sorted(body.labels.items())),
        tags=tuple(sorted(code.items())),
        idempotency_key=key,
    )


def resources_of(body: ResourcesBody) -> Resources:
    return Resources(
        cpu=body.cpu,
        memory_bytes=body.memory_bytes,
        gpu=body.gpu,
        gpu_memory_bytes=body.gpu_memory_bytes,
        flavor=body.flavor,
        node_selector=tuple(sorted(body.node_selector.items())),
    )


def workload_out(workload: Workload) -> WorkloadOut:
    resources = workload.resources
    program = workload.program
    return WorkloadOut(
        id=workload.id,
        project=workload.project,
        owner=workload.owner,
        name=workload.name,
        kind=workload.kind,
        state=workload.state,
        sentence=workload.sentence(),
        parent=workload.parent,
        run_id=workload.run_id,
        script=program.script,
        arguments=list(program.arguments),
        command=list(program.command),
        snapshot=program.snapshot,
        data=list(program.data),
        resources=ResourcesBody(
            cpu=resources.cpu,
            memory_bytes=resources.memory_bytes,
            gpu=resources.gpu,
            gpu_memory_bytes=resources.gpu_memory_bytes,
            flavor=resources.flavor,
            node_selector=dict(resources.node_selector),
        ),
        replicas=workload.replicas,
        priority=workload.priority,
        preemptible=workload.preemptible,
        attempt=workload.attempt,
        time_limit_seconds=workload.time_limit_seconds,
        max_retries=workload.max_retries,
        created_at=workload.created_at,
        queued_at=workload.queued_at,
        started_at=workload.started_at,
        ended_at=workload.ended_at,
        end_reason=workload.end_reason,
        exit_code=workload.exit_code,
        cancel_requested=workload.cancel_requested,
        labels=dict(workload.labels),
    )


def _attempt(attempt: Attempt) -> AttemptOut:
    sentence = attempt.reason.sentence(exit_code=attempt.exit_code, detail=attempt.detail) if attempt.reason else "It goes on."
    return AttemptOut(
        attempt=attempt.attempt,
        backend=attempt.backend,
        placement=[PlacementOut(node=r.node, gpu_indices=list(r.gpu_indices), gpu_fraction=r.gpu_fraction) for r in attempt.placement],
        admitted_at=attempt.admitted_at,
        started_at=attempt.started_at,
        ended_at=attempt.ended_at,
        reason=attempt.reason,
        exit_code=attempt.exit_code,
        sentence=sentence,
        cpu_seconds=attempt.cpu_seconds,
        peak_memory_bytes=attempt.peak_memory_bytes,
    )


def _event(event: Event) -> EventOut:
    return EventOut(id=event.id, at=event.at, attempt=event.attempt, state=event.state, sentence=event.sentence)


def _log(chunk: LogChunk) -> LogOut:
    """Cut at the last whole character, so that one split between two chunks is not replaced."""
    data = chunk.data
    if not chunk.is_complete:
        for back in range(1, min(4, len(data)) + 1):
            byte = data[-back]
            if byte & 0xC0 == 0x80:
                continue
            width = 2 if byte & 0xE0 == 0xC0 else 3 if byte & 0xF0 == 0xE0 else 4 if byte & 0xF8 == 0xF0 else 1
            if width > back and len(data) > back:
                data = data[:-back]
            break
    text = data.decode("utf-8", errors="replace").replace("\0", "\ufffd")
    return LogOut(
        start=chunk.start, next=chunk.start + len(data), text=text, is_complete=chunk.is_complete and len(data) == len(chunk.data)
    )


def _before(cursor: str) -> tuple[datetime, str]:
    at, last_id = decode_cursor(cursor, 2)
    try:
        return datetime.fromisoformat(at), str(last_id)
    except (TypeError, ValueError):
        raise BadInput("The cursor is not one that this list gave.", remedy="Start again without a cursor.", field="cursor") from None
