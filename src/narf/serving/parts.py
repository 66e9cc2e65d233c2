"""Predictions as they are made: parts beside the output that survive a stop, joined under the output's name at the end."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput
from narf.serving.package import Manifest
from narf.serving.protocol.arrays import as_json_list
from narf.serving.rows import FORMS, arrow_modules
from narf.serving.tensors import Array, Tensors


class Parts:
    """Parts of one output. A part's name says which rows it has; it appears whole or not at all."""

    def __init__(self, source: Path, target: Path, manifest: Manifest) -> None:
        """Raises BadInput: the output's form is not known, or it cannot be written there."""
        if target.suffix not in FORMS:
            raise BadInput(f"{target.name} has no form that is known.", remedy=f"Use {', '.join(FORMS)}.", field="output")
        self._target = target
        # Another input or model does not find the parts of this one.
        stat = source.stat()
        what = json.dumps([str(source.absolute()), stat.st_size, stat.st_mtime_ns, manifest.name, manifest.version])
        self._folder = target.with_name(f".{target.name}.{hashlib.sha256(what.encode()).hexdigest()[:12]}.parts")
        self._folder.mkdir(parents=True, exist_ok=True)
        self._arrow, self._parquet, self._csv = arrow_modules()

    @property
    def rows(self) -> int:
        """How many rows, from the first on, have been predicted."""
        return max((int(place.stem.partition("-")[2]) for place in self._places()), default=0)

    def add(self, start: int, outputs: Tensors) -> None:
        """What the model answered to the rows from `start` on.

        Raises:
            BadInput: the output's form does not hold it.
        """
        if self._target.suffix == ".npy" and len(outputs) > 1:
            raise BadInput(
                f"The model has {len(outputs)} outputs ({', '.join(outputs)}); an array holds one.", remedy="Use .parquet.", field="output"
            )
        end = start + len(next(iter(outputs.values())))
        table = self._arrow.table({name: self._column(array) for name, array in outputs.items()})
        place = self._folder / f"{start:012d}-{end:012d}.arrow"
        temporary = place.with_suffix(f".{os.getpid()}")
        with self._arrow.OSFile(str(temporary), "wb") as file, self._arrow.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        os.replace(temporary, place)

    def join(self) -> None:
        """Give the output its name, whole, and take the parts away."""
        temporary = self._target.with_name(f".{self._target.name}.{os.getpid()}")
        if self._target.suffix == ".npy":
            self._join_array(temporary)
        else:
            self._join_table(temporary)
        os.replace(temporary, self._target)
        shutil.rmtree(self._folder)

    def _places(self) -> list[Path]:
        """Parts that follow each other from the first row on."""
        found, end = [], 0
        for place in sorted(self._folder.glob("*.arrow")):
            first, _, last = place.stem.partition("-")
            if int(first) == end:
                found.append(place)
                end = int(last)
        return found

    def _tables(self) -> Iterator[Any]:
        for place in self._places():
            with self._arrow.memory_map(str(place)) as file:
                yield self._arrow.ipc.open_file(file).read_all()

    def _join_table(self, temporary: Path) -> None:
        writer: Any = None
        is_csv = self._target.suffix == ".csv"
        try:
            for part in self._tables():
                table = self._flat(part) if is_csv else part
                if writer is None:
                    writer = (self._csv.CSVWriter if is_csv else self._parquet.ParquetWriter)(temporary, table.schema)
                writer.write_table(table)
        finally:
            if writer is not None:
                writer.close()

    def _join_array(self, temporary: Path) -> None:
        written, whole = 0, None
        for table in self._tables():
            column = table.column(0).combine_chunks()
            part = column.flatten().to_numpy(zero_copy_only=False) if "list" in str(column.type) else column.to_numpy(zero_copy_only=False)
            part = part.reshape(table.num_rows, -1) if "list" in str(column.type) else part
            if whole is None:
                with temporary.open("wb"):
                    whole = np.lib.format.open_memmap(temporary, mode="w+", dtype=part.dtype, shape=(self.rows, *part.shape[1:]))
            whole[written : written + len(part)] = part
            written += len(part)
        if whole is not None:
            whole.flush()

    def _column(self, array: Array) -> Any:
        """One value a row, or a list of the numbers of a row."""
        flat = self._arrow.array(as_json_list(array) if array.dtype.kind in "OUS" else np.ascontiguousarray(array).ravel())
        if array.ndim <= 1:
            return flat
        width = array[0].size
        offsets = self._arrow.array(np.arange(len(array) + 1, dtype=np.int64) * width)
        return self._arrow.LargeListArray.from_arrays(offsets, flat)

    def _flat(self, table: Any) -> Any:
        """Lists as one column for each element: CSV has no others."""
        columns: dict[str, Any] = {}
        for name in table.column_names:
            column = table.column(name).combine_chunks()
            if "list" not in str(column.type):
                columns[name] = column
                continue
            matrix = column.flatten().to_numpy(zero_copy_only=False).reshape(table.num_rows, -1)
            columns |= {f"{name}_{index}": self._arrow.array(matrix[:, index]) for index in range(matrix.shape[1])}
        return self._arrow.table(columns)
