"""A metric as a chart needs it: at most so many buckets, each with its least and greatest value. Pure functions.

Points are in order of step; among points of one step, in the order in which they arrived.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from narf.tracking.points import Floats, Ints, Points


@dataclass(frozen=True, slots=True)
class Series:
    """Raw points (`maxima` is None and `minima` holds the values) or buckets.

    `steps` and `times` are those of the first point of a bucket; `count` is the number of points that it stands for.
    """

    steps: Ints
    times: Ints
    minima: Floats
    maxima: Floats | None
    count: int


def in_step_order(points: Points) -> Points:
    steps = points.steps
    if len(steps) < 2 or bool((steps[1:] >= steps[:-1]).all()):
        return points
    return points.take(np.argsort(steps, kind="stable"))


def reduce_points(points: Points, buckets: int) -> Series:
    """`points`, which are in step order, in at most `buckets` buckets of equal numbers of points."""
    count = len(points)
    if count <= buckets:
        return Series(points.steps, points.times, points.values, None, count)
    starts = _starts(count, buckets)
    return Series(
        points.steps[starts], points.times[starts], np.fmin.reduceat(points.values, starts), np.fmax.reduceat(points.values, starts), count
    )


def reduce_cells(steps: Ints, times: Ints, minima: Floats, maxima: Floats, buckets: int, count: int) -> Series:
    """Cells of pyramids in at most `buckets` buckets, `count` being the points that they stand for."""
    if len(steps) > 1 and not bool((steps[1:] >= steps[:-1]).all()):  # attempts that overlap
        order = np.argsort(steps, kind="stable")
        steps, times, minima, maxima = steps[order], times[order], minima[order], maxima[order]
    if len(steps) > buckets:
        starts = _starts(len(steps), buckets)
        steps, times = steps[starts], times[starts]
        minima, maxima = np.fmin.reduceat(minima, starts), np.fmax.reduceat(maxima, starts)
    return Series(steps, times, minima, maxima, count)


def _starts(count: int, buckets: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return (np.arange(buckets, dtype=np.int64) * count) // buckets


def to_bytes(series: Sequence[tuple[str, str, Series]]) -> bytes:
    """The binary body: a line of JSON, then float64 arrays, in the order in which the line names them.

    Times are seconds since 1970. The line: {"series": [{"run", "key", "count", "points", "raw", "offset"}]}; `points` is
    the length of each array, `offset` counts bytes from the end of the line; the arrays are steps, times, values where
    `raw`, and steps, times, minima, maxima where not. The line is padded with spaces so that the arrays are aligned.
    """
    rows, arrays, offset = [], [], 0
    for run, key, one in series:
        raw = one.maxima is None
        columns = [one.steps.astype("<f8"), one.times / 1000.0, one.minima] + ([] if one.maxima is None else [one.maxima])
        rows.append({"run": run, "key": key, "count": one.count, "points": len(one.steps), "raw": raw, "offset": offset})
        arrays += [np.asarray(column, "<f8").tobytes() for column in columns]
        offset += len(columns) * len(one.steps) * 8
    line = json.dumps({"series": rows}, separators=(",", ":")).encode()
    line += b" " * (-(len(line) + 1) % 8) + b"\n"
    return line + b"".join(arrays)


def from_bytes(body: bytes) -> list[tuple[str, str, Series]]:
    """What `to_bytes` was given (times to the millisecond)."""
    head, _, data = body.partition(b"\n")
    result = []
    for row in json.loads(head)["series"]:
        width = 3 if row["raw"] else 4
        block = np.frombuffer(data, "<f8", width * row["points"], row["offset"]).reshape(width, row["points"])
        times = np.rint(block[1] * 1000).astype(np.int64)
        result.append(
            (row["run"], row["key"], Series(block[0].astype(np.int64), times, block[2], None if row["raw"] else block[3], row["count"]))
        )
    return result
