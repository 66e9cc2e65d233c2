"""HTTP of replicas and gateways: what they are told, and what they report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Query

from narf.control.access.caller import caller
from narf.control.access.rules import ADMIN, Rule, Rules, Scope, of
from narf.control.endpoints.routing import Routing
from narf.control.endpoints.service import EndpointService
from narf.control.endpoints.watching import Watching
from narf.domain.access import Principal, Role
from narf.wire.endpoints import AddressIn, GatewayReport, LeavingIn, NotLoadedIn, PayloadsIn, PredictionsIn

PROCESS_RULES: Rules = {
    ("POST", "/api/v1/replicas/{workload}/address"): of("workload", Role.DEVELOPER, workload_may=True),
    ("GET", "/api/v1/replicas/{workload}/models"): of("workload", Role.DEVELOPER, workload_may=True),
    ("POST", "/api/v1/replicas/{workload}/failed"): of("workload", Role.DEVELOPER, workload_may=True),
    ("POST", "/api/v1/replicas/{workload}/leaving"): of("workload", Role.DEVELOPER, workload_may=True),
    ("POST", "/api/v1/replicas/{workload}/predictions"): of("workload", Role.DEVELOPER, workload_may=True),
    ("GET", "/api/v1/gateway/table"): ADMIN,
    ("POST", "/api/v1/gateway/reports"): ADMIN,
    ("POST", "/api/v1/gateway/payloads"): ADMIN,
    ("GET", "/api/v1/gateway/caller"): Rule(Scope.SIGNED_IN, workload_may=True),
}
_READ_SECONDS = 1.0  # another process may have changed the table


def add_replicas(routes: APIRouter, endpoints: EndpointService, watching: Watching, routing: Routing) -> None:
    @routes.post("/replicas/{workload}/address", status_code=204)
    def replica_is_at(workload: str, body: AddressIn, principal: Principal = Depends(caller)) -> None:
        """A replica is ready, and where."""
        endpoints.replica_is_at(workload, body.url, revision_id=body.revision, by=principal)

    @routes.get("/replicas/{workload}/models")
    async def hosted(
        workload: str, known: str = Query("", max_length=64), wait: float = Query(0, ge=0, le=30), principal: Principal = Depends(caller)
    ) -> dict[str, Any]:
        """What a shared process is to hold. With `wait`, the answer comes when it is another than `known`."""

        def models() -> dict[str, Any]:
            found = endpoints.hosted(workload, by=principal)
            return {"version": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()[:16], "models": found}

        return await _when_another(routing, models, known, wait)

    @routes.post("/replicas/{workload}/failed", status_code=204)
    def not_loaded(workload: str, body: NotLoadedIn, principal: Principal = Depends(caller)) -> None:
        """A shared process could not load one of its models."""
        endpoints.does_not_start(workload, body.revision, body.sentence, by=principal)

    @routes.post("/replicas/{workload}/leaving", status_code=204)
    def replica_leaves(workload: str, body: LeavingIn, principal: Principal = Depends(caller)) -> None:
        """A replica is to be replaced: it says why, and answers until another does, or `at_once` until what it has begun is finished."""
        watching.replica_leaves(workload, body.sentence, at_once=body.at_once, cause=body.revision, by=principal)

    @routes.post("/replicas/{workload}/predictions")
    def replica_report(workload: str, body: PredictionsIn, principal: Principal = Depends(caller)) -> dict[str, Any]:
        """What a replica predicted since its last report. `reference`: what it is to compare inputs with, where its package does not say."""
        return {"reference": watching.replica_report(workload, body.model_dump(), by=principal)}


def add_gateways(routes: APIRouter, watching: Watching, routing: Routing, wake: Callable[[], None]) -> None:
    """wake: look at the endpoints at once."""

    @routes.get("/gateway/table")
    async def table(known: str = Query("", max_length=64), wait: float = Query(0, ge=0, le=30)) -> dict[str, Any]:
        """Where each endpoint's replicas are. With `wait`, the answer comes when it is another than `known`."""
        return await _when_another(routing, lambda: routing.recent_table(_READ_SECONDS / 2) if wait else routing.table(), known, wait)

    @routes.post("/gateway/reports")
    def reports(body: GatewayReport) -> dict[str, Any]:
        """What a gateway saw in the last second."""
        if watching.gateway_reports(body.gateway, {name: report.model_dump() for name, report in body.endpoints.items()}):
            wake()
        return {}

    @routes.post("/gateway/payloads")
    def keep_payloads(body: PayloadsIn) -> dict[str, Any]:
        """Payloads that passed through a gateway and that a policy keeps."""
        watching.payloads_arrive(body.endpoints)
        return {}

    @routes.get("/gateway/caller")
    def who(principal: Principal = Depends(caller)) -> dict[str, Any]:
        """Whom a token speaks for, as gateways ask it."""
        roles = {project: principal.role_in(project) for project, _ in principal.roles}
        if principal.is_admin:
            roles[""] = principal.role_limit
        return {"user": principal.user, "roles": roles, "projects": principal.projects_limit}


async def _when_another(routing: Routing, read: Callable[[], dict[str, Any]], known: str, wait: float) -> dict[str, Any]:
    until = time.monotonic() + wait
    while True:
        count, read_at = routing.count, time.monotonic()
        value = await to_thread.run_sync(read)
        if value["version"] != known or time.monotonic() >= until:
            return value
        await routing.wait(count, min(until, read_at + _READ_SECONDS) - time.monotonic())
