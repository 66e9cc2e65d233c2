"""Finds the table in a set of files: Parquet, CSV or Arrow files of one schema, read as one stream of batches."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from narf.domain.errors import BadInput, NarfError

BATCH_ROWS = 65_536
_FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".tsv": "csv", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
_ASIDE = re.compile(
    r"(^|/)(\.[^/]*|_[^/]*|(readme|licen[cs]e|copying|notice|attribution|changelog)[^/]*|[^/]*\.(md|rst|txt|json|ya?ml|toml))$", re.I
)
_CSV_COLUMN = re.compile(r"CSV column #(\d+): CSV conversion error to (\w+)")


@dataclass(frozen=True, slots=True)
class TableFile:
    """`path` in the version, `place` on disk."""

    path: str
    place: Path


@dataclass(frozen=True, slots=True)
class Table:
    """Files of one format and one schema, in order of path."""

    format: str
    schema: pa.Schema
    files: tuple[TableFile, ...]

    def batches(self, columns: Sequence[str] | None = None, *, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        for file in self.files:
            yield from self.batches_of(file, columns, rows=rows)

    def batches_of(self, file: TableFile, columns: Sequence[str] | None = None, *, rows: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        schema = self.schema if columns is None else pa.schema([self.schema.field(name) for name in columns])
        for batch in _READERS[self.format](file, self.schema, schema.names, rows):
            for at in range(0, batch.num_rows, rows):
                yield _cast(batch.slice(at, rows), schema)

    def only(self, paths: Iterable[str]) -> Table:
        """The same table without its other files."""
        wanted = set(paths)
        return Table(self.format, self.schema, tuple(file for file in self.files if file.path in wanted))


@dataclass(frozen=True, slots=True)
class NoTable:
    """`why`, as a sentence, where somebody might have expected one."""

    why: str = ""


def find_table(paths: Sequence[str], place: Callable[[str], Path]) -> Table | NoTable:
    """The table that the files of these paths are, leaving aside notes, licences and hidden files.

    place: where the bytes of a path are; asked for tabular files only, because a version may have a hundred thousand others.
    Raises:
        BadInput: a file that says it is Parquet or Arrow is not.
    """
    formats = {path: format for path in paths if (format := _format_of(path))}
    if not formats:
        return NoTable()
    if other := next((path for path in paths if path not in formats and not _ASIDE.search(path)), None):
        return NoTable(f"It is no table, for {other!r} is neither Parquet, CSV nor Arrow.")
    kinds = sorted(set(formats.values()))
    if len(kinds) > 1:
        return NoTable(f"It is no table, for its files have several formats: {', '.join(kinds)}.")
    return _unite(kinds[0], tuple(TableFile(path, place(path)) for path in formats))


def _format_of(path: str) -> str:
    name = path.rpartition("/")[2]
    return "" if name.startswith((".", "_")) else _FORMATS.get(suffix_of(name), "")


def suffix_of(path: str) -> str:
    """ ".csv" of "in/A.CSV". As text: a `Path` for each of a hundred thousand files would cost a second."""
    name = path[path.rfind("/") + 1 :]
    dot = name.rfind(".")
    return name[dot:].lower() if 0 < dot < len(name) - 1 else ""


def _unite(format: str, files: tuple[TableFile, ...]) -> Table | NoTable:
    schemas = []
    for file in files:
        try:
            schemas.append(_SCHEMAS[format](file))
        except NarfError as error:
            if format == "csv":
                return NoTable(f"It is no table: {error.sentence}")
            raise
    first = schemas[0]
    for file, schema in zip(files, schemas, strict=True):
        if schema.names != first.names:
            return NoTable(f"It is no table, for {file.path!r} has other columns than {files[0].path!r}.")
    if len(set(first.names)) != len(first.names):
        return NoTable(f"It is no table, for two columns of {files[0].path!r} have one name.")
    try:
        united = pa.unify_schemas(schemas, promote_options="permissive" if format == "csv" else "default")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return NoTable("It is no table, for its files give one column different types.")
    return Table(format, united, files)


# -- one format each: the schema of a file, and its batches


def _parquet(file: TableFile) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(file.place, memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, "Parquet") from error


def _parquet_schema(file: TableFile) -> pa.Schema:
    with _parquet(file) as opened:
        return opened.schema_arrow.remove_metadata()


def _parquet_batches(file: TableFile, schema: pa.Schema, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    with _parquet(file) as opened:
        try:
            yield from opened.iter_batches(batch_size=rows, columns=columns)
        except (pa.ArrowInvalid, OSError) as error:
            raise _broken(file, "Parquet") from error


def _arrow_schema(file: TableFile) -> pa.Schema:
    try:
        with pa.memory_map(str(file.place)) as source:
            return pa.ipc.open_file(source).schema.remove_metadata()
    except (pa.ArrowInvalid, OSError) as error:
        raise _broken(file, "Arrow") from error


def _arrow_batches(file: TableFile, schema: pa.Schema, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file.place)) as source:
        reader = pa.ipc.open_file(source)
        for index in range(reader.num_record_batches):
            yield reader.get_batch(index).select(columns)


def _csv_schema(file: TableFile) -> pa.Schema:
    """Inferred from the whole file: a column that turns out wider than its beginning is widened."""
    if file.place.stat().st_size == 0:
        raise BadInput(f"The file {file.path!r} is empty.", remedy="Remove it, or write its header.")
    types: dict[str, pa.DataType] = {}
    for _ in range(1_000):
        try:
            with _open_csv(file, types) as reader:
                for _batch in reader:
                    pass
                return reader.schema
        except pa.ArrowInvalid as error:
            column = _CSV_COLUMN.search(str(error))
            if column is None:
                raise BadInput(f"The file {file.path!r} is no regular CSV file: {_first_line(error)}") from error
            types[_csv_names(file)[int(column[1])]] = pa.float64() if column[2].startswith("int") else pa.string()
        except OSError as error:
            raise BadInput(f"The file {file.path!r} cannot be read as CSV: {_first_line(error)}") from error
    raise BadInput(f"The columns of {file.path!r} cannot be told.")


def _csv_names(file: TableFile) -> list[str]:
    with file.place.open(encoding="utf-8-sig", newline="") as lines:
        return next(csv.reader(lines, delimiter=_delimiter(file).delimiter))


def _open_csv(file: TableFile, types: dict[str, pa.DataType]) -> Any:
    return pacsv.open_csv(
        file.place,
        read_options=pacsv.ReadOptions(block_size=4 << 20),
        parse_options=_delimiter(file),
        convert_options=pacsv.ConvertOptions(column_types=types, strings_can_be_null=False),
    )


def _delimiter(file: TableFile) -> pacsv.ParseOptions:
    return pacsv.ParseOptions(delimiter="\t" if file.path.lower().endswith(".tsv") else ",", newlines_in_values=True)


def _csv_batches(file: TableFile, schema: pa.Schema, columns: list[str], rows: int) -> Iterator[pa.RecordBatch]:
    with _open_csv(file, {field.name: field.type for field in schema}) as reader:
        for batch in reader:
            yield batch.select(columns)


def _broken(file: TableFile, kind: str) -> BadInput:
    what = "is empty" if file.place.stat().st_size == 0 else "is damaged, or no such file"
    return BadInput(
        f"{file.path!r} cannot be read as {kind}: it {what}.", remedy="Write it again, or leave it out with a pattern.", code="bad_file"
    )


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0][:200]


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    return (
        batch
        if batch.schema.equals(schema)
        else pa.RecordBatch.from_arrays(
            [column if column.type == field.type else column.cast(field.type) for column, field in zip(batch.columns, schema, strict=True)],
            schema=schema,
        )
    )


_SCHEMAS = {"parquet": _parquet_schema, "arrow": _arrow_schema, "csv": _csv_schema}
_READERS = {"parquet": _parquet_batches, "arrow": _arrow_batches, "csv": _csv_batches}


def describe_schema(schema: pa.Schema) -> list[dict[str, Any]]:
    """As plain data, for people and programs."""
    return [{"name": field.name, "type": str(field.type), "nullable": bool(field.nullable)} for field in schema]
