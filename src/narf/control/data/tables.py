"""Registers table versions as Iceberg snapshots, in a catalogue in our own database.

The data files stay the content-addressed Parquet objects: Iceberg's manifests point at them, nothing is copied. Each version
is one snapshot of the table "project.dataset", which is what Spark, Trino or DuckDB see of it.

Columns that a version adds are added to the table. When columns vanish or change their type, a new table begins
("dataset@v7"): objects carry no Iceberg field ids, so the names in older snapshots must keep their meaning.
"""

from __future__ import annotations

import fcntl
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from narf.control.data.store import DatasetVersion
from narf.data.manifest import Manifest
from narf.data.objects import ObjectStore
from narf.data.profiling import table_of
from narf.data.tabular import NoTable

_log = logging.getLogger(__name__)
_PROPERTY = "narf.version"


class IcebergTables:
    """`root`: where Iceberg's own metadata goes. Writes are one at a time over all processes of this machine."""

    def __init__(self, database_url: str, root: Path) -> None:
        self._url, self._root = database_url, root
        self._catalog: Any = None

    def register(self, version: DatasetVersion, manifest: Manifest, objects: ObjectStore) -> Mapping[str, Any] | None:
        """The table, snapshot and metadata file that stand for `version`; made if they are not there yet.

        None for what Iceberg cannot point at: CSV and Arrow files. A table with types that Iceberg lacks gets a note that says so.
        """
        if version.format != "parquet":
            return None
        found = table_of(manifest, objects)
        if isinstance(found, NoTable):
            return {"note": found.why}
        files = [f"file://{file.place.absolute()}" for file in found.files]
        try:
            with self._alone():
                return self._register(version, found.schema, files)
        except (TypeError, ValueError, NotImplementedError) as error:
            _log.info("%s is not an Iceberg table: %s", version.node, error)
            return {"note": f"Iceberg cannot hold it: {str(error).splitlines()[0][:300]}"}

    def _register(self, version: DatasetVersion, schema: Any, files: list[str]) -> Mapping[str, Any]:
        catalog = self._open()
        catalog.create_namespace_if_not_exists(version.project)
        identifier = (version.project, self._table_for(catalog, version, schema))
        table = catalog.create_table_if_not_exists(identifier, schema)
        mark = f"{version.node} {version.id}"
        snapshot = next(
            (s for s in table.snapshots() if s.summary is not None and s.summary.additional_properties.get(_PROPERTY) == mark), None
        )
        if snapshot is None:
            _add_columns(table, schema)
            _replace_files(table, files, mark)
            snapshot = table.current_snapshot()
        return {
            "table": ".".join(identifier),
            "snapshot_id": str(snapshot.snapshot_id),  # as text: it does not fit JavaScript's numbers
            "metadata": table.metadata_location,
        }

    def _table_for(self, catalog: Any, version: DatasetVersion, schema: Any) -> str:
        """The table this version belongs to: the one its predecessors began, or a new one."""
        begun: dict[int, str] = {}
        for _, name in catalog.list_tables(version.project):
            dataset, _, number = name.partition("@v")
            if dataset == version.dataset and int(number or 0) <= version.number:
                begun[int(number or 0)] = name
        if not begun:
            return version.dataset
        newest = begun[max(begun)]
        if max(begun) == version.number or _fits(catalog.load_table((version.project, newest)), schema):
            return newest
        return f"{version.dataset}@v{version.number}"

    def _open(self) -> Any:
        if self._catalog is None:
            from pyiceberg.catalog.sql import SqlCatalog

            url = self._url
            if url.startswith("postgresql://"):
                url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
            self._root.mkdir(parents=True, exist_ok=True)
            self._catalog = SqlCatalog("narf", uri=url, warehouse=f"file://{self._root.absolute()}")
        return self._catalog

    def close(self) -> None:
        """Let go of the catalogue's connections."""
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Two writers at once would make one of them fail and try again; a lock makes them wait instead."""
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / "write.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _fits(table: Any, schema: Any) -> bool:
    """Whether `schema` has every column of the table, of its type."""
    wanted = {field.name: field.field_type for field in _iceberg_schema(schema).fields}
    return all(wanted.get(field.name) == field.field_type for field in table.schema().fields)


def _add_columns(table: Any, schema: Any) -> None:
    known = {field.name for field in table.schema().fields}
    new = [field for field in _iceberg_schema(schema).fields if field.name not in known]
    if new:
        with table.update_schema() as change:
            for field in new:
                change.add_column((field.name,), field.field_type)


def _iceberg_schema(schema: Any) -> Any:
    from pyiceberg.io.pyarrow import _pyarrow_to_schema_without_ids

    return _pyarrow_to_schema_without_ids(schema)


def _replace_files(table: Any, files: list[str], mark: str) -> None:
    from pyiceberg.expressions import AlwaysTrue

    with table.transaction() as change:
        if table.current_snapshot() is not None:
            change.delete(AlwaysTrue())
        change.add_files(files, snapshot_properties={_PROPERTY: mark}, check_duplicate_files=False)
