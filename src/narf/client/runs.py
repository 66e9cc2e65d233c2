"""Runs from programs: search them, read their metrics, write points into them.

from narf.client.runs import find_runs, read_history, to_pandas
best = find_runs("vision", filter="metrics.val_loss < 0.1", order_by=["metrics.val_loss"])
to_pandas(best)
"""

from __future__ import annotations

import json
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from narf.client.connection import Connection, connect, problem
from narf.domain.errors import Conflict, MissingExtra

_MOST_SHIPPED = 8 << 20
_BODY = struct.Struct("<Iqdd")
_MAGIC = struct.pack("<H", 0x4E50)


@dataclass(frozen=True, slots=True)
class History:
    """Every point of a metric, in order of step; times are seconds since 1970."""

    steps: NDArray[np.int64]
    times: NDArray[np.float64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.steps)


def find_runs(
    project: str = "default",
    *,
    filter: str = "",
    order_by: Sequence[str] = (),
    experiments: Sequence[str] = (),
    most: int | None = None,
    deleted: bool = False,
    connection: Connection | None = None,
) -> list[dict[str, Any]]:
    """Runs in MLflow's language, as the API gives them; all of them unless `most` says how many."""
    query = {
        "filter": filter,
        "order_by": list(order_by) or None,
        "experiment": list(experiments) or None,
        "deleted": deleted or None,
    }
    return list((connection or connect()).items(f"/api/v1/projects/{project}/runs", most=most, **query))


def read_history(run: str, key: str, *, connection: Connection | None = None) -> History:
    """Every point of one metric of a run."""
    answer = (connection or connect()).request("GET", f"/api/v1/runs/{run}/history", params={"key": key})
    if not answer.is_success:
        raise problem(answer)
    head, _, data = answer.content.partition(b"\n")
    (row,) = json.loads(head)["series"]
    columns = np.frombuffer(data, "<f8", 3 * row["points"], row["offset"]).reshape(3, -1)
    return History(columns[0].astype(np.int64), columns[1], columns[2])


def to_columns(runs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """A column for each fact, parameter and metric ("params.lr", "metrics.loss"); None where a run has none."""
    facts = ("id", "name", "experiment", "status", "user", "created_at", "ended_at")
    columns: dict[str, list[Any]] = {fact: [run[fact] for run in runs] for fact in facts}
    for kind in ("params", "metrics"):
        for name in sorted({name for run in runs for name in run[kind]}):
            values = [run[kind].get(name) for run in runs]
            columns[f"{kind}.{name}"] = [None if v is None else float(v) for v in values] if kind == "metrics" else values
    return columns


def to_pandas(runs: Sequence[Mapping[str, Any]]) -> Any:
    """The runs as a pandas data frame."""
    try:
        import pandas as pd
    except ImportError as error:
        raise MissingExtra("A pandas data frame", "data") from error
    return pd.DataFrame(to_columns(runs))


def to_arrow(runs: Sequence[Mapping[str, Any]]) -> Any:
    """The runs as an Arrow table."""
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtra("An Arrow table", "data") from error
    return pa.table(to_columns(runs))


def write_points(connection: Connection, run: str, points: Iterable[tuple[str, int, float, float]], *, spool_id: str = "") -> int:
    """Send points (key, step, seconds since 1970, value) to a run, in order, each exactly once; how many they were.

    With a `spool_id` that was used before, what is stored already is skipped: an interrupted transfer goes on.
    """
    spool_id = spool_id or secrets.token_hex(8)
    keys: dict[str, int] = {}
    sent, known = 0, {"events": 0, "points": 0}
    for batch in _batches(points):
        new = [key for key, *_ in batch if key not in keys]
        for key in new:
            keys.setdefault(key, len(keys))
        lines = "".join(json.dumps({"type": "key", "time": 0.0, "id": keys[key], "name": key}) + "\n" for key in dict.fromkeys(new))
        known["events"] = _ship(connection, run, spool_id, "events", known["events"], lines.encode())
        records = b"".join(_record(keys[key], step, time, value) for key, step, time, value in batch)
        known["points"] = _ship(connection, run, spool_id, "points", known["points"], records)
        sent += len(batch)
    return sent


def upload_artifact(connection: Connection, run: str, path: str, content: Any) -> None:
    connection.put(f"/api/v1/runs/{run}/artifacts/{quote(path)}", content=content)


def _batches(points: Iterable[tuple[str, int, float, float]]) -> Iterator[list[tuple[str, int, float, float]]]:
    batch = []
    for point in points:
        batch.append(point)
        if len(batch) * 32 >= _MOST_SHIPPED:
            yield batch
            batch = []
    if batch:
        yield batch


def _record(key: int, step: int, time: float, value: float) -> bytes:
    body = _BODY.pack(key, step, time, value)
    return _MAGIC + struct.pack("<H", zlib.crc32(body, zlib.crc32(_MAGIC)) & 0xFFFF) + body


def _ship(connection: Connection, run: str, spool_id: str, stream: str, offset: int, data: bytes) -> int:
    if not data:
        return offset
    answer = connection.request("POST", f"/api/v1/runs/{run}/spools/{spool_id}/{stream}", params={"offset": offset}, content=data)
    if not answer.is_success:
        raise problem(answer)
    stored = int(answer.json()["offset"])
    if stored < offset + len(data):
        raise Conflict(f"Only {stored - offset} of {len(data)} bytes were taken.", remedy="Send the rest again.")
    return offset + len(data)
