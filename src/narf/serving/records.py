"""What a replica remembers of its predictions until it has told the control plane: one record each, and the drift sketches.

Serving appends references and returns; the arithmetic is done for many rows at once, when a report is made. Payloads are
not part of a record. What cannot be reported in time is dropped, oldest first, and counted: serving never waits for it.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from narf.serving.drift import Sketch, features, merged_summaries, reference_from_json, summary_of
from narf.serving.model import Prediction
from narf.serving.package import Manifest
from narf.serving.tensors import Array, Tensors

_MOST_RECORDS = 100_000
_MOST_SKETCHED_ROWS = 4096  # of one report; a sample is enough for a distribution
_MOST_KEPT_BYTES = 32 << 20


@dataclass(slots=True)
class _Batch:
    ids: list[bytes]
    rows: list[int]
    milliseconds: list[float]
    inputs: Tensors | None
    outputs: Tensors | None
    seconds: float


class Recorder:
    """One model's records. `observe` is called on the loop; `report` from any one thread."""

    def __init__(self, manifest: Manifest) -> None:
        self._columns = manifest.columns
        self._reference = reference_from_json(manifest.reference.get("features", ()))
        self._batches: deque[_Batch] = deque()
        self._records = self._bytes = 0
        self._lock = threading.Lock()
        self.dropped = 0

    def compare_with(self, reference: Sequence[Mapping[str, Any]]) -> None:
        """From now on inputs are counted against this, where the package has no training data to compare with."""
        self._reference = reference_from_json(reference)

    def observe(self, batch: Sequence[Prediction], inputs: Tensors, outputs: Tensors, seconds: float) -> None:
        now = time.monotonic()
        size = sum(array.nbytes for array in inputs.values()) + sum(array.nbytes for array in outputs.values())
        keep = self._bytes + size <= _MOST_KEPT_BYTES
        record = _Batch(
            [prediction.id for prediction in batch],
            [prediction.rows for prediction in batch],
            [(now - prediction.arrived) * 1e3 for prediction in batch],
            inputs if keep else None,
            outputs if keep else None,
            seconds,
        )
        with self._lock:
            self._batches.append(record)
            self._records += len(batch)
            if keep:
                self._bytes += size
            while self._records > _MOST_RECORDS:
                oldest = self._batches.popleft()
                self._records -= len(oldest.ids)
                self.dropped += len(oldest.ids)

    @property
    def has_news(self) -> bool:
        return bool(self._batches)

    def report(self) -> dict[str, Any] | None:
        """What happened since the last report: columns of records, compressed, and sketches; None if nothing did."""
        with self._lock:
            batches, self._batches = self._batches, deque()
            self._records = self._bytes = 0
        if not batches:
            return None
        summary: dict[str, Any] = {}
        sketch_in, sketch_out = Sketch(self._reference), _OutputStatistics()
        ids, rows, milliseconds, input_means, output_means, sketched = [], [], [], [], [], 0
        for batch in _together(batches):
            ids += [prediction.decode("ascii", "replace") for prediction in batch.ids]
            rows += batch.rows
            milliseconds += [round(value, 3) for value in batch.milliseconds]
            input_means += _means(batch.inputs, batch.rows)
            output_means += _means(batch.outputs, batch.rows)
            if batch.inputs is not None and batch.outputs is not None and sketched < _MOST_SKETCHED_ROWS:
                sketched += sum(batch.rows)
                if self._reference:
                    sketch_in.add(batch.inputs, self._columns)
                else:
                    summary = merged_summaries(summary, summary_of(batch.inputs, self._columns))
                sketch_out.add(batch.outputs)
        records = {"ids": ids, "rows": rows, "milliseconds": milliseconds, "input_means": input_means, "output_means": output_means}
        return {
            "count": len(ids),
            "rows": sum(rows),
            "milliseconds": latency_histogram(milliseconds),
            "records": zlib.compress(orjson.dumps(records), 1),
            "inputs": sketch_in.as_json(),
            "summary": summary,
            "outputs": sketch_out.as_json(),
            "dropped": self.dropped,
        }


BOUNDS = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10000.0)


def latency_histogram(milliseconds: Sequence[float]) -> list[int]:
    """How many fall under each bound of `BOUNDS` and not under the one before; the last count is of those above all."""
    counts = np.bincount(np.searchsorted(BOUNDS, milliseconds), minlength=len(BOUNDS) + 1)
    return [int(count) for count in counts]


class _OutputStatistics:
    """Mean, deviation and range of each output, or how often each label was given."""

    def __init__(self) -> None:
        self._numbers: dict[str, list[float]] = {}
        self._labels: dict[str, dict[str, int]] = {}

    def add(self, outputs: Tensors) -> None:
        for name, array in outputs.items():
            if array.dtype.kind in "OUSib" and array.ndim == 1:
                counts = self._labels.setdefault(name, {})
                values, numbers = np.unique(array.astype(str), return_counts=True)
                for value, number in zip(values.tolist(), numbers.tolist(), strict=True):
                    if value in counts or len(counts) < 100:
                        counts[value] = counts.get(value, 0) + number
        for names, matrix in features(outputs):
            for name, values in zip(names, matrix.T, strict=True):
                known = values[np.isfinite(values)]
                if known.size:
                    old = self._numbers.get(name, [0, 0.0, 0.0, float("inf"), float("-inf")])
                    self._numbers[name] = [
                        old[0] + known.size,
                        old[1] + float(known.sum()),
                        old[2] + float((known**2).sum()),
                        min(old[3], float(known.min())),
                        max(old[4], float(known.max())),
                    ]

    def as_json(self) -> dict[str, Any]:
        return {"numbers": self._numbers, "labels": self._labels}


def _together(batches: Iterable[_Batch]) -> Iterator[_Batch]:
    """The batches in their order, neighbours of one shape as one: arithmetic on a few rows costs its overhead only."""
    group: list[_Batch] = []
    key, rows = None, 0
    for batch in batches:
        own = _shape_of(batch)
        count = sum(batch.rows)
        if group and (own is None or own != key or rows + count > _MOST_SKETCHED_ROWS):
            yield _concatenated(group)
            group, rows = [], 0
        group.append(batch)
        key, rows = own, rows + count
    if group:
        yield _concatenated(group)


def _shape_of(batch: _Batch) -> object | None:
    """What must be equal for two to be stacked; None: this one cannot be."""
    if batch.inputs is None or batch.outputs is None:
        return None
    arrays = [(side, name, array) for side, tensors in enumerate((batch.inputs, batch.outputs)) for name, array in tensors.items()]
    rows = sum(batch.rows)
    if any(array.ndim == 0 or len(array) != rows for _, _, array in arrays):
        return None
    return [(side, name, array.shape[1:], array.dtype) for side, name, array in arrays]


def _concatenated(group: Sequence[_Batch]) -> _Batch:
    first = group[0]
    if len(group) == 1 or first.inputs is None or first.outputs is None:
        return first
    return _Batch(
        [prediction for batch in group for prediction in batch.ids],
        [rows for batch in group for rows in batch.rows],
        [value for batch in group for value in batch.milliseconds],
        {name: np.concatenate([(batch.inputs or {})[name] for batch in group]) for name in first.inputs},
        {name: np.concatenate([(batch.outputs or {})[name] for batch in group]) for name in first.outputs},
        sum(batch.seconds for batch in group),
    )


def _means(tensors: Tensors | None, rows: Sequence[int]) -> list[float | None]:
    """The mean of each request's numbers in the first numeric tensor."""
    array = next((array for array in (tensors or {}).values() if array.dtype.kind in "fiub" and array.size), None)
    if array is None or array.ndim == 0 or len(array) != sum(rows):
        return [None] * len(rows)
    means: Array = array.reshape(len(array), -1).mean(axis=1, dtype=np.float64)
    starts = np.concatenate([[0], np.cumsum(rows)[:-1]])
    values = np.add.reduceat(means, starts) / np.asarray(rows)
    return [float(f"{value:.6g}") if np.isfinite(value) else None for value in values]
