"""Does an export give the answers of the original? Comparison within a tolerance, and the choice that follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from narf.serving.package import Candidate
from narf.serving.tensors import Array, Tensors


@dataclass(frozen=True, slots=True)
class Tolerance:
    """Two numbers agree when they differ by at most `absolute + relative * |expected|`."""

    absolute: float = 1e-5
    relative: float = 1e-4


@dataclass(frozen=True, slots=True)
class Difference:
    """worst: in units of the tolerance, so at most 1 agrees; inf where the two cannot be compared. what: in words."""

    worst: float = 0.0
    max_abs_error: float = 0.0
    what: str = ""

    @property
    def agrees(self) -> bool:
        return self.worst <= 1.0

    def or_worse(self, other: Difference) -> Difference:
        worst = self if self.worst >= other.worst else other
        return Difference(worst.worst, max(self.max_abs_error, other.max_abs_error), worst.what)


def compare(expected: Tensors, got: Tensors, tolerance: Tolerance) -> Difference:
    """How far `got` is from `expected`. Numbers within the tolerance; labels and text exactly; NaN agrees with NaN."""
    if set(expected) != set(got):
        return Difference(np.inf, 0.0, f"outputs {sorted(got)} instead of {sorted(expected)}")
    difference = Difference()
    for name, wanted in expected.items():
        difference = difference.or_worse(_compare_one(name, wanted, got[name], tolerance))
    return difference


def _compare_one(name: str, expected: Array, got: Array, tolerance: Tolerance) -> Difference:
    if expected.shape != got.shape:
        return Difference(np.inf, 0.0, f"output {name!r} has shape {list(got.shape)} instead of {list(expected.shape)}")
    if expected.size == 0:
        return Difference()
    if expected.dtype.kind not in "fc" or got.dtype.kind not in "fc":
        same = bool(np.array_equal(expected.astype(object), got.astype(object)))
        return Difference() if same else Difference(np.inf, 0.0, f"output {name!r} has other labels")
    wanted, given = expected.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(wanted - given)
        same = (wanted == given) | (np.isnan(wanted) & np.isnan(given))
        units = np.where(same, 0.0, error / (tolerance.absolute + tolerance.relative * np.abs(wanted)))
    units = np.where(np.isnan(units), np.inf, units)
    finite = error[np.isfinite(error)]
    return Difference(float(units.max()), float(finite.max()) if finite.size else 0.0, f"output {name!r}")


def choose(candidates: Sequence[Candidate]) -> Candidate:
    """The fastest of those that agree with the original, by the geometric mean of the single-row and the batch time.

    There is always one: the original itself is among the candidates.
    """
    usable = [candidate for candidate in candidates if not candidate.refused]
    assert usable, "the original is always a candidate"
    return min(
        usable,
        key=lambda candidate: ((candidate.milliseconds_one or 0.0) * (candidate.milliseconds_batch or 0.0), candidates.index(candidate)),
    )
