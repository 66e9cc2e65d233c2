"""DuckDB as we use it: in memory, bounded, without network, files or extensions; it sees only the tables it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import duckdb
import pyarrow as pa

from narf.data.tabular import Table


@contextmanager
def engine(tables: Mapping[str, Table | pa.Table], *, memory: str = "1GB") -> Iterator[Any]:
    """A connection in which each of `tables` can be queried, any number of times, by its name."""
    connection = duckdb.connect(
        ":memory:",
        config={
            "memory_limit": memory,
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
        },
    )
    try:
        for name, table in tables.items():
            connection.register(name, _scannable(table))
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def first_row(connection: Any, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...]:
    """The first row, and the result closed: DuckDB runs nothing else while one is open."""
    row: tuple[Any, ...] = connection.execute(query, list(values)).fetchall()[0]
    return row


def rows(connection: Any, query: str, values: Sequence[Any] = ()) -> pa.Table:
    found: pa.Table = connection.sql(query, params=list(values)).to_arrow_table()
    return found


def _scannable(table: Table | pa.Table) -> Any:
    """What DuckDB can scan again and again, pushing down columns where the format allows."""
    if isinstance(table, pa.Table):
        return table
    import pyarrow.dataset as ds

    places = [str(file.place) for file in table.files]
    if table.format == "parquet":
        return ds.dataset(places, schema=table.schema, format="parquet")
    if table.format == "arrow":
        return ds.dataset(places, schema=table.schema, format="ipc")
    return pa.Table.from_batches(table.batches(), schema=table.schema)  # CSV files are as large as memory allows
