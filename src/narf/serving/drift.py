"""Drift: is what arrives still what the model was trained on?

A `Reference` describes each feature of the training data by ten bins of equal weight. A `Sketch` counts what arrives into
the same bins; sketches add up, so replicas and hours can be merged. `report` compares the two: population stability index,
Kolmogorov-Smirnov distance over the bins, missing values, values outside the range seen in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from narf.serving.tensors import Array, Tensors

BINS = 10
MOST_FEATURES = 256  # a row with more (an image) is watched through its mean, deviation, least and greatest value
LEAST_REFERENCE_ROWS = 50  # of training data: fewer are examples, not a distribution
LIVE_BASELINE_ROWS = 1000  # of requests that are compared with later ones, where there is no training data
_MOST_POINTS = 256  # of one feature in a summary, up to twice that before they are thinned
PSI_ALARM = 0.2  # the customary threshold: below 0.1 stable, above 0.2 shifted


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """edges: the BINS-1 inner edges. expected: the share of training rows in each bin."""

    name: str
    edges: tuple[float, ...]
    expected: tuple[float, ...]
    least: float
    greatest: float
    missing: float  # share of rows

    def as_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureDrift:
    name: str
    rows: int
    psi: float
    ks: float
    missing: float
    expected_missing: float
    out_of_range: float
    mean: float

    @property
    def drifted(self) -> bool:
        return self.psi > PSI_ALARM or self.out_of_range > 0.1 or self.missing > self.expected_missing + 0.1


def reference_of(tensors: Tensors, columns: Sequence[str] = ()) -> tuple[Feature, ...]:
    """Describe the training data: numeric tensors only, one feature for each column of a row."""
    described = []
    for name, matrix in features(tensors, columns):
        for column, values in zip(name, matrix.T, strict=True):
            known = values[np.isfinite(values)]
            if known.size == 0:
                continue
            edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1]))
            counts = np.bincount(np.searchsorted(edges, known, side="right"), minlength=len(edges) + 1)
            described.append(
                Feature(
                    name=column,
                    edges=tuple(map(float, edges)),
                    expected=tuple(map(float, counts / counts.sum())),
                    least=float(known.min()),
                    greatest=float(known.max()),
                    missing=float(1 - known.size / values.size),
                )
            )
    return tuple(described)


# A summary of each feature that has been seen, where there is no training data to compare with: `{name: [rows, missing, least, greatest,
# [[value, weight], ...]]}`. Values of one feature, ascending, with nothing that ties those of a row together; summaries add up.
Summary = Mapping[str, Sequence[Any]]


def summary_of(tensors: Tensors, columns: Sequence[str] = ()) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for names, matrix in features(tensors, columns):
        for name, values in zip(names, matrix.T, strict=True):
            known = np.sort(values[np.isfinite(values)])
            least, greatest = (float(known[0]), float(known[-1])) if known.size else (None, None)
            points = _thinned([[float(value), 1.0] for value in known])
            found[name] = [len(values), len(values) - known.size, least, greatest, points]
    return found


def merged_summaries(one: Summary, other: Summary) -> dict[str, Any]:
    merged = {name: list(values) for name, values in one.items()}
    for name, (rows, missing, least, greatest, points) in other.items():
        old = merged.get(name)
        if old is None:
            merged[name] = [rows, missing, least, greatest, points]
            continue
        lows, highs = [[value for value in pair if value is not None] for pair in ((old[2], least), (old[3], greatest))]
        together = sorted([*old[4], *points], key=lambda point: point[0])
        merged[name] = [old[0] + rows, old[1] + missing, min(lows, default=None), max(highs, default=None), _thinned(together)]
    return merged


def reference_of_summary(summary: Summary) -> tuple[Feature, ...]:
    """The summary as what later rows are compared with."""
    described = []
    for name, (rows, missing, least, greatest, points) in summary.items():
        if not points or least is None or greatest is None:
            continue
        values, weights = np.array(points, dtype=np.float64).T
        reached = (np.cumsum(weights) - weights / 2) / weights.sum()
        edges = np.unique(np.interp(np.linspace(0, 1, BINS + 1)[1:-1], reached, values))
        shares = np.bincount(np.searchsorted(edges, values, side="right"), weights=weights, minlength=len(edges) + 1)
        described.append(
            Feature(
                name=name,
                edges=tuple(map(float, edges)),
                expected=tuple(map(float, shares / shares.sum())),
                least=float(least),
                greatest=float(greatest),
                missing=missing / rows if rows else 0.0,
            )
        )
    return tuple(described)


def _thinned(points: Sequence[Sequence[float]]) -> list[list[float]]:
    """The ascending points, equal ones as one. Of more than twice `_MOST_POINTS`, so many that stand at equal steps of weight."""
    together: list[list[float]] = []
    for value, weight in points:
        if together and together[-1][0] == value:
            together[-1][1] += weight
        else:
            together.append([value, weight])
    if len(together) <= 2 * _MOST_POINTS:
        return together
    values, weights = np.array(together).T
    reached, step = np.cumsum(weights), weights.sum() / _MOST_POINTS
    chosen = np.searchsorted(reached, (np.arange(_MOST_POINTS) + 0.5) * step)
    return _thinned([[float(value), float(step)] for value in values[np.minimum(chosen, len(values) - 1)]])


def features(tensors: Tensors, columns: Sequence[str] = ()) -> list[tuple[list[str], Array]]:
    """Each numeric tensor as (names, float64 matrix of rows by features)."""
    found = []
    for name, array in tensors.items():
        if array.dtype.kind not in "fiub" or array.ndim == 0:
            continue
        matrix = array.reshape(len(array), -1).astype(np.float64)
        if matrix.shape[1] == 0:
            continue
        if matrix.shape[1] > MOST_FEATURES:
            matrix = np.column_stack([matrix.mean(axis=1), matrix.std(axis=1), matrix.min(axis=1), matrix.max(axis=1)])
            names = [f"{name}.{what}" for what in ("mean", "std", "min", "max")]
        elif matrix.shape[1] == 1:
            names = [name]
        elif len(columns) == matrix.shape[1]:
            names = list(columns)
        else:
            names = [f"{name}[{index}]" for index in range(matrix.shape[1])]
        found.append((names, matrix))
    return found


class Sketch:
    """Counts of what arrived, for each feature of a reference."""

    def __init__(self, reference: Sequence[Feature]) -> None:
        self._edges = {feature.name: np.array(feature.edges) for feature in reference}
        self._range = {feature.name: (feature.least, feature.greatest) for feature in reference}
        self.rows: dict[str, int] = dict.fromkeys(self._edges, 0)
        self.missing: dict[str, int] = dict.fromkeys(self._edges, 0)
        self.outside: dict[str, int] = dict.fromkeys(self._edges, 0)
        self.total: dict[str, float] = dict.fromkeys(self._edges, 0.0)
        self.counts: dict[str, Array] = {name: np.zeros(len(edges) + 1, np.int64) for name, edges in self._edges.items()}

    def add(self, tensors: Tensors, columns: Sequence[str] = ()) -> None:
        for names, matrix in features(tensors, columns):
            for name, values in zip(names, matrix.T, strict=True):
                if name not in self._edges:
                    continue
                known = values[np.isfinite(values)]
                least, greatest = self._range[name]
                self.rows[name] += len(values)
                self.missing[name] += len(values) - len(known)
                self.outside[name] += int(((known < least) | (known > greatest)).sum())
                self.total[name] += float(known.sum())
                self.counts[name] += np.bincount(np.searchsorted(self._edges[name], known, side="right"), minlength=len(self.counts[name]))

    def as_json(self) -> dict[str, Any]:
        """Only features that saw rows: `{name: [rows, missing, outside, total, counts]}`."""
        return {
            name: [rows, self.missing[name], self.outside[name], self.total[name], self.counts[name].tolist()]
            for name, rows in self.rows.items()
            if rows
        }


def merge(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The sum of two sketches as JSON. Bins that do not fit (another reference) are taken from the later one."""
    merged = dict(one)
    for name, (rows, missing, outside, total, counts) in other.items():
        old = merged.get(name)
        if old is None or len(old[4]) != len(counts):
            merged[name] = [rows, missing, outside, total, list(counts)]
        else:
            summed = [a + b for a, b in zip(old[4], counts, strict=True)]
            merged[name] = [old[0] + rows, old[1] + missing, old[2] + outside, old[3] + total, summed]
    return merged


def report(reference: Sequence[Feature], sketch: Mapping[str, Any]) -> list[FeatureDrift]:
    """The drift of each feature that saw rows, the most shifted first."""
    drifts = []
    for feature in reference:
        if feature.name not in sketch:
            continue
        rows, missing, outside, total, counts = sketch[feature.name]
        known = rows - missing
        if len(counts) != len(feature.expected) or rows == 0:
            continue
        drifts.append(
            FeatureDrift(
                name=feature.name,
                rows=rows,
                psi=psi(feature.expected, counts),
                ks=ks(feature.expected, counts),
                missing=missing / rows,
                expected_missing=feature.missing,
                out_of_range=outside / known if known else 0.0,
                mean=total / known if known else math.nan,
            )
        )
    return sorted(drifts, key=lambda drift: -drift.psi)


def psi(expected: Sequence[float], counts: Sequence[int]) -> float:
    """Population stability index. Both sides get half a row a bin, so that an empty bin costs a finite amount."""
    total = sum(counts)
    if total == 0:
        return 0.0
    smoothing = 0.5 / total
    result = 0.0
    for share, count in zip(expected, counts, strict=True):
        wanted, got = share + smoothing, count / total + smoothing
        result += (got - wanted) * math.log(got / wanted)
    return result


def ks(expected: Sequence[float], counts: Sequence[int]) -> float:
    """The greatest distance between the two cumulative distributions, at the edges of the bins."""
    total = sum(counts)
    if total == 0:
        return 0.0
    worst = cumulated = 0.0
    for share, count in zip(expected, counts, strict=True):
        cumulated += share - count / total
        worst = max(worst, abs(cumulated))
    return min(1.0, worst)


def reference_from_json(values: Sequence[Mapping[str, Any]]) -> tuple[Feature, ...]:
    return tuple(Feature(**{**value, "edges": tuple(value["edges"]), "expected": tuple(value["expected"])}) for value in values)
