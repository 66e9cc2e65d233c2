"""Tables of an Iceberg catalogue (REST or SQL); their files are reached with the options of a file source."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa

from narf.data.sources.connector import TABLES, Lacking, Selection, gone, refused, scrubbed, unreachable
from narf.data.sources.files import s3_file_io
from narf.domain.errors import BadInput, NarfError

_REASON = re.compile(r"\[Errno -?\d+\] ([^\"')\]]+)")


class IcebergConnector(Lacking):
    """`catalog`: rest or sql. `files`: the name of the S3 source that holds the table files.

    `catalog_name`: what a catalogue in SQL calls itself in its own tables (one database may hold several); the source's name
    when not given.
    """

    abilities = frozenset({TABLES})

    def __init__(self, name: str, options: Mapping[str, str], secrets: Mapping[str, str]) -> None:
        from pyiceberg.catalog import load_catalog

        self.name, self._secrets = name, dict(secrets)
        if options["catalog"] not in ("rest", "sql"):
            raise BadInput(
                f"The source {name!r} names the catalogue {options['catalog']!r}.", remedy="There are rest and sql.", field="options"
            )
        self._namespace = options.get("namespace", "")
        given = {"type": options["catalog"], "uri": _with_driver(options["uri"])}
        given |= {key: options[key] for key in ("warehouse", "token", "credential") if options.get(key)}
        theirs = {key.removeprefix("files."): value for key, value in options.items() if key.startswith("files.")}
        if theirs.get("kind") == "s3":
            given |= s3_file_io(theirs)
        if given["type"] == "sql":
            given["init_catalog_tables"] = "false"
        with self._errors():
            self._catalog = load_catalog(options.get("catalog_name") or name, **given)

    def test(self) -> str:
        return f"{len(self.tables()):,} tables can be read."

    def tables(self) -> list[str]:
        with self._errors(f"namespace {self._namespace!r}"):
            top = tuple(self._namespace.split(".")) if self._namespace else ()
            spaces = [*([top] if top else []), *self._below(top)]
            return sorted(".".join(table) for space in spaces for table in self._catalog.list_tables(space))

    def close(self) -> None:
        self._catalog.close()

    def _below(self, space: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        for inner in self._catalog.list_namespaces(space):
            if len(inner) > len(space):
                yield inner
                yield from self._below(inner)

    @contextmanager
    def read(self, selection: Selection) -> Iterator[pa.RecordBatchReader]:
        """`table` is NAMESPACE.TABLE, or NAMESPACE.TABLE@SNAPSHOT for the table as it was."""
        if selection.query:
            raise self._lacks("no queries", "Choose a table.")
        table, _, snapshot = selection.table.partition("@")
        if snapshot and not snapshot.isdigit():
            raise BadInput(f"{snapshot!r} is no snapshot.", remedy="A snapshot is a number.", field="table")
        with self._errors(f"table {table!r}"):
            found = self._catalog.load_table(table)
            with found.scan(snapshot_id=int(snapshot) if snapshot else None).to_arrow_batch_reader() as reader:
                yield reader

    @contextmanager
    def _errors(self, what: str = "such table") -> Iterator[None]:
        from pyiceberg import exceptions
        from requests.exceptions import RequestException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except NarfError:
            raise
        except (exceptions.NoSuchTableError, exceptions.NoSuchNamespaceError, exceptions.NoSuchIdentifierError) as error:
            raise gone(self.name, what) from error
        except (exceptions.UnauthorizedError, exceptions.ForbiddenError, exceptions.OAuthError) as error:
            raise refused(self.name, self._said(error)) from error
        except (exceptions.RESTError, RequestException, SQLAlchemyError, OSError, pa.ArrowException) as error:
            raise unreachable(self.name, self._said(error)) from error
        except ValueError as error:
            raise BadInput(f"The source {self.name!r}: {self._said(error)}", remedy="Check the table and the options.") from error

    def _said(self, error: Exception) -> str:
        text = str(error)
        if "Max retries exceeded" in text and (reason := _REASON.search(text)):
            return f"{reason[1]}."
        return scrubbed(text.splitlines()[0] if text else type(error).__name__, self._secrets)[:300]


def _with_driver(uri: str) -> str:
    """A PostgreSQL address for the driver that we bring."""
    return "postgresql+psycopg://" + uri.removeprefix("postgresql://") if uri.startswith("postgresql://") else uri
