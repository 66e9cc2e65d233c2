"""Recording: a snapshot with what was decided on it, as bytes, so that a decision of production can be made again."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from narf.domain.errors import BadInput
from narf.scheduling.decisions import Decision
from narf.scheduling.policy import Policy
from narf.scheduling.snapshot import Snapshot

FORMAT = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    snapshot: Snapshot
    policy: Policy
    now: float
    decisions: tuple[str, ...]  # each as text: what matters is whether they are the same


def record(snapshot: Snapshot, policy: Policy, now: float, decisions: tuple[Decision, ...]) -> bytes:
    """One recording, deflated: a line of JSON that says what the arrays are, and their bytes, one after another.

    An archive of NumPy files would say the same, at twenty times the cost of a small snapshot: it is made in every pass that decides something.
    """
    arrays: list[np.ndarray[Any, Any]] = []
    shapes: list[tuple[str, str, tuple[int, ...]]] = []
    plain: dict[str, Any] = {}
    for field in fields(Snapshot):
        value = getattr(snapshot, field.name)
        if isinstance(value, np.ndarray):
            arrays.append(np.ascontiguousarray(value))
            shapes.append((field.name, value.dtype.str, value.shape))
        else:
            plain[field.name] = list(value)
    header = {
        "format": FORMAT, "now": now, "policy": asdict(policy), "decisions": [repr(d) for d in decisions], "plain": plain, "arrays": shapes,
    }  # fmt: skip
    return zlib.compress(b"".join([json.dumps(header).encode(), b"\n", *(array.tobytes() for array in arrays)]), level=1)


def load(data: bytes) -> Recording:
    """Raises BadInput: these bytes are no recording of this version."""
    try:
        head, _, body = zlib.decompress(data).partition(b"\n")
        header = json.loads(head)
        plain = header["plain"]
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        arrays: dict[str, Any] = {}
        offset = 0
        for name, kind, shape in header["arrays"]:
            dtype, count = np.dtype(kind), math.prod(shape)
            arrays[name] = np.frombuffer(body, dtype, count, offset).reshape(shape)
            offset += count * dtype.itemsize
        names: dict[str, Any] = {name: tuple(plain[name]) for name in ("node_names", "flavors", "queue_names", "ids")}
        names["constraints"] = tuple((flavor, tuple((key, value) for key, value in labels)) for flavor, labels in plain["constraints"])
        snapshot = Snapshot(**arrays, **names)
        policy = Policy(**header["policy"])
    except (zlib.error, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"This is no recording of a plan: {error}.", remedy="Give a file from the folder plans/.") from error
    return Recording(snapshot=snapshot, policy=policy, now=float(header["now"]), decisions=tuple(header["decisions"]))
