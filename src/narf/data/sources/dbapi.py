"""Any database with a Python DB-API 2.0 driver, or an ODBC driver: rows through Python, so slower than ADBC.

Which databases work is up to their drivers; none but SQLite's was tried by us, and the command line says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pyarrow as pa

from narf.data.sources.connector import QUERIES, TABLES, Lacking, Selection, scrubbed, unreachable
from narf.data.sources.select_only import check_select
from narf.domain.errors import BadInput

_ROWS = 10_000


class DbApiConnector(Lacking):
    """`module`: the driver's name; `dsn` is its first argument, further options are passed by name."""

    abilities = frozenset({TABLES, QUERIES})

    def __init__(self, name: str, options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.name, self._secrets = name, dict(secrets)
        given = dict(options)
        self._driver = import_module(given.pop("module"))
        dsn = given.pop("dsn", "")
        self._positional, self._named = ([dsn] if dsn else []), given

    def test(self) -> str:
        with self._cursor():
            return "The database answers."

    def tables(self) -> list[str]:
        raise BadInput(f"The source {self.name!r} cannot list its tables.", remedy="Name a table or write a query.", code="wrong_selection")

    @contextmanager
    def read(self, selection: Selection) -> Iterator[pa.RecordBatchReader]:
        query = check_select(selection.query) if selection.query else f"SELECT * FROM {_plain_name(selection.table)}"
        with self._cursor() as cursor:
            try:
                cursor.execute(query)
            except self._driver.Error as error:
                raise BadInput(
                    f"The source {self.name!r} does not accept the query: {scrubbed(str(error), self._secrets)[:300]}", field="query"
                ) from error
            names = [column[0] for column in cursor.description]
            first = cursor.fetchmany(_ROWS)
            schema = _schema(names, first)
            yield pa.RecordBatchReader.from_batches(schema, self._batches(cursor, first, schema))

    def _batches(self, cursor: Any, rows: Sequence[Sequence[Any]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        while rows:
            columns = list(zip(*rows, strict=True))
            try:
                arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise BadInput(
                    f"A column of {self.name!r} changes its type among the rows: {error}", remedy="Cast it in the query."
                ) from error
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            rows = cursor.fetchmany(_ROWS)

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        try:
            connection = self._driver.connect(*self._positional, **self._named)
        except self._driver.Error as error:
            raise unreachable(self.name, scrubbed(str(error), self._secrets)[:300]) from error
        try:
            cursor = connection.cursor()
            yield cursor
        finally:
            connection.rollback()
            connection.close()


class OdbcConnector(DbApiConnector):
    """`connection_string`, best as a secret, for pyodbc."""

    def __init__(self, name: str, options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        super().__init__(name, {"module": "pyodbc", "dsn": options["connection_string"]}, secrets)


def _schema(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Schema:
    """From the first rows; a column of nothing but nulls is text."""
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    types = [pa.infer_type(values) if any(value is not None for value in values) else pa.string() for values in columns]
    return pa.schema([pa.field(name, type) for name, type in zip(names, types, strict=True)])


def _plain_name(name: str) -> str:
    if not name or not all(part.isidentifier() for part in name.split(".")):
        raise BadInput(f"{name!r} is no plain name of a table.", remedy="Write a query, quoting as the database does.", field="table")
    return name
