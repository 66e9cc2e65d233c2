"""Compaction: many small chunks of a series become few large ones.

Appends leave a chunk each. Chunks of similar size are merged once there are `FAN` of them, so that a point is rewritten
about once for every factor of `FAN` in size, and a series of n points has about FAN * log(n) chunks. Only
neighbours are merged: the order of arrival stays.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sqlalchemy import Connection, delete, insert, select, update

from narf.tracking import tables
from narf.tracking.chunk import pack, pyramid, unpack
from narf.tracking.metrics import TARGET, extent
from narf.tracking.points import concatenate

FAN = 16


def mergeable(counts: Sequence[int], *, fan: int = FAN, target: int = TARGET) -> tuple[int, int] | None:
    """The neighbours to merge next, as (start, end) in `counts`, the points of each chunk in order; None if none need it.

    Taken are the newest chunks up to one size class, once `fan` of them are of that very class: were smaller ones to count, each
    few small chunks would rewrite the large one before them. Chunks of half the target and more stay as they are.
    """
    end = len(counts)
    for size_class in range(math.ceil(math.log(target, fan)) + 1):
        start = end
        while start and counts[start - 1] < target // 2 and _size_class(counts[start - 1], fan) <= size_class:
            start -= 1
        if sum(_size_class(count, fan) == size_class for count in counts[start:end]) >= fan:
            return start, end
    return None


def compact_series(connection: Connection, series_id: int) -> int:
    """Merge what should be merged in one series; the number of chunks that went away. Needs a write transaction."""
    c = tables.chunks.c
    stored = connection.execute(select(c.seq, c.count.label("points")).where(c.series_id == series_id).order_by(c.seq)).all()
    counts, seqs, gone = [row.points for row in stored], [row.seq for row in stored], 0
    while found := mergeable(counts):
        start, end = found
        first, last = seqs[start], seqs[end - 1]
        span = (c.series_id == series_id, c.seq >= first, c.seq <= last)
        whole = concatenate([unpack(row.data) for row in connection.execute(select(c.data).where(*span).order_by(c.seq))])
        parts = [whole.take(slice(at, at + TARGET)) for at in range(0, len(whole), TARGET)]
        connection.execute(delete(tables.chunks).where(*span))
        rows = [
            {"series_id": series_id, "seq": first + i, "count": len(part), "data": pack(part), "pyramid": pyramid(part)} | extent(part)
            for i, part in enumerate(parts)
        ]
        connection.execute(insert(tables.chunks), rows)
        counts[start:end] = [len(part) for part in parts]
        seqs[start:end] = [first + i for i in range(len(parts))]
        gone += end - start - len(parts)
    connection.execute(update(tables.series).where(tables.series.c.id == series_id).values(loose=0))
    return gone


def waiting(connection: Connection, limit: int) -> list[int]:
    """Series with enough new chunks to be worth a look, the fullest first."""
    s = tables.series.c
    return [row.id for row in connection.execute(select(s.id).where(s.loose >= FAN).order_by(s.loose.desc()).limit(limit))]


def _size_class(count: int, fan: int) -> int:
    size_class = 0
    while count >= fan:
        count //= fan
        size_class += 1
    return size_class


def lock(connection: Connection, series_id: int) -> bool:
    """Hold the run of a series against appends until the transaction ends; False if it is gone or locked by another."""
    if connection.dialect.name == "sqlite":
        return True
    s, r = tables.series.c, tables.runs.c
    query = select(r.run_uuid).where(s.id == series_id, r.run_uuid == s.run_uuid)
    return connection.execute(query.with_for_update(of=tables.runs, key_share=True, skip_locked=True)).first() is not None
