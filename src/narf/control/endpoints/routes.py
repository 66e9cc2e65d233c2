"""HTTP of endpoints: what people do with them, and what they see of their traffic and predictions."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request, Response

from narf.control.access.caller import caller
from narf.control.access.rules import Rule, Rules, Scope, in_project, of
from narf.control.endpoints.plan import Role
from narf.control.endpoints.process_routes import PROCESS_RULES, add_gateways, add_replicas
from narf.control.endpoints.routing import Routing
from narf.control.endpoints.service import Deployment, Detail, EndpointService
from narf.control.endpoints.watching import OBJECTIVE, Watching
from narf.domain import access
from narf.domain.access import Principal
from narf.domain.errors import NotAllowed, Unavailable
from narf.wire.endpoints import (
    DeployIn,
    EndpointChange,
    EndpointDetail,
    EndpointOut,
    EventOut,
    ReplicaOut,
    RevisionOut,
    RollBackIn,
    ShareIn,
)
from narf.wire.page import Page

_ONE = "/api/v1/endpoints/{endpoint}"
_DEVELOPER, _VIEWER = access.Role.DEVELOPER, access.Role.VIEWER
RULES: Rules = {
    ("GET", "/api/v1/projects/{project}/endpoints"): in_project(_VIEWER, workload_may=True),
    ("POST", "/api/v1/projects/{project}/endpoints"): in_project(_DEVELOPER, workload_may=True),
    ("GET", _ONE): of("endpoint", _VIEWER, workload_may=True),
    ("PATCH", _ONE): of("endpoint", _DEVELOPER),
    ("DELETE", _ONE): of("endpoint", _DEVELOPER),
    ("POST", _ONE + "/rollback"): of("endpoint", _DEVELOPER),
    ("POST", _ONE + "/promote"): of("endpoint", _DEVELOPER),
    ("POST", _ONE + "/share"): of("endpoint", _DEVELOPER),
    ("POST", _ONE + "/predict"): of("endpoint", _DEVELOPER, workload_may=True),
    ("GET", _ONE + "/schema"): of("endpoint", _VIEWER),
    ("GET", _ONE + "/traffic"): of("endpoint", _VIEWER),
    ("GET", _ONE + "/drift"): of("endpoint", _VIEWER),
    ("GET", _ONE + "/predictions"): of("endpoint", _VIEWER),
    ("GET", "/api/v1/predictions/{prediction}"): Rule(Scope.SIGNED_IN),
    ("GET", "/api/v1/predictions/{prediction}/payload"): Rule(Scope.SIGNED_IN),
} | PROCESS_RULES


def router(
    endpoints: EndpointService,
    watching: Watching,
    routing: Routing,
    gateway: Callable[[], str],
    gateway_token: Callable[[], str],
    wake: Callable[[], None],
) -> APIRouter:
    """gateway: its address, "" while there is none. wake: look at the endpoints at once."""
    routes = APIRouter(prefix="/api/v1", tags=["endpoints"])

    def out(detail: Detail) -> EndpointOut:
        return _out(detail, gateway())

    _add_endpoints(routes, endpoints, out)
    _add_rollouts(routes, endpoints, out)
    _add_asking(routes, endpoints, gateway, gateway_token)
    _add_records(routes, endpoints, watching)
    add_replicas(routes, endpoints, watching, routing)
    add_gateways(routes, watching, routing, wake)
    return routes


def _add_endpoints(routes: APIRouter, endpoints: EndpointService, out: Callable[[Detail], EndpointOut]) -> None:
    @routes.get("/projects/{project}/endpoints", response_model=Page[EndpointOut])
    def list_endpoints(project: str) -> Page[EndpointOut]:
        """All endpoints of a project, by name."""
        return Page(items=[out(detail) for detail in endpoints.endpoints(project)])

    @routes.post("/projects/{project}/endpoints", response_model=EndpointOut, status_code=201)
    def deploy(project: str, body: DeployIn, principal: Principal = Depends(caller)) -> EndpointOut:
        """Deploy a model version: a new endpoint, or a new revision of the one of this name."""
        _check_may_keep(body, project, principal)
        return out(endpoints.deploy(project, _deployment(body, model=body.model, name=body.name), by=principal.user))

    @routes.get("/endpoints/{endpoint}", response_model=EndpointDetail)
    def show(endpoint: str) -> EndpointDetail:
        """One endpoint, by id or name, with its revisions, replicas and history."""
        detail = endpoints.detail(endpoint)
        numbers = {revision.id: revision.number for revision in detail.revisions}
        return EndpointDetail(
            **out(detail).model_dump(),
            replicas=[
                ReplicaOut(
                    workload_id=r.workload_id,
                    revision=numbers.get(r.revision_id),
                    state=r.state,
                    url="{0.scheme}://{0.netloc}".format(urlsplit(r.url)) if r.url else "",  # its path is for gateways alone
                    shared=r.shared,
                    created_at=r.created_at,
                )
                for r in detail.replicas
            ],
            events=[EventOut(at=event.at, kind=event.kind, sentence=event.sentence, by=event.by) for event in detail.events],
        )

    @routes.patch("/endpoints/{endpoint}", response_model=EndpointOut)
    def change(endpoint: str, body: EndpointChange, principal: Principal = Depends(caller)) -> EndpointOut:
        """Change limits, policies and what it follows."""
        found = endpoints.endpoint(endpoint)
        _check_may_keep(body, found.project, principal)
        return out(endpoints.change(found.id, _deployment(body), alias=body.alias, by=principal.user))

    @routes.delete("/endpoints/{endpoint}", status_code=204)
    def delete(endpoint: str, principal: Principal = Depends(caller)) -> None:
        endpoints.delete(endpoints.endpoint(endpoint).id, by=principal.user)


def _add_rollouts(routes: APIRouter, endpoints: EndpointService, out: Callable[[Detail], EndpointOut]) -> None:
    @routes.post("/endpoints/{endpoint}/rollback", response_model=EndpointOut)
    def roll_back(endpoint: str, body: RollBackIn, principal: Principal = Depends(caller)) -> EndpointOut:
        """Back to the revision before, or to a number."""
        return out(endpoints.roll_back(endpoints.endpoint(endpoint).id, to=body.to, by=principal.user))

    @routes.post("/endpoints/{endpoint}/promote", response_model=EndpointOut)
    def promote(endpoint: str, principal: Principal = Depends(caller)) -> EndpointOut:
        """All traffic to the canary now."""
        return out(endpoints.promote(endpoints.endpoint(endpoint).id, by=principal.user))

    @routes.post("/endpoints/{endpoint}/share", response_model=EndpointOut)
    def share(endpoint: str, body: ShareIn, principal: Principal = Depends(caller)) -> EndpointOut:
        """This percentage of the traffic to the canary now; it is judged anew, and goes on to the steps above it."""
        return out(endpoints.set_share(endpoints.endpoint(endpoint).id, body.share, by=principal.user))


def _add_asking(routes: APIRouter, endpoints: EndpointService, gateway: Callable[[], str], gateway_token: Callable[[], str]) -> None:
    """What the console asks an endpoint, through the gateway as everybody."""

    def _through_gateway(path: str, body: bytes | None, content_type: str | None) -> Response:
        address = gateway()
        if not address:
            raise Unavailable("The gateway is not up.", remedy="Try again in a moment.")
        headers = {"authorization": f"Bearer {gateway_token()}", "content-type": content_type or "application/json"}
        request = urllib.request.Request(address + path, data=body, headers=headers, method="GET" if body is None else "POST")
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return _relayed(answer.status, answer)
        except urllib.error.HTTPError as error:
            return _relayed(error.code, error)
        except (urllib.error.URLError, OSError) as error:
            raise Unavailable(f"The gateway does not answer: {error}.", remedy="Try again in a moment.") from None

    @routes.post("/endpoints/{endpoint}/predict")
    async def predict(endpoint: str, request: Request) -> Response:
        """Try it: the body goes to the endpoint as it is (`{"inputs": ...}`), through the gateway."""
        body = await request.body()
        name = (await to_thread.run_sync(endpoints.endpoint, endpoint)).name
        return await to_thread.run_sync(lambda: _through_gateway(f"/endpoints/{name}/predict", body, request.headers.get("content-type")))

    @routes.get("/endpoints/{endpoint}/schema")
    def schema(endpoint: str) -> Response:
        """OpenAPI of the model behind it."""
        return _through_gateway(f"/endpoints/{endpoints.endpoint(endpoint).name}/openapi.json", None, None)


def _add_records(routes: APIRouter, endpoints: EndpointService, watching: Watching) -> None:
    @routes.get("/endpoints/{endpoint}/traffic")
    def traffic(
        endpoint: str, minutes: int = Query(60, ge=1, le=10_080), objective: float = Query(OBJECTIVE, gt=0, lt=1)
    ) -> dict[str, Any]:
        """Requests, errors and latency by minute and revision, and the error budget."""
        return watching.traffic(endpoints.endpoint(endpoint).id, minutes=minutes, objective=objective)

    @routes.get("/endpoints/{endpoint}/drift")
    def drift(endpoint: str, hours: int = Query(24, ge=1, le=168)) -> dict[str, Any]:
        """Inputs against the training data, and what was answered."""
        return watching.drift(endpoints.endpoint(endpoint).id, hours=hours)

    @routes.get("/endpoints/{endpoint}/predictions")
    def predictions(endpoint: str, limit: int = Query(50, ge=1, le=500)) -> dict[str, Any]:
        """The newest predictions, without their payloads."""
        return {"items": watching.newest(endpoints.endpoint(endpoint).id, limit), "next": None}

    @routes.get("/predictions/{prediction}")
    def trace(prediction: str, principal: Principal = Depends(caller)) -> dict[str, Any]:
        """From a prediction to model version, run, code and data."""
        return watching.trace(prediction, by=principal)

    @routes.get("/predictions/{prediction}/payload")
    def payload(prediction: str, principal: Principal = Depends(caller)) -> dict[str, Any]:
        """What was asked and answered, where the endpoint's policy kept it; for maintainers, and in the audit log."""
        return watching.payload(prediction, by=principal)


def _check_may_keep(body: EndpointChange, project: str, principal: Principal) -> None:
    role = principal.role_in(project)
    if body.keep is not None and (role is None or not role.includes(access.Role.MAINTAINER)):
        raise NotAllowed(
            "Payloads are what callers have sent: to keep them needs the role maintainer.", remedy="Ask a maintainer of the project."
        )


def _relayed(status: int, answer: Any) -> Response:
    kept = ("narf-prediction", "narf-revision", "retry-after")
    headers = {name: answer.headers[name] for name in kept if name in answer.headers}
    return Response(answer.read(), status, headers, media_type="application/json")


def _deployment(body: EndpointChange, *, model: str = "", name: str = "") -> Deployment:
    rollout = None if body.rollout is None else {key: value for key, value in body.rollout.model_dump().items() if value is not None}
    return Deployment(
        model=model,
        name=name,
        least=body.least,
        most=body.most,
        target=body.target,
        idle_seconds=body.idle_seconds,
        timeout_seconds=body.timeout_seconds,
        canary=None if body.canary is None else tuple(body.canary),
        rollout=rollout,
        resources=None if body.resources is None else body.resources.model_dump(),
        webhook=body.webhook,
        public=body.public,
        shared=body.shared,
        keep=None if body.keep is None else body.keep.model_dump(),
    )


def _out(detail: Detail, gateway: str) -> EndpointOut:
    endpoint = detail.endpoint
    serving = {revision.id for revision in detail.revisions if revision.role is Role.ACTIVE}
    ready = sum(replica.state.answers and replica.revision_id in serving for replica in detail.replicas)
    return EndpointOut(
        id=endpoint.id,
        name=endpoint.name,
        project=endpoint.project,
        model=endpoint.model,
        alias=endpoint.alias,
        state=_state(detail, ready),
        trouble=endpoint.trouble,
        url=f"{gateway}/endpoints/{endpoint.name}",
        least=endpoint.least,
        most=endpoint.most,
        ready=ready,
        target=endpoint.target,
        idle_seconds=endpoint.idle_seconds,
        timeout_seconds=endpoint.timeout_seconds,
        canary=list(endpoint.rollout.get("steps", ())),
        canary_step=endpoint.step if endpoint.step_began is not None else None,
        resources=endpoint.resources,
        webhook=endpoint.webhook,
        public=endpoint.public,
        shared=endpoint.shared,
        keep=endpoint.keep,
        created_by=endpoint.created_by,
        created_at=endpoint.created_at,
        last_used=endpoint.last_used,
        revisions=[
            RevisionOut(
                id=revision.id,
                number=revision.number,
                model=revision.model,
                version=revision.version,
                role=revision.role,
                weight=revision.weight,
                reason=revision.reason,
                created_by=revision.created_by,
                created_at=revision.created_at,
                replicas=_counts(detail, revision.id),
            )
            for revision in detail.revisions
        ],
    )


def _state(detail: Detail, ready: int) -> str:
    """One word: trouble, starting, rolling (two revisions), ready, idle (none runs; the next request starts one)."""
    if detail.endpoint.trouble:
        return "trouble"
    roles = [revision.role for revision in detail.revisions]
    if Role.ACTIVE not in roles:
        return "starting"
    if Role.NEW in roles or roles.count(Role.ACTIVE) > 1:
        return "rolling"
    return "ready" if ready else "idle"


def _counts(detail: Detail, revision_id: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for replica in detail.replicas:
        if replica.revision_id == revision_id:
            counts[replica.state.value] = counts.get(replica.state.value, 0) + 1
    return counts
