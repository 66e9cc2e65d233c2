"""MLflow's model registry under the `narf:` scheme: MLflow's own store on the same database."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from mlflow.store.model_registry import sqlalchemy_store
from mlflow.store.model_registry.dbmodels.models import SqlRegisteredModelAlias
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.tracking import MlflowClient
from sqlalchemy import Engine, select

from narf.tracking.store import NarfTrackingStore, database_of

_beside: ContextVar[NarfTrackingStore | None] = ContextVar("narf_tracking_store", default=None)


class NarfRegistryStore(WorkspaceAwareSqlAlchemyStore):  # type: ignore[misc]
    """tracking: the store that knows the models which runs have logged; the one of this process's MLflow when there is none."""

    def __init__(self, store_uri: str | None = None, tracking: NarfTrackingStore | None = None) -> None:
        super().__init__(database_of(store_uri or ""))
        self._tracking = tracking

    @classmethod
    def _get_or_create_engine(cls, db_uri: str) -> Engine:
        return NarfTrackingStore._get_or_create_engine(db_uri)

    def all_aliases(self) -> dict[tuple[str, str, str], int]:
        """(workspace, model, alias) -> version, of all workspaces: MLflow's own calls ask for one at a time."""
        alias = SqlRegisteredModelAlias
        with self.ManagedSessionMaker(read_only=True) as session:
            rows = session.execute(select(alias.workspace, alias.name, alias.alias, alias.version)).all()
        return {(row[0], row[1], row[2]): int(row[3]) for row in rows}

    def create_model_version(self, *arguments: Any, **named: Any) -> Any:
        token = _beside.set(self._tracking)
        try:
            return super().create_model_version(*arguments, **named)
        finally:
            _beside.reset(token)


def _client() -> Any:
    """What MLflow's store asks for a logged model: it would make a client of the process's own tracking address, which in a server
    is no server's at all but a database in the current folder."""
    return _beside.get() or MlflowClient()


sqlalchemy_store.MlflowClient = _client
