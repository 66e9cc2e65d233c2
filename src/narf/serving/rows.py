"""Rows of a file, read as they are needed: what a model is fed when it predicts a whole file. Nothing is rounded or guessed."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from narf.domain.errors import BadInput, MissingExtra
from narf.serving.package import Manifest
from narf.serving.protocol.arrays import cast
from narf.serving.tensors import Array, Tensors, TensorSpec

FORMS = (".parquet", ".csv", ".npy")


class Rows(Protocol):
    count: int

    def tensors(self, start: int, end: int) -> Tensors:
        """The model's inputs for these rows.

        Raises:
            BadInput: a value cannot be what the model takes; the sentence names the column.
        """
        ...


def open_rows(source: Path, manifest: Manifest) -> Rows:
    """The rows of `source` for the model of `manifest`. A Parquet file is read a row group at a time, an array is mapped.

    Raises:
        BadInput: the file cannot be read, or has not what the model takes.
    """
    if not source.exists():
        raise BadInput(f"There is no file {source}.", field="input")
    if source.suffix == ".npy":
        return _Matrix(source, manifest)
    if source.suffix not in FORMS:
        raise BadInput(f"{source.name} has no form that is known.", remedy=f"Use {', '.join(FORMS)}.", field="input")
    arrow, parquet, arrow_csv = arrow_modules()
    table: _Table
    try:
        table = _ParquetFile(parquet.ParquetFile(source), arrow) if source.suffix == ".parquet" else _InMemory(arrow_csv.read_csv(source))
    except (arrow.ArrowInvalid, OSError) as error:
        raise BadInput(f"{source.name} cannot be read: {error}.", field="input") from None
    return _Columns(table, manifest)


def arrow_modules() -> tuple[Any, Any, Any]:
    """pyarrow, pyarrow.parquet, pyarrow.csv."""
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Reading tables", "data") from None
    return pyarrow, pyarrow.parquet, pyarrow.csv


class _Matrix:
    """A NumPy array, as the one input of a model."""

    def __init__(self, source: Path, manifest: Manifest) -> None:
        specs = manifest.caller_inputs
        if len(specs) != 1:
            raise BadInput(
                f"The model has {len(specs)} inputs; an array is one.", remedy="Use a table with a column for each.", field="input"
            )
        try:
            self._array: Array = np.load(source, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise BadInput(f"{source.name} cannot be read: {error}.", field="input") from None
        if self._array.ndim == 0:
            raise BadInput(f"{source.name} has one number and no rows.", field="input")
        self._spec = specs[0]
        self.count = len(self._array)

    def tensors(self, start: int, end: int) -> Tensors:
        return {self._spec.name: _exact(np.asarray(self._array[start:end]), self._spec, "the array")}


class _Columns:
    """A table: a column for each input, or all its columns side by side as the one input of a model."""

    def __init__(self, table: _Table, manifest: Manifest) -> None:
        self._table, self._specs = table, manifest.caller_inputs
        self.count = table.count
        self._is_matrix = len(self._specs) == 1 and self._specs[0].name not in table.names
        self._names = _matrix_columns(table, self._specs[0], manifest.columns) if self._is_matrix else [s.name for s in self._specs]
        if missing := [name for name in self._names if name not in table.names]:
            raise BadInput(
                f"The file has no column {missing[0]!r}, which the model takes.", remedy=_has(table.names, "It has"), field="input"
            )

    def tensors(self, start: int, end: int) -> Tensors:
        columns = {name: _array(column, name) for name, column in self._table.read(start, end, self._names).items()}
        if not self._is_matrix:
            return {spec.name: _shaped(_exact(columns[spec.name], spec, spec.name), spec) for spec in self._specs}
        (spec,) = self._specs
        if len(self._names) == 1 and columns[self._names[0]].ndim > 1:  # one column of lists
            return {spec.name: _shaped(_exact(columns[self._names[0]], spec, self._names[0]), spec)}
        exact = [_exact(columns[name], spec, name) for name in self._names]
        return {spec.name: _shaped(np.ascontiguousarray(np.stack(exact, axis=1)), spec)}


class _Table(Protocol):
    count: int
    names: list[str]

    def read(self, start: int, end: int, names: Sequence[str]) -> dict[str, Any]: ...


class _InMemory:
    def __init__(self, table: Any) -> None:
        self._table = table
        self.count, self.names = int(table.num_rows), list(table.column_names)

    def read(self, start: int, end: int, names: Sequence[str]) -> dict[str, Any]:
        return {name: self._table.column(name).slice(start, end - start) for name in names}


class _ParquetFile:
    """Keeps the row group that was read last: rows are asked for in order."""

    def __init__(self, file: Any, arrow: Any) -> None:
        self._file, self._arrow = file, arrow
        sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
        self._starts = [sum(sizes[:number]) for number in range(len(sizes))]
        self.count, self.names = int(file.metadata.num_rows), list(file.schema_arrow.names)
        self._held: tuple[int, Any] = (-1, None)

    def read(self, start: int, end: int, names: Sequence[str]) -> dict[str, Any]:
        first, last = bisect_right(self._starts, start) - 1, bisect_right(self._starts, end - 1) - 1
        tables = [self._group(number, names) for number in range(first, last + 1)]
        table = tables[0] if len(tables) == 1 else self._arrow.concat_tables(tables)
        return {name: table.column(name).slice(start - self._starts[first], end - start) for name in names}

    def _group(self, number: int, names: Sequence[str]) -> Any:
        if self._held[0] != number:
            self._held = (number, self._file.read_row_group(number, columns=list(names)))
        return self._held[1]


def _matrix_columns(table: _Table, spec: TensorSpec, trained_on: Sequence[str]) -> list[str]:
    """Which columns stand side by side in the model's one input, in order."""
    if trained_on:
        return list(trained_on)
    width = math.prod(spec.shape[1:]) if all(size > 0 for size in spec.shape[1:]) else None
    if width is not None and len(table.names) not in (1, width):
        raise BadInput(
            f"The model takes {width} numbers a row as one tensor {spec.name!r}; the file has {len(table.names)} columns.",
            remedy=f"Leave only those, in the model's order. {_has(table.names, 'The file has')}",
            field="input",
        )
    return list(table.names)


def _array(column: Any, name: str) -> Array:
    """An Arrow column as an array; lists of equal length as its further dimension. Missing numbers become NaN."""
    kind = str(column.type)
    if "list" not in kind:
        array: Array = column.to_numpy()
        return array
    values = column.to_pylist()
    try:
        nested = np.array(values)
    except ValueError:
        nested = np.array(values, dtype=object)
    if nested.dtype.kind == "O":
        raise BadInput(f"Column {name!r} has lists of different lengths, or with missing elements.", field="input")
    return nested


def _exact(array: Array, spec: TensorSpec, column: str) -> Array:
    """`array` in the datatype of `spec`, with the same values."""
    where = f"column {column!r}" if column != "the array" else column
    dtype = spec.dtype
    if spec.datatype == "BYTES":
        items = array.astype(object)
        if bad := [item for item in items.flat if not isinstance(item, (str, bytes))]:
            raise BadInput(f"The model takes text in {where}; it has {bad[0]!r}.", field="input")
        return items
    if array.dtype.kind == "O":  # truth values with some missing, decimals, text
        try:
            array = np.array([math.nan if item is None else item for item in array.flat]).reshape(array.shape)
        except (TypeError, ValueError):
            raise BadInput(f"The model takes {spec.datatype} in {where}; it has other things than numbers.", field="input") from None
    if array.dtype.kind == "f" and dtype.kind in "iu":
        if not np.isfinite(array).all():
            raise BadInput(
                f"The model takes whole numbers in {where}; some are missing or infinite.", remedy="Fill in what is missing.", field="input"
            )
        if (array != np.trunc(array)).any() or (np.abs(array) >= 2.0**63).any():
            raise BadInput(f"The model takes whole numbers in {where}; it has others.", field="input")
        array = array.astype(np.int64)
    return np.ascontiguousarray(cast(array, spec.datatype, column))


def _shaped(array: Array, spec: TensorSpec) -> Array:
    """As the model wants its dimensions, where the numbers of a row are as many."""
    if array.ndim == len(spec.shape) or any(size < 0 for size in spec.shape[1:]):
        return array
    if math.prod(array.shape[1:]) != math.prod(spec.shape[1:]):
        return array
    return array.reshape(len(array), *spec.shape[1:])


def _has(names: Sequence[str], begin: str) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f"{begin} {', '.join(names[:20])}{more}."
