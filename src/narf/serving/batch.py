"""`python -m narf.serving.batch`: predict a whole file, in parts that survive a stop.

Each part is written beside the output under its number; what is there already is not computed again, so an attempt goes on
where the last one stopped. At the end the parts are joined and take the output's name at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput, MissingExtra, NarfError
from narf.serving.package import Manifest, read_manifest
from narf.serving.protocol.arrays import conform
from narf.serving.protocol.v2 import Schema, check_inputs
from narf.serving.replica import fetched
from narf.serving.runtimes import Runtime, open_runtime
from narf.serving.tensors import Array, Tensors

_PART_ROWS = 65_536
_BATCH_ROWS = 1024


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m narf.serving.batch", description="Predict a whole file.")
    parser.add_argument("--package", required=True, help="package folder or URL")
    parser.add_argument("--input", type=Path, required=True, help=".parquet, .csv or .npy")
    parser.add_argument("--output", type=Path, required=True, help=".parquet, .csv or .npy")
    parser.add_argument("--part-rows", type=int, default=_PART_ROWS)
    options = parser.parse_args(arguments)
    try:
        rows = predict_file(options.package, options.input, options.output, part_rows=options.part_rows)
    except NarfError as error:
        print(f"narf: {error}", file=sys.stderr)  # noqa: T201 - this is a program
        return 1
    print(f"{rows} rows to {options.output}", flush=True)  # noqa: T201
    return 0


def predict_file(package: str, source: Path, target: Path, *, part_rows: int = _PART_ROWS) -> int:
    """Predict every row of `source` into `target`; how many there were.

    Raises:
        BadInput: a file cannot be read or written, or has not what the model takes.
    """
    if target.suffix not in (".parquet", ".csv", ".npy"):
        raise BadInput(f"{target.name} has no form that is known.", remedy="Use .parquet, .csv or .npy.", field="output")
    with tempfile.TemporaryDirectory(prefix="narf-package-") as scratch:
        folder = fetched(package, Path(scratch))
        manifest = read_manifest(folder)
        runtime = open_runtime(folder, manifest)
        try:
            table = _open(source)
            parts = _parts_folder(source, target, manifest, part_rows)
            done = _predict_parts(table, manifest, runtime, parts, part_rows)
            _join(parts, target)
        except OSError as error:
            raise BadInput(f"{error.filename or source}: {error.strerror or error}.") from error
    return done


def _parts_folder(source: Path, target: Path, manifest: Manifest, part_rows: int) -> Path:
    """Where the parts lie: another input, model or part size does not find them."""
    stat = source.stat()
    what = json.dumps([str(source.absolute()), stat.st_size, stat.st_mtime_ns, manifest.name, manifest.version, part_rows])
    folder = target.with_name(f".{target.name}.{hashlib.sha256(what.encode()).hexdigest()[:12]}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _predict_parts(table: _Table, manifest: Manifest, runtime: Runtime, parts: Path, part_rows: int) -> int:
    schema = Schema(manifest)
    began, computed, rows = time.monotonic(), 0, 0
    for number, start in enumerate(range(0, max(table.rows, 1), part_rows)):
        end = min(start + part_rows, table.rows)
        place = parts / f"{number:08d}.arrow"
        if not place.exists():
            outputs = _predict_rows(table, manifest, runtime, schema, start, end)
            _write_part(outputs, place)
            computed += end - start
        rows = end
        speed = computed / (time.monotonic() - began) if computed else 0.0
        left = f", {(table.rows - end) / speed:.0f} s left" if speed else ""
        print(f"{end} of {table.rows} rows ({100 * end // max(table.rows, 1)} %){left}", flush=True)  # noqa: T201
    return rows


def _predict_rows(table: _Table, manifest: Manifest, runtime: Runtime, schema: Schema, start: int, end: int) -> Tensors:
    collected: dict[str, list[Array]] = {}
    step = _BATCH_ROWS if manifest.batchable else 1
    for low in range(start, end, step):
        inputs = table.tensors(low, min(low + step, end), manifest)
        for spec in manifest.caller_inputs:
            conform(inputs[spec.name], spec, allow_missing=schema.allows_missing)
        check_inputs(inputs, schema)
        for name, array in runtime.run(inputs).items():
            collected.setdefault(name, []).append(array)
    return {name: np.concatenate(arrays) for name, arrays in collected.items()}


class _Table:
    """Rows of a file: a matrix or named columns."""

    def __init__(self, columns: dict[str, Any] | None, matrix: Array | None) -> None:
        self._columns, self._matrix = columns, matrix
        self.rows = len(matrix) if matrix is not None else len(next(iter((columns or {}).values()), ()))

    def tensors(self, start: int, end: int, manifest: Manifest) -> Tensors:
        specs = manifest.caller_inputs
        if self._matrix is not None:
            if len(specs) != 1:
                raise BadInput(
                    "The model has several inputs; an array is one.", remedy="Use a table with a column for each.", field="input"
                )
            return {specs[0].name: np.ascontiguousarray(self._matrix[start:end], dtype=specs[0].dtype)}
        columns = self._columns or {}
        if len(specs) == 1 and specs[0].name not in columns:
            names = list(manifest.columns) or list(columns)
            parts = [self._column(name, start, end) for name in names]
            matrix = np.stack([np.asarray(part) for part in parts], axis=1)
            return {
                specs[0].name: _as(matrix, specs[0].dtype, names[0]).reshape(
                    (end - start, *(abs(size) for size in specs[0].shape[1:])) if len(specs[0].shape) > 2 else matrix.shape
                )
            }
        return {spec.name: _as(self._column(spec.name, start, end), spec.dtype, spec.name) for spec in specs}

    def _column(self, name: str, start: int, end: int) -> Array:
        columns = self._columns or {}
        if name not in columns:
            raise BadInput(f"The file has no column {name!r}.", remedy=f"It has {', '.join(list(columns)[:20])}.", field="input")
        values = columns[name].slice(start, end - start).to_pylist()
        return (
            np.array(values)
            if values and isinstance(values[0], list)
            else np.array(values, dtype=None if not any(v is None for v in values) else object)
        )


def _as(array: Array, dtype: np.dtype[Any], name: str) -> Array:
    try:
        if array.dtype.kind == "O" and dtype.kind == "f":
            array = np.array([np.nan if value is None else value for value in array.ravel()], dtype=dtype).reshape(array.shape)
        return np.ascontiguousarray(array.astype(dtype))
    except (ValueError, TypeError) as error:
        raise BadInput(f"Column {name!r} cannot be read as {dtype}: {error}.", field="input") from None


def _open(source: Path) -> _Table:
    if not source.exists():
        raise BadInput(f"There is no file {source}.", field="input")
    if source.suffix == ".npy":
        try:
            return _Table(None, np.load(source, mmap_mode="r", allow_pickle=False))
        except ValueError as error:
            raise BadInput(f"{source.name} cannot be read: {error}.", field="input") from None
    if source.suffix not in (".parquet", ".csv"):
        raise BadInput(f"{source.name} has no form that is known.", remedy="Use .parquet, .csv or .npy.", field="input")
    arrow, parquet, arrow_csv = _arrow()
    try:
        table = parquet.read_table(source) if source.suffix == ".parquet" else arrow_csv.read_csv(source)
    except arrow.ArrowInvalid as error:
        raise BadInput(f"{source.name} cannot be read: {error}.", field="input") from None
    return _Table({name: table.column(name) for name in table.column_names}, None)


def _arrow() -> tuple[Any, Any, Any]:
    try:
        import pyarrow
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        raise MissingExtra("Reading tables", "data") from None
    return pyarrow, pyarrow.parquet, pyarrow.csv


def _write_part(outputs: Tensors, place: Path) -> None:
    """A part appears whole or not at all."""
    arrow, _, _ = _arrow()
    temporary = place.with_suffix(f".{os.getpid()}")
    columns = {
        name: arrow.array(array.reshape(len(array), -1).tolist() if array.ndim > 1 else array.tolist()) for name, array in outputs.items()
    }
    with arrow.OSFile(str(temporary), "wb") as file:
        table = arrow.table(columns)
        with arrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
    os.replace(temporary, place)


def _read_parts(parts: Path) -> Iterator[Any]:
    arrow, _, _ = _arrow()
    for place in sorted(parts.glob("*.arrow")):
        with arrow.memory_map(str(place)) as file:
            yield arrow.ipc.open_file(file).read_all()


def _join(parts: Path, target: Path) -> None:
    arrow, parquet, arrow_csv = _arrow()
    table = arrow.concat_tables(_read_parts(parts))
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    if target.suffix == ".parquet":
        parquet.write_table(table, temporary)
    elif target.suffix == ".csv":
        arrow_csv.write_csv(_flat(arrow, table), temporary)
    else:
        name = table.column_names[0]
        with temporary.open("wb") as file:
            np.save(file, np.array(table.column(name).to_pylist()))
    os.replace(temporary, target)
    shutil.rmtree(parts)


def _flat(arrow: Any, table: Any) -> Any:
    """Lists as one column for each element: CSV has no others."""
    columns: dict[str, Any] = {}
    for name in table.column_names:
        if arrow.types.is_list(table.schema.field(name).type):
            for index, values in enumerate(zip(*table.column(name).to_pylist(), strict=True)):
                columns[f"{name}_{index}"] = arrow.array(list(values))
        else:
            columns[name] = table.column(name)
    return arrow.table(columns)


if __name__ == "__main__":
    sys.exit(main())
