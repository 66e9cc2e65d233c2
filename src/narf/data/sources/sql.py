"""Databases through ADBC: Arrow from the driver to the file, no row ever becomes a Python object."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from narf.data.sources.connector import QUERIES, TABLES, Lacking, Selection, gone, refused, scrubbed, unreachable
from narf.data.sources.select_only import check_select
from narf.domain.errors import BadInput, NarfError

_CONNECT_SECONDS = 10
_FRAME = re.compile(
    r"^([A-Z_]+: )?(\[[a-z]+\] )?(Failed to \w+ query: |could not begin COPY: )?(ERROR:\s+)?"
)  # what drivers put around the database's words
_AFTER = re.compile(r"\n?LINE \d+:|\n?Query was:|\. SQLSTATE:|SQLSTATE:")
_MOST_DIGITS = 38  # of a 128-bit decimal


class SqlConnector(Lacking):
    """What PostgreSQL and SQLite share."""

    abilities = frozenset({TABLES, QUERIES})
    _tables_query = ""

    def __init__(self, name: str, options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        self.name, self._options, self._secrets = name, dict(options), dict(secrets)
        self._connection: Any = None

    def test(self) -> str:
        return f"{len(self.tables()):,} tables can be read."

    def tables(self) -> list[str]:
        with self._errors(), self._cursor() as cursor:
            cursor.execute(self._tables_query)
            return [str(name) for name in cursor.fetch_arrow_table().column(0).to_pylist()]

    @contextmanager
    def read(self, selection: Selection) -> Iterator[pa.RecordBatchReader]:
        query = check_select(selection.query) if selection.query else f"SELECT * FROM {_table(selection.table)}"
        with self._errors(), self._cursor() as cursor:
            self._prepare(cursor)
            cursor.execute(f"{query}\n")  # a comment at its end must not swallow what the driver puts behind it
            with cursor.fetch_record_batch() as reader:
                yield self._shaped(reader, query)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> Any:
        raise NotImplementedError

    def _prepare(self, cursor: Any) -> None:
        return None

    def _shaped(self, reader: pa.RecordBatchReader, query: str) -> pa.RecordBatchReader:
        """The result of `query` with better types than the driver gives, where there are any."""
        return reader

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self._connection is None:
            self._connection = self._connect()
        with self._connection.cursor() as cursor:
            yield cursor

    @contextmanager
    def _errors(self) -> Iterator[None]:
        import adbc_driver_manager

        try:
            yield
        except (adbc_driver_manager.Error, pa.ArrowException, OSError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> NarfError:
        said = scrubbed(_FRAME.sub("", _AFTER.split(str(error), maxsplit=1)[0]), self._secrets)
        said = " ".join(said.split())[:400].rstrip(".:; ") + "."
        return self._meaning(said, said.lower(), str(getattr(error, "sqlstate", "") or ""))

    def _meaning(self, said: str, lower: str, state: str) -> NarfError:
        if "read-only transaction" in lower or "readonly database" in lower or "query_only" in lower:
            return BadInput(f"The query on {self.name!r} would write: {said}", remedy="Write a SELECT.", field="query", code="not_select")
        if "unable to open database" in lower or "could not open" in lower:
            return gone(self.name, f"database at {self._options.get('path', '')!r}")
        return BadInput(
            f"The source {self.name!r} does not accept the query: {said}", remedy="Correct the query or the table's name.", field="query"
        )


class PostgresConnector(SqlConnector):
    """`uri` (as a secret), or `host`, `port`, `database`, `user` and `password`."""

    _tables_query = (
        "SELECT table_schema || '.' || table_name FROM information_schema.tables "
        "WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1"
    )

    def _connect(self) -> Any:
        from adbc_driver_postgresql import dbapi

        connection = dbapi.connect(self._uri(), autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute("SET default_transaction_read_only = on")
        return connection

    def _shaped(self, reader: pa.RecordBatchReader, query: str) -> pa.RecordBatchReader:
        """NUMERIC(p, s), which the driver gives as text, as decimals. Without (p, s) the database names no scale: it stays text."""
        numeric = [field.name for field in reader.schema if getattr(field.type, "type_name", "") == "numeric"]
        digits = self._digits(query) if numeric else {}
        fields = [pa.field(one.name, pa.decimal128(*digits[one.name])) if one.name in digits else one for one in reader.schema]
        schema = pa.schema(fields)
        return pa.RecordBatchReader.from_batches(schema, self._decimals(reader, schema)) if digits else reader

    def _digits(self, query: str) -> dict[str, tuple[int, int]]:
        """Precision and scale by column, as the database describes a result without rows."""
        try:
            import psycopg
        except ModuleNotFoundError:  # narf[postgres] is not installed: text is what there is
            return {}
        try:
            with psycopg.connect(self._uri()) as connection:
                connection.read_only = True
                described = connection.execute(f"SELECT * FROM ({query}\n) AS q LIMIT 0").description or []
        except psycopg.Error as error:
            raise self._error(error) from error
        return {
            column.name: (column.precision, column.scale)
            for column in described
            if column.precision is not None and column.scale is not None and 0 <= column.scale <= column.precision <= _MOST_DIGITS
        }

    def _decimals(self, reader: pa.RecordBatchReader, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        for batch in reader:
            columns = [
                column if column.type == field.type else self._decimal(column.storage, field)
                for column, field in zip(batch.columns, schema, strict=True)
            ]
            yield pa.RecordBatch.from_arrays(columns, schema=schema)

    def _decimal(self, values: pa.Array, field: pa.Field) -> pa.Array:
        try:
            return values.cast(field.type)
        except pa.ArrowInvalid as error:  # NaN is the one thing that NUMERIC(p, s) holds and a decimal does not
            raise BadInput(
                f"The column {field.name!r} of {self.name!r} holds NaN, which no decimal can be.",
                remedy=f"Write a query with NULLIF({field.name}, 'NaN') or {field.name}::float8.",
                field="query",
            ) from error

    def _uri(self) -> str:
        if uri := self._options.get("uri"):
            if "connect_timeout" in uri:
                return uri
            joint = " " if "://" not in uri else "&" if "?" in uri else "?"
            return f"{uri}{joint}connect_timeout={_CONNECT_SECONDS}"
        given = self._options
        who = quote(given.get("user", ""), safe="")
        if given.get("password"):
            who += ":" + quote(given["password"], safe="")
        host = given.get("host", "localhost")
        at = f"{who}@" if who else ""
        place = f"/{quote(given.get('database', ''), safe='')}"
        more = [f"{name}={quote(given[name], safe='')}" for name in ("sslmode", "sslrootcert") if given.get(name)]
        if host.startswith("/"):  # a folder with the server's socket
            more.append(f"host={quote(host, safe='')}")
            host = ""
        more.append(f"connect_timeout={_CONNECT_SECONDS}")
        return f"postgresql://{at}{host}{':' + given['port'] if given.get('port') else ''}{place}?{'&'.join(more)}"

    def _meaning(self, said: str, lower: str, state: str) -> NarfError:
        if (
            "password authentication failed" in lower
            or "no password supplied" in lower
            or state.startswith("28")
            or "permission denied" in lower
            or "no pg_hba.conf entry" in lower
            or ('role "' in lower and "does not exist" in lower)
        ):
            return refused(self.name, said)
        if 'database "' in lower and "does not exist" in lower:
            return gone(self.name, f"database {self._options.get('database', '')!r}")
        if (
            "connection to server" in lower
            or "could not translate host" in lower
            or "timeout expired" in lower
            or "connection refused" in lower
        ):
            return unreachable(self.name, said)
        if "could not connect" in lower or "server closed the connection" in lower or "terminating connection" in lower:
            return unreachable(self.name, said)
        return super()._meaning(said, lower, state)


class SqliteConnector(SqlConnector):
    """A database file on the platform's machine, opened read-only."""

    _tables_query = "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%' ORDER BY name"

    def _connect(self) -> Any:
        from adbc_driver_sqlite import dbapi

        path = Path(self._options["path"])
        if not path.is_file():
            raise gone(self.name, f"database at {str(path)!r}")
        return dbapi.connect(f"file:{quote(str(path))}?mode=ro", autocommit=True)

    def _prepare(self, cursor: Any) -> None:
        cursor.adbc_statement.set_options(**{"adbc.sqlite.query.batch_rows": 65_536})


def _table(name: str) -> str:
    """SCHEMA.TABLE with each part quoted."""
    parts = name.split(".")
    if not name or any(not part for part in parts) or "\0" in name:
        raise BadInput(f"{name!r} is no name of a table.", remedy="Write TABLE or SCHEMA.TABLE.", field="table")
    return ".".join('"' + part.strip('"').replace('"', '""') + '"' for part in parts)
