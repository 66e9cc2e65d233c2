"""Looks into a source before anything is copied: schema, first rows and statistics of a part."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from narf.data.folder import matches
from narf.data.importing import storable
from narf.data.sources.connector import FILES, QUERIES, TABLES, Connector, RemoteFile, RemoteStream, Selection
from narf.data.statistics import plain_rows, statistics_of
from narf.data.tabular import describe_schema
from narf.domain.errors import BadInput

_ROWS = 10_000  # looked at for statistics
_HEAD_BYTES = 1 << 20
_ENTRIES = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePreview:
    """`entries`: files or tables that are there. `statistics` are those of the first rows only, and say of how many."""

    columns: list[dict[str, Any]]
    rows: list[list[Any]]
    statistics: dict[str, Any]
    entries: list[dict[str, Any]]
    total_rows: int | None = None


def preview(connector: Connector, selection: Selection, limit: int) -> SourcePreview:
    """What `selection` would bring; of an empty selection, what there is to select."""
    if selection.is_tabular:
        with connector.read(selection) as reader:
            schema = storable(reader.schema)
            return _of_batches(schema, (batch if batch.schema == schema else batch.cast(schema) for batch in reader), limit)
    if FILES in connector.abilities:
        files = [
            file
            for file in islice(connector.list_files(selection.path), 10 * _ENTRIES)
            if not selection.pattern or matches(file.path, selection.pattern)
        ]
        return _of_files(connector, files, limit)
    if TABLES in connector.abilities:
        return _nothing([{"path": name} for name in connector.tables()[:_ENTRIES]])
    assert QUERIES in connector.abilities
    raise BadInput(f"The source {connector.name!r} shows nothing by itself.", remedy="Write a query: --query 'SELECT ...'")


def _of_files(connector: Connector, files: list[RemoteFile], limit: int) -> SourcePreview:
    entries = [{"path": file.path, "size": file.size} for file in files[:_ENTRIES]]
    for file in files:
        suffix = Path(file.path).suffix.lower()
        if suffix in (".parquet", ".pq", ".csv", ".tsv"):
            found = _of_parquet(connector, file, limit) if suffix in (".parquet", ".pq") else _of_csv(connector, file, limit)
            return SourcePreview(
                columns=found.columns, rows=found.rows, statistics=found.statistics, entries=entries, total_rows=found.total_rows
            )
    return _nothing(entries)


def _of_parquet(connector: Connector, file: RemoteFile, limit: int) -> SourcePreview:
    with connector.open(file.path) as stream:
        if not stream.seekable():
            return _nothing([])
        try:
            opened = pq.ParquetFile(pa.PythonFile(_Whole(stream), mode="r"))
            found = _of_batches(opened.schema_arrow.remove_metadata(), opened.iter_batches(batch_size=_ROWS), limit)
        except pa.ArrowInvalid as error:
            what = "is empty" if file.size == 0 else "is damaged, or no such file"
            raise BadInput(f"{file.path!r} of {connector.name!r} cannot be read as Parquet: it {what}.", code="bad_file") from error
        return SourcePreview(
            columns=found.columns, rows=found.rows, statistics=found.statistics, entries=[], total_rows=opened.metadata.num_rows
        )


def _of_csv(connector: Connector, file: RemoteFile, limit: int) -> SourcePreview:
    with connector.open(file.path) as stream:
        head = _Whole(stream).read(_HEAD_BYTES)
    if len(head) == _HEAD_BYTES:
        head = head[: head.rfind(b"\n") + 1] or head
    options = pacsv.ParseOptions(delimiter="\t" if file.path.lower().endswith(".tsv") else ",", newlines_in_values=True)
    try:
        table = pacsv.read_csv(pa.BufferReader(head), parse_options=options)
    except pa.ArrowInvalid as error:
        raise BadInput(
            f"{file.path!r} of {connector.name!r} is no regular CSV file: {str(error).splitlines()[0]}", code="bad_file"
        ) from error
    return _of_batches(table.schema, iter(table.to_batches()), limit)


class _Whole:
    """A stream that gives as much as it is asked for: remote ones give what has arrived, which readers of files take for the end."""

    closed = False

    def __init__(self, stream: RemoteStream) -> None:
        self._stream: Any = stream

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while size < 0 or len(found) < size:
            block = self._stream.read(size - len(found) if size >= 0 else -1)
            if not block:
                break
            found += block
        return bytes(found)

    def seek(self, position: int, whence: int = 0) -> int:
        return int(self._stream.seek(position, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def close(self) -> None:
        self.closed = True  # the stream itself belongs to whoever opened it


def _of_batches(schema: pa.Schema, batches: Any, limit: int) -> SourcePreview:
    taken: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        taken.append(batch.slice(0, _ROWS - count))
        count += taken[-1].num_rows
        if count >= _ROWS:
            break
    rows, statistics = statistics_of(schema, taken)
    shown = pa.Table.from_batches(taken, schema=schema).slice(0, limit)
    total = rows if rows < _ROWS else None
    return SourcePreview(columns=describe_schema(schema), rows=plain_rows(shown), statistics=statistics, entries=[], total_rows=total)


def _nothing(entries: list[dict[str, Any]]) -> SourcePreview:
    return SourcePreview(columns=[], rows=[], statistics={}, entries=entries)
