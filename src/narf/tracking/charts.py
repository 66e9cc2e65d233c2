"""Charts from the database: a series in so many buckets, from pyramids where they are fine enough, else from the points."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, select

from narf.tracking import tables
from narf.tracking.chunk import CELL, cells_of, unpack
from narf.tracking.metrics import find_series, read
from narf.tracking.points import EMPTY
from narf.tracking.series import Series, in_step_order, reduce_cells, reduce_points


def chart(
    connection: Connection, run_id: str, key: str, *, buckets: int, from_step: int | None = None, to_step: int | None = None
) -> Series | None:
    """The series of a metric in at most `buckets` buckets; None if the run has no such metric."""
    found = find_series(connection, run_id, key)
    if found is None:
        return None
    series_id, count, first_step, last_step = found
    whole = (from_step is None or from_step <= first_step) and (to_step is None or to_step >= last_step)
    if not whole:
        count = _points_in_range(connection, series_id, from_step, to_step)
    if count < buckets * CELL:
        low, high = (None, None) if whole else (from_step, to_step)
        points = read(connection, series_id, from_step=low, to_step=high) if count else EMPTY
        return reduce_points(in_step_order(points), buckets)
    return _from_pyramids(connection, series_id, buckets, None if whole else (from_step, to_step))


def _points_in_range(connection: Connection, series_id: int, from_step: int | None, to_step: int | None) -> int:
    """About how many points there are: chunks that reach over an edge count by the share of their steps that is inside."""
    total = 0.0
    for row in _chunk_rows(connection, series_id, (from_step, to_step)):
        low = row.first_step if from_step is None else max(row.first_step, from_step)
        high = row.last_step if to_step is None else min(row.last_step, to_step)
        total += row.points * (high - low + 1) / (row.last_step - row.first_step + 1)
    return round(total)


def _from_pyramids(connection: Connection, series_id: int, buckets: int, bounds: tuple[int | None, int | None] | None) -> Series:
    columns: list[tuple[Any, Any, Any, Any]] = []
    plain = []  # chunks without a pyramid: few points each
    count = 0
    for row in _chunk_rows(connection, series_id, bounds or (None, None)):
        count += row.points
        if row.pyramid is None:
            plain.append(row.seq)
        else:
            columns.append(cells_of(row.pyramid))
    c = tables.chunks.c
    for at in range(0, len(plain), 500):
        query = select(c.data).where(c.series_id == series_id, c.seq.in_(plain[at : at + 500]))
        for row in connection.execute(query):
            points = unpack(row.data)
            columns.append((points.steps, points.times, points.values, points.values))
    steps, times, minima, maxima = (np.concatenate(column) for column in zip(*columns, strict=True))
    if bounds is not None:
        keep = np.ones(len(steps), bool)
        if bounds[0] is not None:
            keep &= steps >= bounds[0]
        if bounds[1] is not None:
            keep &= steps <= bounds[1]
        count = round(count * float(keep.mean())) if len(keep) else 0
        steps, times, minima, maxima = steps[keep], times[keep], minima[keep], maxima[keep]
    return reduce_cells(steps, times, minima, maxima, buckets, count)


def _chunk_rows(connection: Connection, series_id: int, bounds: tuple[int | None, int | None]) -> list[Row[tuple[Any, ...]]]:
    c = tables.chunks.c
    query = select(c.seq, c.count.label("points"), c.first_step, c.last_step, c.pyramid).where(c.series_id == series_id).order_by(c.seq)
    if bounds[0] is not None:
        query = query.where(c.last_step >= bounds[0])
    if bounds[1] is not None:
        query = query.where(c.first_step <= bounds[1])
    return list(connection.execute(query))
