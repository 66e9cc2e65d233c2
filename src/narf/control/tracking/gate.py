"""The gate before MLflow's application: finds the project of a request, checks the role in it, and confines MLflow to it.

The project is the one that the client names (MLflow's own workspace header), else that of the token's run, else that
of the run or experiment in the request, else the caller's only project, else `default`. From there on MLflow's
stores see that project alone, so a call that reaches for something else finds nothing.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from narf.control.problems import problem_of
from narf.control.tracking.mlflow_rules import role_for, workload_may
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput, NarfError, NotAllowed, NotFound
from narf.tracking.workspaces import in_project

WORKSPACE_HEADER = b"x-mlflow-workspace"
PARENT_TAG = "narf.parentRun"
_MOST_JSON = 64 << 20
_MLFLOW_CODES = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST", 422: "INVALID_PARAMETER_VALUE"}
# MLflow reads both spellings of a field.
_RUN_FIELDS = ("run_id", "run_uuid", "run_ids", "runId", "runUuid", "runIds")
_EXPERIMENT_FIELDS = ("experiment_id", "experiment_ids", "experimentId", "experimentIds")
# A page that an artifact opens may show itself, but it is nobody: no scripts, no requests, no origin.
ARTIFACT_POLICY = "sandbox; default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; media-src 'self'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owners:
    """Who owns what: id -> project, None if there is no such thing. `parent_of` gives the run that a run was made by."""

    of_run: Callable[[str], str | None]
    of_experiment: Callable[[str], str | None]
    parent_of: Callable[[str], str | None]
    project_exists: Callable[[str], bool]


class MlflowGate:
    """`prefix` is cut from paths: MLflow's pages are served below it."""

    def __init__(self, app: ASGIApp, owners: Owners, *, prefix: str = "") -> None:
        self._app, self._owners, self._prefix = app, owners, prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1000})
            return
        principal: Principal = scope["state"]["principal"]
        path = scope["path"].removeprefix(self._prefix) or "/"
        scope = {**scope, "path": path, "root_path": "", "raw_path": path.encode()}
        try:
            raw = await _read_json(scope, receive)
            project, changed = await to_thread.run_sync(self._admit, scope, principal, raw)
        except NarfError as error:
            await _as_mlflow(error)(scope, receive, send)
            return
        if raw is not None:
            raw = raw if changed is None else changed
            receive = _replay(raw)
        dropped = {WORKSPACE_HEADER} if changed is None else {WORKSPACE_HEADER, b"content-length"}
        scope["headers"] = [(name, value) for name, value in scope["headers"] if name not in dropped]
        if changed is not None:
            scope["headers"].append((b"content-length", str(len(changed)).encode()))
        with in_project(project, visible=principal.projects or (project,)):
            await self._app(scope, receive, _with_policy(path, send))

    def _admit(self, scope: Scope, principal: Principal, raw: bytes | None) -> tuple[str, bytes | None]:
        """The project, and the body to send on where it is another. Raises what the caller is refused with."""
        method, path = ("GET" if scope["method"] == "HEAD" else scope["method"]), scope["path"]
        needed = role_for(method, path)
        if needed is None:
            raise NotFound("route", f"{method} {path}")
        body = _object(raw)
        named: dict[str, list[Any]] = {name: list(values) for name, values in parse_qs(scope["query_string"].decode("latin-1")).items()}
        for name, value in body.items():
            named.setdefault(name, []).append(value)
        project = self._project(dict(scope["headers"]), principal, named)
        role = principal.role_in(project)
        if role is None or not self._owners.project_exists(project):
            raise NotFound("project", project, remedy="Name another with MLFLOW_WORKSPACE.")
        if not role.includes(needed):
            raise NotAllowed(f"This needs the role {needed} in project {project!r}; yours is {role}.", remedy="Ask a maintainer.")
        if principal.run_id is not None and needed is not Role.VIEWER:
            return project, self._of_workload(method, path, principal.run_id, named, body)
        return project, None

    def _project(self, headers: Mapping[bytes, bytes], principal: Principal, named: Mapping[str, list[Any]]) -> str:
        if given := headers.get(WORKSPACE_HEADER, b"").decode("latin-1").strip():
            return given
        if principal.run_id is not None and (project := self._owners.of_run(principal.run_id)):
            return project
        for run_id in _strings(named, *_RUN_FIELDS):
            if project := self._owners.of_run(run_id):
                return project
        for experiment_id in _strings(named, *_EXPERIMENT_FIELDS):
            if project := self._owners.of_experiment(experiment_id):
                return project
        seen = principal.projects
        return seen[0] if seen is not None and len(seen) == 1 else "default"

    def _of_workload(self, method: str, path: str, own: str, named: Mapping[str, list[Any]], body: dict[str, Any]) -> bytes | None:
        """A workload writes to its own run and to runs that it makes; those are marked as its own when they are made."""
        if not workload_may(method, path):
            raise NotAllowed("A program may not do this with the token of its run.", remedy="Use a token of a person.")
        if path.endswith("/runs/create"):
            tags = body.get("tags") or []
            if not isinstance(tags, list):
                raise BadInput("tags is a list.", field="tags")
            kept = [tag for tag in tags if not (isinstance(tag, dict) and tag.get("key") == PARENT_TAG)]
            return json.dumps({**body, "tags": [*kept, {"key": PARENT_TAG, "value": own}]}).encode()
        runs = set(_strings(named, *_RUN_FIELDS))
        if "/mlflow-artifacts/" in path:
            runs |= _run_of_artifact(path)
        for run_id in runs - {own}:
            if self._owners.parent_of(run_id) != own:
                raise NotAllowed(f"This token may change its own run only, not {run_id}.", remedy="Use a token of a person.")
        if "tags" in path.rsplit("/", 1)[-1] or path.endswith(("/set-tag", "/log-batch", "/delete-tag")):
            _keep_parent(body)
        return None


async def _read_json(scope: Scope, receive: Receive) -> bytes | None:
    """The body, where MLflow reads JSON from it (whatever the content type says); None where it is a file."""
    path = scope["path"]
    if scope["method"] in ("GET", "HEAD", "PUT") or "/mlflow-artifacts/artifacts/" in path or path.endswith("/upload-artifact"):
        return None
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        more = message.get("more_body", False)
        if size > _MOST_JSON:
            raise BadInput(f"A request of more than {_MOST_JSON >> 20} MiB is not read.", remedy="Send several.")
    return b"".join(parts)


def _object(raw: bytes | None) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        raise BadInput("The request is not JSON.") from None
    if isinstance(body, str):  # some clients send JSON within a JSON string; MLflow reads it
        return _object(body.encode())
    return body if isinstance(body, dict) else {}


def _keep_parent(body: Mapping[str, Any]) -> None:
    tags = body.get("tags")
    keys = [body.get("key")] + [tag.get("key") for tag in tags if isinstance(tag, dict)] if isinstance(tags, list) else [body.get("key")]
    if PARENT_TAG in keys:
        raise NotAllowed(f"The tag {PARENT_TAG} is set by the platform.")


class _replay:
    """Gives a body that was read already."""

    def __init__(self, body: bytes) -> None:
        self._body, self._given = body, False

    async def __call__(self) -> Message:
        if self._given:
            return {"type": "http.disconnect"}
        self._given = True
        return {"type": "http.request", "body": self._body, "more_body": False}


def _strings(named: Mapping[str, list[Any]], *fields: str) -> list[str]:
    found: list[str] = []
    for field in fields:
        for value in named.get(field, []):
            found += [str(item) for item in (value if isinstance(value, list) else [value]) if isinstance(item, str | int)]
    return found


def _run_of_artifact(path: str) -> set[str]:
    """The run in the address of a run's artifact: [workspaces/NAME/]EXPERIMENT/RUN/artifacts/..."""
    parts = posixpath.normpath(path.split("/mlflow-artifacts/", 1)[1]).split("/")[1:]
    if parts[:1] == ["create"] or parts[:1] == ["complete"] or parts[:1] == ["abort"]:
        parts = parts[1:]
    if parts[:1] == ["workspaces"]:
        parts = parts[2:]
    return {parts[1]} if len(parts) > 2 and parts[2] == "artifacts" and parts[1] != "models" else set()


def _with_policy(path: str, send: Send) -> Send:
    if path == "/" or path.startswith("/static-files/"):
        return send

    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            if "artifact" in path:
                headers["Content-Security-Policy"] = ARTIFACT_POLICY
        await send(message)

    return guarded


def _as_mlflow(error: NarfError) -> Response:
    """The error as MLflow's clients read it."""
    status, body = problem_of(error)
    status = 400 if status == 422 else status
    code = _MLFLOW_CODES.get(status, "INVALID_PARAMETER_VALUE" if status < 500 else "INTERNAL_ERROR")
    return Response(json.dumps({**body, "error_code": code, "message": str(error)}), status, media_type="application/json")
