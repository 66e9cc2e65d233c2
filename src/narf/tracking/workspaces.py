"""Projects as MLflow workspaces, so that MLflow's own queries separate what projects see.

The project of a request is decided before MLflow sees it, by the part that authorises; MLflow asks here for its default
workspace and gets that one. There is nothing to create or delete on this side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from mlflow.entities import Workspace
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.workspace.abstract_store import AbstractStore, WorkspaceNameValidator
from mlflow.utils.workspace_context import ServerWorkspaceContext
from mlflow.utils.workspace_utils import DEFAULT_WORKSPACE_NAME

_project: ContextVar[str] = ContextVar("narf_project", default=DEFAULT_WORKSPACE_NAME)
_visible: ContextVar[tuple[str, ...]] = ContextVar("narf_visible_projects", default=())


class ProjectWorkspaces(AbstractStore):  # type: ignore[misc]
    """`exists` says whether there is a project of a name."""

    def __init__(self, exists: Callable[[str], bool]) -> None:
        self._exists = exists

    def list_workspaces(self) -> Iterable[Workspace]:
        return [Workspace(name=name) for name in _visible.get() or (_project.get(),)]

    def get_workspace(self, workspace_name: str) -> Workspace:
        if not self._exists(workspace_name):
            raise MlflowException(f"Workspace '{workspace_name}' not found", RESOURCE_DOES_NOT_EXIST)
        return Workspace(name=workspace_name)

    def get_default_workspace(self) -> Workspace:
        return Workspace(name=_project.get())


@contextmanager
def in_project(project: str, *, visible: tuple[str, ...] = ()) -> Iterator[None]:
    """Within, MLflow's stores see `project` and nothing else; `visible` are the projects to list."""
    with ServerWorkspaceContext(project):
        project_token, visible_token = _project.set(project), _visible.set(visible)
        try:
            yield
        finally:
            _project.reset(project_token)
            _visible.reset(visible_token)


def accept_project_names() -> None:
    """Let MLflow take every project's name: ours may hold '.' and '_', have one letter, and be what MLflow reserves."""
    WorkspaceNameValidator._PATTERN = r"^[a-z0-9]([-._a-z0-9]*[a-z0-9])?$"
    WorkspaceNameValidator._MIN_LENGTH = 1
    WorkspaceNameValidator._RESERVED = set()
