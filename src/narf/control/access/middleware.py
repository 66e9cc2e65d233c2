"""The one place that authorises: every HTTP and WebSocket request passes here before any handler.

It finds who asks (session cookie or bearer token), the rule of the route, the project the rule is about, and
refuses what the role does not reach, and whatever has no rule.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from urllib.parse import unquote

from anyio import to_thread
from starlette.types import ASGIApp, Receive, Scope, Send

from narf.control.access.matcher import Match, Matcher
from narf.control.access.rules import Rule
from narf.control.access.rules import Scope as RuleScope
from narf.control.access.service import AccessService
from narf.control.problems import send_problem
from narf.domain.access import Principal, Role
from narf.domain.errors import NarfError, NotAllowed, NotFound, NotSignedIn

COOKIE = "narf_session"
CSRF_HEADER = b"x-csrf-token"
_SAFE = {"GET", "HEAD", "OPTIONS"}
_log = logging.getLogger(__name__)

# What finds the project of an object: its id -> the project's name, or None if there is no such object.
Resolver = Callable[[str], str | None]


class AccessMiddleware:
    def __init__(
        self,
        app: ASGIApp,
        *,
        access: AccessService,
        matcher: Matcher,
        resolvers: Mapping[str, Resolver],
        project_exists: Callable[[str], bool],
    ) -> None:
        self._app, self._access, self._matcher = app, access, matcher
        self._resolvers, self._project_exists = resolvers, project_exists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            method = scope["method"] if scope["type"] == "http" else "WEBSOCKET"
            match = self._matcher.find(method, scope["path"])
            if match is not None and match.rule is not None and match.rule.scope is RuleScope.PUBLIC:
                principal = None
            else:
                principal = await to_thread.run_sync(self._authorise, scope, method, match)
        except NarfError as error:
            await send_problem(error, scope, receive, send)
            return
        scope.setdefault("state", {})["principal"] = principal
        await self._app(scope, receive, send)

    def _authorise(self, scope: Scope, method: str, match: Match | None) -> Principal:
        principal = self._identify(scope, method)
        path = scope["path"]
        if match is None or match.rule is None:
            raise NotFound("route", f"{method} {path}", remedy="See /api/docs for what there is.")
        self._check(principal, match.rule, match.parameters, path)
        return principal

    def _identify(self, scope: Scope, method: str) -> Principal:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        secret = _bearer(headers.get(b"authorization", b"").decode("latin-1"))
        if secret:
            return self._access.principal_of_token(secret)
        cookie = _cookie(headers.get(b"cookie", b"").decode("latin-1"))
        if not cookie:
            raise NotSignedIn("This needs a sign-in.", remedy="Sign in, or send a token: Authorization: Bearer TOKEN")
        session = self._access.session(cookie)
        if method not in _SAFE:
            _check_origin(headers)
            # MLflow's pages do not know our CSRF token; for them the browser must say that it asks from this very origin.
            from_mlflow = scope["path"].startswith("/mlflow/") and b"origin" in headers
            if method != "WEBSOCKET" and not from_mlflow and headers.get(CSRF_HEADER, b"").decode("latin-1") != session.csrf:
                raise NotAllowed("The request lacks the session's CSRF token.", remedy="Reload the page.", code="bad_csrf")
        return self._access.principal_of_user(session.user)

    def _check(self, principal: Principal, rule: Rule, parameters: Mapping[str, str], path: str) -> None:
        if principal.workload_id is not None and not rule.workload_may:
            raise NotAllowed("A workload's own token does not reach this.", remedy="Use a token of a person: narf token create")
        if rule.scope is RuleScope.SIGNED_IN:
            return
        if rule.scope is RuleScope.ADMIN:
            if not (principal.is_admin and principal.role_limit is Role.ADMIN):
                raise NotAllowed("Only an admin may do this.", remedy="Ask an admin of this platform.")
            return
        project, shown = self._project(rule, parameters)
        role = principal.role_in(project) if project is not None else None
        if project is None or role is None:  # what may not be seen is not told apart from what does not exist
            raise NotFound(*shown)
        if not role.includes(rule.role):
            raise NotAllowed(
                f"This needs the role {rule.role} in project {project!r}; yours is {role}.", remedy="Ask a maintainer of the project."
            )

    def _project(self, rule: Rule, parameters: Mapping[str, str]) -> tuple[str | None, tuple[str, str]]:
        if rule.scope is RuleScope.PROJECT:
            name = unquote(parameters["project"])
            return (name if self._project_exists(name) else None), ("project", name)
        object_id = unquote(parameters[rule.parameter])
        return self._resolvers[rule.kind](object_id), (rule.kind, object_id)


def _bearer(header: str) -> str:
    kind, _, value = header.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":  # git, and MLflow with a user name: the password is the token
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""


def _cookie(header: str) -> str:
    jar: SimpleCookie = SimpleCookie()
    jar.load(header)
    return jar[COOKIE].value if COOKIE in jar else ""


def _check_origin(headers: Mapping[bytes, bytes]) -> None:
    origin = headers.get(b"origin")
    if origin is None:
        return  # not a browser's cross-site request: those always say where they come from
    host = headers.get(b"host", b"")
    if origin.split(b"://")[-1] != host:
        raise NotAllowed("The request comes from another site.", remedy="Open the page at its own address.", code="bad_origin")
