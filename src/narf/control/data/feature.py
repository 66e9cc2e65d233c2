"""Datasets, their sources, catalogue and lineage as features of the control plane."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from narf.control.app import Feature
from narf.control.data import routes, source_routes
from narf.control.data.lineage import Lineage
from narf.control.data.outbox import CatalogueOutbox
from narf.control.data.service import DatasetService
from narf.control.data.sources import ImportReconciler, SourceService
from narf.control.data.tables import IcebergTables
from narf.control.database import Database
from narf.control.reconcile import Reconciler
from narf.data.catalogue import open_catalogue


@dataclass(frozen=True, kw_only=True)
class Data:
    datasets: DatasetService
    features: list[Feature]
    reconcilers: list[Reconciler]
    close: Callable[[], None]


def data(
    *,
    database: Database,
    database_url: str,
    home: Path,
    catalogue: str,
    secret: Callable[[str, str], str],
    wake: Callable[[Collection[str]], None],
    now: Callable[[], datetime],
) -> Data:
    """secret: the value of a project's secret by its name. wake: have the reconcilers of these names look at once."""
    tables = IcebergTables(database_url, home / "data" / "iceberg")
    datasets = DatasetService(database, home / "data", now, register_table=tables.register)
    outbox = CatalogueOutbox(database, open_catalogue(catalogue, home / "catalogue"))
    datasets.registered = lambda: wake((outbox.name,))
    sources = SourceService(database, datasets, secret, now)
    sources.wake = lambda: wake((ImportReconciler.name,))
    return Data(
        datasets=datasets,
        features=[
            Feature(router=routes.router(datasets, Lineage(database, now)), rules=routes.RULES),
            Feature(router=source_routes.router(sources), rules=source_routes.RULES, resolvers={"import": sources.project_of}),
        ],
        reconcilers=[outbox, ImportReconciler(database, sources, datasets, now)],
        close=tables.close,
    )
