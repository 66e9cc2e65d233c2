"""Statistics of a table's columns, gathered in one pass and constant memory.

Counts, nulls, extremes, mean and deviation are exact. Distinct values, the most frequent ones and the
histogram come from the first `SAMPLE_ROWS` rows, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SAMPLE_ROWS = 65_536
_BINS = 20
_TOP = 10


class TableStatistics:
    """Feed it batches, then ask for the `result`."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [_column_for(field) for field in schema]
        self._sample: list[pa.RecordBatch] = []
        self._sampled = 0
        self.rows = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.rows += batch.num_rows
        if self._sampled < SAMPLE_ROWS:
            part = batch.slice(0, SAMPLE_ROWS - self._sampled)
            self._sample.append(part)
            self._sampled += part.num_rows
        for column, values in zip(self._columns, batch.columns, strict=True):
            column.add(values)

    def result(self) -> dict[str, dict[str, Any]]:
        """By column name, plain JSON data."""
        sample = pa.Table.from_batches(self._sample) if self._sample else None
        found = {}
        for index, column in enumerate(self._columns):
            described = column.result()
            if sample is not None:
                described.update(_of_sample(sample.column(index).combine_chunks(), described["kind"]))
                described["sampled_rows"] = min(self._sampled, self.rows)
            found[column.name] = described
        return found


def statistics_of(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> tuple[int, dict[str, dict[str, Any]]]:
    """The number of rows, and the statistics by column."""
    gathered = TableStatistics(schema)
    for batch in batches:
        gathered.add(batch)
    return gathered.rows, gathered.result()


class _Column:
    """Nulls, and the extremes where the type has an order."""

    kind = "other"

    def __init__(self, name: str) -> None:
        self.name, self.count, self.nulls = name, 0, 0
        self.least: Any = None
        self.most: Any = None

    def add(self, values: pa.Array) -> None:
        self.count += len(values)
        self.nulls += values.null_count

    def result(self) -> dict[str, Any]:
        return {"kind": self.kind, "count": self.count, "nulls": self.nulls, "min": _plain(self.least), "max": _plain(self.most)}

    def _widen(self, least: Any, most: Any) -> None:
        if least is not None:
            self.least = least if self.least is None else min(self.least, least)
            self.most = most if self.most is None else max(self.most, most)


class _Ordered(_Column):
    def __init__(self, name: str, kind: str) -> None:
        super().__init__(name)
        self.kind = kind

    def add(self, values: pa.Array) -> None:
        super().add(values)
        ends = pc.min_max(values)
        self._widen(ends["min"].as_py(), ends["max"].as_py())


class _Number(_Column):
    """Also mean and deviation, by Chan's parallel update. NaN counts as itself, apart from nulls; decimals count as doubles."""

    kind = "number"

    def __init__(self, name: str, *, is_float: bool) -> None:
        super().__init__(name)
        self._is_float, self._valid, self._mean, self._squares, self.nans = is_float, 0, 0.0, 0.0, 0
        self._apart = np.empty(0)

    def add(self, values: pa.Array) -> None:
        super().add(values)
        if pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        numbers = (values.drop_null() if values.null_count else values).to_numpy(zero_copy_only=False)
        if self._is_float and len(numbers) and np.isnan(numbers.min()):  # the extremes are NaN if anything is
            proper = ~np.isnan(numbers)
            self.nans += int(len(numbers) - proper.sum())
            numbers = numbers[proper]
        if not len(numbers):
            return
        self._widen(numbers.min().item(), numbers.max().item())
        if len(self._apart) < len(numbers):
            self._apart = np.empty(len(numbers))  # kept: a new one a batch would cost more than the arithmetic
        apart = self._apart[: len(numbers)]
        with np.errstate(invalid="ignore", over="ignore"):
            near = np.float64(self._mean if self._valid else numbers.mean(dtype=np.float64))
            np.subtract(numbers, near, out=apart)
            total = float(apart.sum())
            mean = float(near) + total / len(numbers)
            np.multiply(apart, apart, out=apart)  # np.dot would wake the threads of BLAS, for less work than that
            squares = float(apart.sum()) - total * total / len(numbers)
            valid = self._valid + len(numbers)
            off = mean - self._mean
            self._squares += max(squares, 0.0) + off * off * self._valid * len(numbers) / valid
            self._mean += off * len(numbers) / valid
        self._valid = valid

    def result(self) -> dict[str, Any]:
        described = super().result()
        if self._valid:
            deviation = math.sqrt(self._squares / self._valid) if self._squares >= 0 else math.nan
            described |= {"mean": _plain(self._mean), "std": _plain(deviation)}
        if self._is_float:
            described["nans"] = self.nans
        return described


def _column_for(field: pa.Field) -> _Column:
    type = field.type
    if pa.types.is_integer(type) or pa.types.is_floating(type) or pa.types.is_decimal(type):
        return _Number(field.name, is_float=pa.types.is_floating(type))
    if pa.types.is_boolean(type):
        return _Ordered(field.name, "boolean")
    if pa.types.is_string(type) or pa.types.is_large_string(type):
        return _Ordered(field.name, "text")
    if pa.types.is_timestamp(type) or pa.types.is_date(type):
        return _Ordered(field.name, "time")
    return _Column(field.name)


def _of_sample(values: pa.Array, kind: str) -> dict[str, Any]:
    if kind == "other":
        return {}
    counts = pc.value_counts(values.drop_null())
    described: dict[str, Any] = {"distinct": len(counts)}
    if kind in ("text", "boolean", "number") and len(counts) <= max(50, len(values) // 20):
        most = sorted(counts.to_pylist(), key=lambda entry: -entry["counts"])[:_TOP]
        described["top"] = [[_plain(entry["values"]), entry["counts"]] for entry in most]
    if kind == "number":
        if pa.types.is_decimal(values.type):
            values = values.cast(pa.float64())
        numbers = values.drop_null().to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        numbers = numbers[np.isfinite(numbers)]
        if len(numbers) and np.isfinite(numbers.max() - numbers.min()):
            heights, edges = np.histogram(numbers, bins=_BINS)
            described["histogram"] = {"edges": edges.tolist(), "counts": heights.tolist()}
    return described


def _plain(value: Any) -> Any:
    """`value` as JSON can hold it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, str):
        return value if len(value) <= 200 else value[:200] + "…"
    return value


def plain_rows(batch: pa.RecordBatch | pa.Table) -> list[list[Any]]:
    """Rows as JSON can hold them, for previews."""
    return [[_shown(value) for value in row.values()] for row in batch.to_pylist()]


def _shown(value: Any) -> Any:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if isinstance(value, list):
        return [_shown(item) for item in value[:50]]
    if isinstance(value, dict):
        return {str(key): _shown(item) for key, item in value.items()}
    plain = _plain(value)
    return plain if plain is None or isinstance(plain, bool | int | float | str) else str(plain)
