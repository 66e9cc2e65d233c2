"""A shipment: what is new in a spool, and its small artifacts, in one request.

The first line is JSON, `{"parts": [...]}`; the bytes of the parts follow in that order. A part is the events or points of a spool from
an offset on (`kind`, `spool`, `offset`, `size`), or an artifact (`kind`, `path`, `size`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from narf.domain.errors import BadInput
from narf.tracking.spool import Stream

_MOST_PARTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolPart:
    spool: str
    stream: Stream
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactPart:
    path: str
    data: bytes


def read_shipment(body: bytes) -> list[SpoolPart | ArtifactPart]:
    """The parts, in their order.

    Raises:
        BadInput: it is no shipment, or its sizes do not add up.
    """
    end = body.find(b"\n")
    try:
        described = json.loads(body[: max(end, 0)])["parts"]
        parts = list(_parts(described, body, end + 1)) if 0 < len(described) <= _MOST_PARTS else []
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        parts = []
    if not parts:
        raise BadInput("The body is no shipment.", remedy=f"Its first line lists 1 to {_MOST_PARTS} parts as JSON.", code="bad_shipment")
    return parts


def _parts(described: list[dict[str, object]], body: bytes, at: int) -> Iterator[SpoolPart | ArtifactPart]:
    for part in described:
        size = _count(part["size"])
        if at + size > len(body):
            raise ValueError("cut off")
        data = body[at : at + size]
        at += size
        kind = part["kind"]
        if kind == "artifact":
            yield ArtifactPart(path=str(part["path"]), data=data)
        elif kind == "events" or kind == "points":
            yield SpoolPart(
                spool=str(part["spool"]), stream="events" if kind == "events" else "points", offset=_count(part["offset"]), data=data
            )
        else:
            raise ValueError("unknown kind")
    if at != len(body):
        raise ValueError("bytes beyond the parts")


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 1 << 60:
        raise ValueError("no size")
    return value
