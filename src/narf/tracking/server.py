"""MLflow's server application in our process: its API and pages over our stores, without its job runners.

MLflow reads much of its configuration from the environment and keeps its stores in module variables; both are set here,
once a process. `SERVER_VARIABLES` must not reach the programs that the platform starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from narf.domain.errors import BadInput
from narf.tracking.registry import NarfRegistryStore
from narf.tracking.store import SCHEME, NarfTrackingStore
from narf.tracking.workspaces import ProjectWorkspaces, accept_project_names, in_project

_VALUES = {
    "MLFLOW_ENABLE_WORKSPACES": "true",
    "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    # Host and origin are checked by the platform's own access layer, before MLflow.
    "MLFLOW_SERVER_DISABLE_SECURITY_MIDDLEWARE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
SERVER_VARIABLES = (*_VALUES, "_MLFLOW_SERVER_ARTIFACT_DESTINATION", "_MLFLOW_SERVER_FILE_STORE", "_MLFLOW_SERVER_REGISTRY_STORE")


@dataclass(frozen=True, slots=True)
class Stores:
    tracking: NarfTrackingStore
    registry: NarfRegistryStore
    artifacts: str  # the folder or address that artifacts lie under


def open_stores(
    database: str, artifacts: str, project_exists: Callable[[str], bool], environ: MutableMapping[str, str] = os.environ
) -> Stores:
    """The stores on `database` (a SQLAlchemy address), with artifacts under `artifacts` (a folder or s3://bucket/prefix)."""
    if "://" in artifacts and not artifacts.startswith("s3://"):
        raise BadInput(f"Artifacts cannot be kept at {artifacts!r}.", remedy="Give a folder or s3://bucket/prefix in NARF_ARTIFACT_ROOT.")
    environ.update(_VALUES)
    accept_project_names()
    if "://" not in artifacts:
        Path(artifacts).mkdir(parents=True, exist_ok=True)
    uri = f"{SCHEME}:{database}"
    environ["_MLFLOW_SERVER_FILE_STORE"] = environ["_MLFLOW_SERVER_REGISTRY_STORE"] = uri
    environ["_MLFLOW_SERVER_ARTIFACT_DESTINATION"] = artifacts
    workspaces = ProjectWorkspaces(project_exists)
    with in_project("default"):
        tracking = NarfTrackingStore(uri, "mlflow-artifacts:/", workspaces=workspaces)
        return Stores(tracking, NarfRegistryStore(uri, tracking), artifacts)


def mlflow_app(stores: Stores) -> ASGIApp:
    """MLflow's application on these stores. One a process: building another redirects the first."""
    from mlflow.server import handlers, workspace_helpers

    handlers._tracking_store = stores.tracking
    handlers._model_registry_store = stores.registry
    handlers._artifact_repo = _repository(stores.artifacts)
    workspace_helpers._workspace_store = stores.tracking._workspace_provider
    from mlflow.server.fastapi_app import create_fastapi_app

    app: ASGIApp = create_fastapi_app()
    return app


def _repository(root: str) -> Any:
    """Where MLflow's handlers keep artifacts; None: they choose by the address of a local folder."""
    if not root.startswith("s3://"):
        return None
    from narf.tracking.s3_artifacts import S3Artifacts

    return S3Artifacts(root)


def routes() -> Iterator[tuple[str, str]]:
    """(method, path template) of everything that MLflow's application answers; templates as FastAPI writes them."""
    from mlflow.server import app as flask_app
    from mlflow.server import fastapi_app

    for rule in flask_app.url_map.iter_rules():
        template = _braces(rule.rule)
        for method in sorted(rule.methods - {"HEAD", "OPTIONS"}):
            yield method, template
    for router in _routers(fastapi_app):
        for route in router.routes:
            for method in sorted(getattr(route, "methods", None) or ()):
                if method not in ("HEAD", "OPTIONS"):
                    yield method, route.path


def _routers(module: Any) -> Iterator[Any]:
    names = ("otel_router", "job_api_router", "gateway_router", "assistant_router", "artifact_router", "server_info_router")
    for name in names:
        yield getattr(module, name)


def _braces(rule: str) -> str:
    """Flask's <path:name> and <name> as {name:path} and {name}."""
    parts = []
    for segment in rule.split("/"):
        if segment.startswith("<"):
            kind, _, name = segment[1:-1].rpartition(":")
            segment = f"{{{name}:path}}" if kind == "path" else f"{{{name}}}"
        parts.append(segment)
    return "/".join(parts)
