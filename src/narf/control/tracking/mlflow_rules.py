"""What each call of MLflow's API asks of its caller. What is not listed here is refused, also what MLflow adds later.

MLflow names its objects in queries and bodies, not in paths, so the general rules cannot say the project; the gate
does. Here a call is only sorted by what it does: look, or change. Left out on purpose, because they would reach
around the platform: MLflow's gateway and its secrets, its job runners, webhooks, the assistant, tool servers, workspaces
(they are our projects) and OpenTelemetry intake.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from narf.control.access.rules import SIGNED_IN, Rule, Rules, Scope
from narf.domain.access import Role

# Paths that programs use are served at the root, everything (MLflow's pages, too) below /mlflow.
PAGES = "/mlflow"
ROOTS = ("/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/3.0/mlflow")

_API = re.compile(r"/(?:ajax-)?api/[23]\.0/(mlflow|mlflow-artifacts)/(.*)")
_FAMILIES = {
    "artifacts",
    "experiments",
    "runs",
    "metrics",
    "logged-models",
    "registered-models",
    "model-versions",
    "traces",
    "get-online-trace-details",
    "unified-traces",
    "datasets",
    "scorers",
    "label-schemas",
    "review-queues",
    "issues",
    "upload-artifact",
    "get-trace-artifact",
}
_LOOKS_BY_POST = {
    "experiments/search",
    "experiments/search-datasets",
    "runs/search",
    "traces/search",
    "traces/batchGetInfos",
    "traces/calculate-filter-correlation",
    "traces/metrics",
    "logged-models/search",
    "registered-models/get-latest-versions",
    "issues/search",
    "datasets/search",
    "artifacts/presigned-download-url",
}
_REFUSED = {"scorers/online-configs", "scorers/online-config", "runs/create-promptlab-run", "issues/invoke"}
_PAGES_LOOK = ("/", "/get-artifact", "/model-versions/get-artifact", "/version", "/health")
# What a program may call with the token of its workload, besides looking: never what takes away or renames.
_WORKLOAD_NEVER = re.compile(r"(^|/)(delete|rename|restore|transition-stage|delete-traces|presigned-upload-url)($|/)")


def role_for(method: str, path: str) -> Role | None:
    """The role that a call of MLflow's application at `path` (as MLflow knows it) needs; None: refused."""
    if path in _PAGES_LOOK or path.startswith("/static-files/"):
        return Role.VIEWER if method == "GET" else None
    if path == "/graphql":
        return Role.VIEWER
    found = _API.fullmatch(path)
    if found is None:
        return None
    application, call = found.groups()
    if application == "mlflow-artifacts":
        return Role.VIEWER if method == "GET" else Role.DEVELOPER
    if call == "server-info" or call == "workspaces" or re.fullmatch(r"workspaces/[^/]+", call):
        return Role.VIEWER if method == "GET" else None
    if call.split("/", 1)[0] not in _FAMILIES or call in _REFUSED:
        return None
    if method == "GET" or (method == "POST" and call in _LOOKS_BY_POST):
        return Role.VIEWER
    return Role.DEVELOPER


def workload_may(method: str, path: str) -> bool:
    """Whether a workload's own token may make this call (the gate still looks at which run it is about)."""
    role = role_for(method, path)
    if role is None or role is Role.VIEWER:
        return role is not None
    call = path.rsplit("mlflow/", 1)[-1]
    if call in ("runs/delete-tag", "registered-models/delete-tag", "model-versions/delete-tag"):
        return True
    if method == "DELETE":
        return call in ("registered-models/alias",)
    return _WORKLOAD_NEVER.search(call) is None


def rules_of(routes: Iterable[tuple[str, str]]) -> Rules:
    """The rules of MLflow's `routes` for the application they are mounted in, at each place where they are served."""
    rules: Rules = {("GET", PAGES): SIGNED_IN}
    for method, template in routes:
        if role_for(method, template) is None:
            continue
        rule = Rule(Scope.SIGNED_IN, workload_may=workload_may(method, template))
        rules[(method, PAGES + template.rstrip("/"))] = rule
        if template.startswith(tuple(root + "/" for root in ROOTS)):
            rules[(method, template)] = rule
    return rules
