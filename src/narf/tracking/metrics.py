"""Metric points in the database: appended as chunks, summed up per series, latest values kept for MLflow's search.

Functions on a SQLAlchemy connection within the caller's transaction, so that points commit together with what else the
caller writes. The caller holds the write lock of the run (`lock_run`), so series are not made twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, Update, bindparam, func, insert, select, tuple_, update

from narf.tracking import tables
from narf.tracking.chunk import pack, pyramid, unpack
from narf.tracking.points import Points, concatenate
from narf.tracking.upserts import Upsert

# What a single chunk holds at most; longer appends are cut.
TARGET = 65_536
_KEYS_AT_ONCE = 500


# Made once: to put a statement together anew costs as much as to execute it.
_s = tables.series.c
_ADD_SERIES = insert(tables.series)
_ADD_CHUNKS = insert(tables.chunks)
_KNOWN = select(_s.id, _s.count, _s.first_step, _s.last_step).where(_s.run_uuid == bindparam("run"), _s.key == bindparam("of"))
_SERIES = select(_s.key, _s.id, _s.next_seq).where(_s.run_uuid == bindparam("run"))
_SOME_SERIES = _SERIES.where(_s.key.in_(bindparam("keys", expanding=True)))


class Known(NamedTuple):
    """What a series row says of the whole series."""

    id: int
    points: int
    first_step: int
    last_step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """A metric of a run, without its points. `last` is the latest by step, then time, then value, as MLflow has it."""

    key: str
    count: int
    last: float
    last_step: int
    last_time: int
    least: float | None
    greatest: float | None
    first_step: int
    series_id: int


def append(connection: Connection, run_id: str, groups: Sequence[tuple[str, Points]]) -> None:
    """Add the points of each key after what the series has. Keys are distinct, no group is empty."""
    if not groups:
        return
    known = _series_of(connection, run_id, [key for key, _ in groups])
    fresh = [
        {"run_uuid": run_id, "key": key, "count": 0, "next_seq": 0, "loose": 0} | extent(points) | {"least": None, "greatest": None}
        for key, points in groups
        if key not in known
    ]
    if fresh:
        connection.execute(_ADD_SERIES, fresh)
        known |= _series_of(connection, run_id, [str(row["key"]) for row in fresh])
    rows, changes, latest = [], [], []
    for key, points in groups:
        series_id, next_seq = known[key]
        parts = [points] if len(points) <= TARGET else [points.take(slice(at, at + TARGET)) for at in range(0, len(points), TARGET)]
        rows += [
            {"series_id": series_id, "seq": next_seq + i, "count": len(part), "data": pack(part), "pyramid": pyramid(part)} | extent(part)
            for i, part in enumerate(parts)
        ]
        least, greatest = _range(points)
        changes.append(
            {"series": series_id, "more": len(points), "parts": len(parts), "new_least": least, "new_greatest": greatest}
            | {"new_" + name: value for name, value in extent(points).items()}
        )
        latest.append({"run_uuid": run_id, "key": key} | _latest(points))
    connection.execute(_ADD_CHUNKS, rows)
    connection.execute(_GROW[connection.dialect.name], changes)
    connection.execute(_KEEP_LATEST.on(connection), latest)


def without_stored(connection: Connection, run_id: str, groups: Sequence[tuple[str, Points]]) -> list[tuple[str, Points]]:
    """`groups` without points that are stored already, bit by bit; groups left empty are dropped.

    MLflow's clients send a batch again when an answer was lost, and MLflow keeps such a point once. Only chunks whose steps
    and times overlap are read: for a series that grows there are none.
    """
    result = []
    known = _series_of(connection, run_id, [key for key, _ in groups])
    for key, points in groups:
        if key in known:
            stored = read(connection, known[key][0], overlapping=points)
            if len(stored):
                before = _identities(stored)
                keep = np.array([identity not in before for identity in _identity_rows(points)], bool)
                points = points.take(keep)
        if len(points):
            result.append((key, points))
    return result


def summaries(connection: Connection, run_id: str) -> list[Summary]:
    """Every metric of a run, in order of key."""
    s, latest = tables.series.c, tables.latest_metrics.c
    query = (
        select(
            s.id, s.key, s.count, s.least, s.greatest, s.first_step, s.last_step, latest.value, latest.is_nan, latest.step, latest.timestamp
        )
        .select_from(tables.series.join(tables.latest_metrics, (latest.run_uuid == s.run_uuid) & (latest.key == s.key)))
        .where(s.run_uuid == run_id)
        .order_by(s.key)
    )
    return [_summary(row) for row in connection.execute(query)]


def find_series(connection: Connection, run_id: str, key: str) -> Known | None:
    """id, count, first_step, last_step of a metric; None if the run has none of that name."""
    row = connection.execute(_KNOWN, {"run": run_id, "of": key}).first()
    return Known(*row) if row else None


def read(
    connection: Connection, series_id: int, *, from_step: int | None = None, to_step: int | None = None, overlapping: Points | None = None
) -> Points:
    """The points of a series in the order in which they arrived, optionally of steps from..to (both included), or
    of the chunks only that may hold some of `overlapping`."""
    c = tables.chunks.c
    query = select(c.data).where(c.series_id == series_id).order_by(c.seq)
    if from_step is not None:
        query = query.where(c.last_step >= from_step)
    if to_step is not None:
        query = query.where(c.first_step <= to_step)
    if overlapping is not None:
        around = extent(overlapping)
        query = query.where(c.last_step >= around["first_step"], c.first_step <= around["last_step"])
        query = query.where(c.last_time >= around["first_time"], c.first_time <= around["last_time"])
    points = concatenate([unpack(row.data) for row in connection.execute(query)])
    if from_step is not None or to_step is not None:
        keep = np.ones(len(points), bool)
        if from_step is not None:
            keep &= points.steps >= from_step
        if to_step is not None:
            keep &= points.steps <= to_step
        points = points.take(keep)
    return points


def _series_of(connection: Connection, run_id: str, keys: Sequence[str]) -> dict[str, tuple[int, int]]:
    of = {"run": run_id}
    some = len(keys) <= _KEYS_AT_ONCE
    rows = connection.execute(_SOME_SERIES, of | {"keys": list(keys)}) if some else connection.execute(_SERIES, of)
    return {row.key: (row.id, row.next_seq) for row in rows}


def extent(points: Points) -> dict[str, int]:
    steps, times = points.steps, points.times
    if len(steps) == 1:
        return {"first_step": int(steps[0]), "last_step": int(steps[0]), "first_time": int(times[0]), "last_time": int(times[0])}
    return {
        "first_step": int(steps.min()),
        "last_step": int(steps.max()),
        "first_time": int(times.min()),
        "last_time": int(times.max()),
    }


def _range(points: Points) -> tuple[float | None, float | None]:
    """Least and greatest, clipped to what every database stores; None where no value is a number."""
    least, greatest = (float(np.fmin.reduce(points.values)), float(np.fmax.reduce(points.values)))
    return (None, None) if math.isnan(least) else (storable(least)[1], storable(greatest)[1])


def storable(value: float) -> tuple[bool, float]:
    """Whether it is NaN, and the number that stands for it in MLflow's tables: 0 for NaN, the greatest for infinity."""
    if math.isnan(value):
        return True, 0.0
    return False, math.copysign(1.7976931348623157e308, value) if math.isinf(value) else value


def _latest(points: Points) -> dict[str, float | int | bool]:
    at = 0
    if len(points) > 1:
        last = np.flatnonzero(points.steps == points.steps.max())
        if len(last) > 1:
            last = last[points.times[last] == points.times[last].max()]
        # Compared as MLflow stores them, where NaN is 0.
        at = int(last[np.argmax(np.nan_to_num(points.values[last]))])
    is_nan, value = storable(float(points.values[at]))
    return {"value": value, "is_nan": is_nan, "step": int(points.steps[at]), "timestamp": int(points.times[at])}


def _identity_rows(points: Points) -> Iterable[tuple[int, int, bytes | float]]:
    for step, time, value in zip(points.steps.tolist(), points.times.tolist(), points.values.tolist(), strict=True):
        is_nan, number = storable(value)
        yield step, time, b"nan" if is_nan else number


def _identities(points: Points) -> set[tuple[int, int, bytes | float]]:
    return set(_identity_rows(points))


def distinct(points: Points) -> Points:
    """`points`, each once, as MLflow keeps them within one batch."""
    seen: set[tuple[int, int, bytes | float]] = set()
    keep = []
    for identity in _identity_rows(points):
        keep.append(identity not in seen)
        seen.add(identity)
    return points if all(keep) else points.take(np.array(keep, bool))


def _summary(row: Row[tuple[Any, ...]]) -> Summary:
    values: Mapping[str, Any] = row._asdict()  # attribute access would find the tuple's own `count`
    return Summary(
        key=values["key"],
        count=values["count"],
        last=math.nan if values["is_nan"] else values["value"],
        last_step=values["last_step"],
        last_time=values["timestamp"],
        least=values["least"],
        greatest=values["greatest"],
        first_step=values["first_step"],
        series_id=values["id"],
    )


def _grow(lesser: str, greater: str) -> Update:
    """The change of a series row by one append. SQLite's two-argument min and max are least and greatest elsewhere."""
    s = tables.series.c
    smaller, larger = getattr(func, lesser), getattr(func, greater)
    return (
        update(tables.series)
        .where(s.id == bindparam("series"))
        .values(
            count=s.count + bindparam("more"),
            next_seq=s.next_seq + bindparam("parts"),
            loose=s.loose + bindparam("parts"),
            least=func.coalesce(
                smaller(s.least, bindparam("new_least", type_=s.least.type)), s.least, bindparam("new_least", type_=s.least.type)
            ),
            greatest=func.coalesce(
                larger(s.greatest, bindparam("new_greatest", type_=s.least.type)), s.greatest, bindparam("new_greatest", type_=s.least.type)
            ),
            first_step=smaller(s.first_step, bindparam("new_first_step")),
            last_step=larger(s.last_step, bindparam("new_last_step")),
            first_time=smaller(s.first_time, bindparam("new_first_time")),
            last_time=larger(s.last_time, bindparam("new_last_time")),
        )
    )


def _keep_latest(statement: Any) -> Any:
    new, old = statement.excluded, tables.latest_metrics.c
    return statement.on_conflict_do_update(
        index_elements=[old.key, old.run_uuid],
        set_={name: new[name] for name in ("value", "timestamp", "step", "is_nan")},
        where=tuple_(new.step, new.timestamp, new.value) > tuple_(old.step, old.timestamp, old.value),
    )


_GROW = {"sqlite": _grow("min", "max"), "postgresql": _grow("least", "greatest")}
_KEEP_LATEST = Upsert(tables.latest_metrics, ("run_uuid", "key", "value", "is_nan", "step", "timestamp"), _keep_latest)
