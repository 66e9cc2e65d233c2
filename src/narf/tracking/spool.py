"""What a spool brings: points and events of one writing process, taken in exactly once.

The caller says from which byte on it sends; what is stored already is skipped, and how far the file is stored is kept in
the transaction that stores it. Only records that are whole and verify are taken; the answer says where to go on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, insert, select, update

from narf.domain.errors import BadInput, Conflict
from narf.tracking import metrics, tables
from narf.tracking.points import RECORD_BYTES, Points, by_key, concatenate, whole_records
from narf.tracking.upserts import replacing, unless_there

Stream = Literal["events", "points"]
_LONGEST_NAME = 250
_LONGEST_PARAM = 6000
_LONGEST_TAG = 8000
_LONGEST_TEXT = 20_000
_MOST_KEYS = 1 << 32
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_ADD_KEYS = unless_there(tables.spool_keys, ("run_uuid", "spool_id", "key_id", "name"))
_ADD_PARAMS = unless_there(tables.params, ("run_uuid", "key", "value"))
_SET_TAGS = replacing(tables.tags, ("run_uuid", "key", "value"), by=("key", "run_uuid"), values=("value",))
_KEEP_OFFSET = replacing(
    tables.spools, ("run_uuid", "spool_id", "stream", "offset"), by=("run_uuid", "spool_id", "stream"), values=("offset",)
)
_ADD_EVENTS = insert(tables.run_events)
_r, _s, _k = tables.runs.c, tables.spools.c, tables.spool_keys.c
_BEGIN_RUN = update(tables.runs).where(_r.run_uuid == bindparam("run"), _r.status == "SCHEDULED").values(status="RUNNING")
_OFFSET = select(_s.offset).where(_s.run_uuid == bindparam("run"), _s.spool_id == bindparam("spool"), _s.stream == bindparam("kind"))
_NAMES = select(_k.key_id, _k.name).where(_k.run_uuid == bindparam("run"), _k.spool_id == bindparam("spool"))
_SOME_NAMES = _NAMES.where(_k.key_id.in_(bindparam("keys", expanding=True)))


class OffsetMismatch(Conflict):
    """The sender is ahead of what is stored; it must go on from `offset`."""

    code = "offset_mismatch"

    def __init__(self, offset: int) -> None:
        self.offset = offset
        super().__init__(f"The spool is stored up to byte {offset}.", remedy=f"Send from byte {offset} on.")


@dataclass(slots=True)
class Events:
    """The events of one shipment, sorted by what they change."""

    keys: dict[int, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    others: list[dict[str, Any]] = field(default_factory=list)  # rows of run_events


def ingest(connection: Connection, run_id: str, spool_id: str, stream: Stream, offset: int, data: bytes) -> tuple[int, Events]:
    """Take in what of `data`, the bytes of the file from `offset` on, is not stored yet; the new offset and its events.

    The caller holds the lock of the run.

    Raises:
        OffsetMismatch: bytes before `offset` were never stored.
        BadInput: the first record does not verify.
        Conflict: a point uses a key that no event has named yet.
    """
    if not re.fullmatch(r"[0-9a-f]{16}", spool_id):
        raise BadInput("A spool is named by 16 hexadecimal digits.", field="spool_id", code="bad_spool")
    stored = _offset(connection, run_id, spool_id, stream)
    if offset > stored:
        raise OffsetMismatch(stored)
    fresh = memoryview(data)[stored - offset :]
    if not len(fresh):
        return stored, Events()
    if stored == 0 and stream == "events":  # the program lives: the run that was scheduled is running
        connection.execute(_BEGIN_RUN, {"run": run_id})
    events = Events()
    if stream == "points":
        taken = _take_points(connection, run_id, spool_id, fresh, stored)
    else:
        taken, events = _take_events(connection, run_id, spool_id, bytes(fresh))
    if taken:
        _keep_offset(connection, run_id, spool_id, stream, stored + taken)
    return stored + taken, events


def offsets(connection: Connection, run_id: str) -> dict[tuple[str, str], int]:
    """How much is stored of each (spool id, stream) of a run."""
    s = tables.spools.c
    return {
        (row.spool_id, row.stream): row.offset
        for row in connection.execute(select(s.spool_id, s.stream, s.offset).where(s.run_uuid == run_id))
    }


def metric_name(name: str) -> str:
    """The name under which a metric is kept: any characters but control characters, at most 250; longer ones keep their
    beginning and a digest, so that two of them stay two."""
    name = _CONTROL.sub("_", name).encode("utf-8", "replace").decode() or "unnamed"
    if len(name) <= _LONGEST_NAME:
        return name
    return name[: _LONGEST_NAME - 9] + "~" + hashlib.sha256(name.encode()).hexdigest()[:8]


def read_events(data: bytes) -> tuple[int, Events]:
    """The whole lines of `data`: their bytes, and what they say. Lines of unknown type are passed over.

    Raises:
        BadInput: a line is no event.
    """
    end = data.rfind(b"\n") + 1
    events = Events()
    for line in data[:end].splitlines():
        if line.strip():
            _sort(_parse(line), events)
    return end, events


def _take_points(connection: Connection, run_id: str, spool_id: str, data: memoryview, at: int) -> int:
    records = whole_records(data)
    if not len(records):
        if len(data) >= RECORD_BYTES:
            raise BadInput(f"The record at byte {at} does not verify.", remedy="Cut the spool before it.", code="bad_record")
        return 0
    groups = by_key(records)
    names = _names(connection, run_id, spool_id, [key for key, _ in groups])
    unknown = [key for key, _ in groups if key not in names]
    if unknown:
        raise Conflict(f"No event has named key {unknown[0]}.", remedy="Send the events first.", code="unknown_key")
    by_name: dict[str, list[Points]] = {}
    for key, points in groups:
        by_name.setdefault(names[key], []).append(points)
    metrics.append(connection, run_id, [(name, concatenate(parts)) for name, parts in by_name.items()])
    return len(records) * RECORD_BYTES


def _take_events(connection: Connection, run_id: str, spool_id: str, data: bytes) -> tuple[int, Events]:
    taken, events = read_events(data)
    if events.keys:
        rows = [{"run_uuid": run_id, "spool_id": spool_id, "key_id": key, "name": name} for key, name in events.keys.items()]
        connection.execute(_ADD_KEYS.on(connection), rows)
    if events.params:  # the first value stays: MLflow's parameters do not change
        rows = [{"run_uuid": run_id, "key": key, "value": value} for key, value in events.params.items()]
        connection.execute(_ADD_PARAMS.on(connection), rows)
    set_tags(connection, run_id, events.tags)
    if events.others:
        connection.execute(_ADD_EVENTS, [{"run_uuid": run_id, **row} for row in events.others])
    return taken, events


def set_tags(connection: Connection, run_id: str, tags: dict[str, str]) -> None:
    """Set tags of a run, whatever they were before."""
    if not tags:
        return
    connection.execute(_SET_TAGS.on(connection), [{"run_uuid": run_id, "key": key, "value": value} for key, value in tags.items()])
    if name := tags.get("mlflow.runName"):
        connection.execute(tables.runs.update().where(tables.runs.c.run_uuid == run_id).values(name=name[:250]))


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise BadInput("A line of the events is no event.", remedy="Each is a JSON object with a type.", code="bad_record")
    return event


def _sort(event: dict[str, Any], events: Events) -> None:
    kind = event["type"]
    name, value = event.get("name"), event.get("value")
    if kind == "key":
        key = event.get("id")
        if not isinstance(key, int) or isinstance(key, bool) or not 0 <= key < _MOST_KEYS or not isinstance(name, str):
            raise BadInput("A key event has an id from 0 to 2^32-1 and a name.", code="bad_record")
        events.keys.setdefault(key, metric_name(name))
    elif kind == "param" and isinstance(name, str):
        events.params.setdefault(metric_name(name), _text(value, _LONGEST_PARAM))
    elif kind == "tag" and isinstance(name, str):
        events.tags[metric_name(name)] = _text(value, _LONGEST_TAG)
    elif kind in ("metric_text", "phase", "note", "end", "artifact"):
        shown = name if isinstance(name, str) else event.get("path") if kind == "artifact" else ""
        text = event.get("text", value)
        events.others.append(
            {"time": _time(event.get("time")), "type": kind, "name": str(shown or "")[:_LONGEST_NAME], "text": _text(text, _LONGEST_TEXT)}
        )


def _text(value: Any, longest: int) -> str:
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, default=str)
    # PostgreSQL stores no NUL; a lone surrogate cannot be encoded.
    return text.replace("\x00", "").encode("utf-8", "replace").decode()[:longest]


def _time(value: Any) -> int:
    usable = isinstance(value, int | float) and value == value and abs(value) < 1e13
    return round(value * 1000) if usable else 0


def _offset(connection: Connection, run_id: str, spool_id: str, stream: str) -> int:
    return connection.execute(_OFFSET, {"run": run_id, "spool": spool_id, "kind": stream}).scalar() or 0


def _keep_offset(connection: Connection, run_id: str, spool_id: str, stream: str, offset: int) -> None:
    place = {"run_uuid": run_id, "spool_id": spool_id, "stream": stream}
    connection.execute(_KEEP_OFFSET.on(connection), place | {"offset": offset})


def _names(connection: Connection, run_id: str, spool_id: str, keys: Iterable[int]) -> dict[int, str]:
    wanted, place = list(keys), {"run": run_id, "spool": spool_id}
    rows = connection.execute(_SOME_NAMES, place | {"keys": wanted}) if len(wanted) <= 500 else connection.execute(_NAMES, place)
    return {row.key_id: row.name for row in rows}
