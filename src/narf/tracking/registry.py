"""MLflow's model registry under the `narf:` scheme: MLflow's own store on the same database."""

from __future__ import annotations

from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from sqlalchemy import Engine

from narf.tracking.store import NarfTrackingStore, database_of


class NarfRegistryStore(WorkspaceAwareSqlAlchemyStore):  # type: ignore[misc]
    def __init__(self, store_uri: str | None = None) -> None:
        super().__init__(database_of(store_uri or ""))

    @classmethod
    def _get_or_create_engine(cls, db_uri: str) -> Engine:
        return NarfTrackingStore._get_or_create_engine(db_uri)
