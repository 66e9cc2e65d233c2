from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from narf.control.data.lineage import Lineage
from narf.control.data.outbox import CatalogueOutbox
from narf.control.data.service import DatasetService
from narf.control.data.sources import Import, ImportReconciler, Request, SourceService
from narf.control.data.tables import IcebergTables
from narf.control.database import Database
from narf.control.projects.store import Project, add_project
from narf.data.catalogue import FileCatalogue
from narf.data.sources.connector import Selection
from narf.domain.access import Principal

ADMIN = Principal(user="ada", is_admin=True)


@dataclass(kw_only=True)
class Data:
    """The services of the feature over one database, and what imports need to be asked for in one line."""

    datasets: DatasetService
    sources: SourceService
    imports: ImportReconciler
    lineage: Lineage
    catalogue: FileCatalogue
    outbox: CatalogueOutbox
    secrets: dict[str, str]
    tables: IcebergTables
    now: Callable[[], datetime]

    def run(
        self, dataset: str, source: str, *, path: str = "", pattern: str = "", table: str = "", query: str = "", **more: object
    ) -> Import:
        """Import, and do the reconciler's work until it has ended."""
        selection = Selection(path=path, pattern=pattern, table=table, query=query)
        started = self.sources.start("default", dataset, source, Request(selection=selection, **more), by="ada")  # type: ignore[arg-type]
        while self.imports.pass_once(self.now()):
            pass
        return self.sources.find_import(started.id)


@pytest.fixture
def data(database: Database, tmp_path: Path, clock: Callable[[], datetime]) -> Iterator[Data]:
    with database.write() as connection:
        add_project(connection, Project(name="default", description="", department="default", created_at=clock()))
    built = build(database, tmp_path, clock)
    yield built
    built.tables.close()


def build(database: Database, home: Path, now: Callable[[], datetime]) -> Data:
    secrets: dict[str, str] = {}
    tables = IcebergTables(database.url, home / "data" / "iceberg")
    datasets = DatasetService(database, home / "data", now, register_table=tables.register)
    sources = SourceService(database, datasets, lambda _project, name: secrets[name], now)
    catalogue = FileCatalogue(home / "catalogue")
    return Data(
        datasets=datasets,
        sources=sources,
        imports=ImportReconciler(database, sources, datasets, now),
        lineage=Lineage(database, now),
        catalogue=catalogue,
        outbox=CatalogueOutbox(database, catalogue),
        secrets=secrets,
        tables=tables,
        now=now,
    )
