"""The HTTP application: routers of the features, the one authoriser before them, and errors as problems."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from narf.control.access.matcher import Matcher
from narf.control.access.middleware import AccessMiddleware, Resolver
from narf.control.access.rules import PUBLIC, Rules
from narf.control.access.service import AccessService
from narf.control.problems import response_of
from narf.domain.errors import BadInput, NarfError, NotFound, Unavailable
from narf.version import VERSION

_log = logging.getLogger(__name__)

# FastAPI's own pages.
_OWN: Rules = {("GET", "/api/docs"): PUBLIC, ("GET", "/api/openapi.json"): PUBLIC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What one feature brings: its routes and the rule of each, what finds the project of its objects, and applications
    mounted whole (path prefix -> application; their rules are among `rules`)."""

    router: APIRouter | None = None
    rules: Rules = field(default_factory=dict)
    resolvers: Mapping[str, Resolver] = field(default_factory=dict)
    mounts: Mapping[str, ASGIApp] = field(default_factory=dict)


def create_app(features: Sequence[Feature], access: AccessService, project_exists: Callable[[str], bool]) -> FastAPI:
    """The application of these features. Mounts come after all routers, the longest prefix first."""
    app = FastAPI(title="Narf", version=VERSION, docs_url="/api/docs", redoc_url=None, openapi_url="/api/openapi.json")
    rules: Rules = dict(_OWN)
    resolvers: dict[str, Resolver] = {}
    mounts: dict[str, ASGIApp] = {}
    for feature in features:
        if feature.router is not None:
            app.include_router(feature.router)
        for route, rule in feature.rules.items():
            assert route not in rules, f"two features have a rule for {route}"
            rules[route] = rule
        resolvers.update(feature.resolvers)
        mounts.update(feature.mounts)
    for prefix in sorted(mounts, key=len, reverse=True):
        app.mount(prefix, mounts[prefix])
    _answer_errors(app)
    app.add_middleware(AccessMiddleware, access=access, matcher=Matcher(rules), resolvers=resolvers, project_exists=project_exists)
    app.state.rules, app.state.resolvers = rules, resolvers
    return app


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(NarfError)
    async def known(request: Request, error: NarfError) -> Response:
        response = response_of(error)
        if isinstance(error, Unavailable):
            _log.warning("%s %s: %s", request.method, request.url.path, error)
        elif response.status_code >= 500:
            _log.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path", "header"))
        message = str(first["msg"]).removeprefix("Value error, ")
        return response_of(BadInput(f"{place or 'The request'}: {message}.", field=place or None, remedy="See /api/docs for the form."))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return response_of(NotFound("route", f"{request.method} {request.url.path}", remedy="See /api/docs for what there is."))
        response = response_of(BadInput(str(error.detail)))
        response.status_code = error.status_code
        return response

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> Response:
        number = secrets.token_hex(4)
        _log.error("mistake %s in %s %s", number, request.method, request.url.path, exc_info=error)
        return response_of(
            NarfError("Something went wrong on our side.", remedy=f"Report mistake {number} with the server's log.", code="our_mistake")
        )
