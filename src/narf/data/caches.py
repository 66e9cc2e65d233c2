"""Training caches: layouts made from a version's files for fast random access. They can be deleted at any time.

Row-major memory map for numeric tables, Arrow file for mixed ones, indexed archive for files. Each is made once a machine,
in constant memory, by whoever comes first, and appears whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from narf.data.folder import no_space
from narf.data.tabular import Table

_EXACT = 2**53  # float64 holds every integer up to here


def prepared(folder: Path, key: str, make: Callable[[Path], None]) -> Path:
    """The folder `folder`/`key`, filled by `make` if it is not there yet; others that want it meanwhile wait."""
    place = folder / key
    if place.is_dir():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / f"{key}.lock"):
        if not place.is_dir():
            building = folder / f".{key}.{os.getpid()}"
            shutil.rmtree(building, ignore_errors=True)
            building.mkdir()
            try:
                make(building)
                os.replace(building, place)
            except OSError as error:
                raise no_space(error, folder) from error
            finally:
                shutil.rmtree(building, ignore_errors=True)
    return place


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# -- numeric tables


def common_type(table: Table, columns: Sequence[str]) -> np.dtype[Any] | None:
    """The one NumPy type that holds all of `columns` (integers beyond 2**53 aside, see `write_rows`); None: they are not all numbers."""
    types = []
    for name in columns:
        type = table.schema.field(name).type
        if pa.types.is_decimal(type):
            types.append(np.dtype(np.float64))  # tensors have no decimals
        elif pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_boolean(type):
            types.append(np.dtype(type.to_pandas_dtype()))
        else:
            return None
    return np.result_type(*types) if types else None


def write_rows(table: Table, columns: Sequence[str], dtype: np.dtype[Any], folder: Path) -> None:
    """rows.npy, (rows, columns) in `dtype`; nulls become NaN, and the type float64 then if it was none that has NaN.

    Raises:
        ValueError: an integer is too large for the common float type, or a null has no NaN: use the Arrow layout.
    """
    count = sum(batch.num_rows for batch in table.batches(columns[:1]))
    rows: Any = np.lib.format.open_memmap(folder / "rows.npy", mode="w+", dtype=dtype, shape=(count, len(columns)))
    at = 0
    for batch in table.batches(columns):
        for index, column in enumerate(batch.columns):
            if pa.types.is_decimal(column.type):
                column = column.cast(pa.float64())
            values = column.to_numpy(zero_copy_only=False)
            if values.dtype == object:  # booleans with nulls
                values = np.array([np.nan if value is None else value for value in values])
            if column.null_count and dtype.kind != "f":
                raise ValueError("a null in a column of integers")
            if (
                pa.types.is_integer(column.type)
                and dtype.kind == "f"
                and len(values)
                and np.nanmax(np.abs(values.astype(np.float64))) > _limit(dtype)
            ):
                raise ValueError("an integer beyond what the common type holds exactly")
            rows[at : at + batch.num_rows, index] = values
        at += batch.num_rows
    rows.flush()
    (folder / "columns.json").write_text(json.dumps(list(columns)))


def _limit(dtype: np.dtype[Any]) -> int:
    return _EXACT if dtype.itemsize >= 8 else 2**24 if dtype.itemsize == 4 else 2**11


def open_rows(folder: Path) -> npt.NDArray[Any]:
    rows: npt.NDArray[Any] = np.load(folder / "rows.npy", mmap_mode="r")
    return rows


# -- mixed tables


def write_arrow(table: Table, columns: Sequence[str], folder: Path) -> None:
    """table.arrow, uncompressed, so that it can be mapped."""
    schema = pa.schema([table.schema.field(name) for name in columns])
    with pa.OSFile(str(folder / "table.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in table.batches(columns, rows=1 << 20):
            writer.write_batch(batch)


def open_arrow(folder: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(folder / "table.arrow"))).read_all()


# -- files


@dataclass(frozen=True, slots=True)
class Archive:
    """Many files in one: `data` is its descriptor, read with pread, which workers and forks can share."""

    data: int
    offsets: array[int]  # count + 1; its items are Python's integers, which NumPy's would have to become at every read
    paths: tuple[str, ...]

    def read(self, index: int) -> bytes:
        start = self.offsets[index]
        return os.pread(self.data, self.offsets[index + 1] - start, start)


def write_archive(root: Path, paths: Sequence[str], folder: Path) -> None:
    offsets = np.zeros(len(paths) + 1, np.int64)
    with (folder / "files.bin").open("wb") as out:
        for index, path in enumerate(paths):
            with (root / path).open("rb") as file:
                shutil.copyfileobj(file, out, 1 << 20)
            offsets[index + 1] = out.tell()
    np.save(folder / "offsets.npy", offsets)
    (folder / "paths.json").write_text(json.dumps(list(paths)))


def open_archive(folder: Path) -> Archive:
    descriptor = os.open(folder / "files.bin", os.O_RDONLY | os.O_CLOEXEC)
    offsets = array("q", np.load(folder / "offsets.npy").astype(np.int64).tobytes())
    return Archive(descriptor, offsets, tuple(json.loads((folder / "paths.json").read_text())))


def key_of(layout: str, *parts: Any) -> str:
    """A name for a cache made with these choices."""
    return f"{layout}-{hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:16]}"
