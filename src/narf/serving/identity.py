"""Names of predictions: sortable by time, unique across processes, cheap enough to give one to every request."""

from __future__ import annotations

import os
import re
import time
from itertools import count

_VALID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_PREFIX = "pred-"


class Identities:
    """`pred-` + milliseconds (11 hex) + process (8 hex) + counter (6 hex)."""

    def __init__(self) -> None:
        self._process = os.urandom(4).hex()
        self._counter = count(int.from_bytes(os.urandom(2), "big"))

    def new(self) -> bytes:
        return b"pred-%011x%b%06x" % (time.time_ns() // 1_000_000, self._process.encode(), next(self._counter) & 0xFFFFFF)


def is_valid(prediction: bytes) -> bool:
    return _VALID.fullmatch(prediction) is not None


def milliseconds_of(prediction: str) -> int | None:
    """When the prediction was named, or None for an id that is not one of ours."""
    if not prediction.startswith(_PREFIX) or len(prediction) != len(_PREFIX) + 25:
        return None
    try:
        return int(prediction[len(_PREFIX) :][:11], 16)
    except ValueError:
        return None
