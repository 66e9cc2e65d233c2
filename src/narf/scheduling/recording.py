"""Recording: a snapshot with what was decided on it, as bytes, so that a decision of production can be made again."""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, fields
from typing import Any
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

import numpy as np

from narf.domain.errors import BadInput
from narf.scheduling.decisions import Decision
from narf.scheduling.policy import Policy
from narf.scheduling.snapshot import Snapshot

FORMAT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    snapshot: Snapshot
    policy: Policy
    now: float
    decisions: tuple[str, ...]  # each as text: what matters is whether they are the same


def record(snapshot: Snapshot, policy: Policy, now: float, decisions: tuple[Decision, ...]) -> bytes:
    """One recording: a compressed NumPy archive that holds no pickles."""
    arrays: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    for field in fields(Snapshot):
        value = getattr(snapshot, field.name)
        if isinstance(value, np.ndarray):
            arrays[field.name] = value
        else:
            plain[field.name] = list(value)
    header = {"format": FORMAT, "now": now, "policy": asdict(policy), "decisions": [repr(d) for d in decisions], "plain": plain}
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    buffer = io.BytesIO()
    # As np.savez_compressed, but fast: it is made in every pass that decides something.
    with ZipFile(buffer, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
    return buffer.getvalue()


def load(data: bytes) -> Recording:
    """Raises BadInput: these bytes are no recording of this version."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        plain = header["plain"]
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
        names: dict[str, Any] = {name: tuple(plain[name]) for name in ("node_names", "flavors", "queue_names", "ids")}
        names["constraints"] = tuple((flavor, tuple((key, value) for key, value in labels)) for flavor, labels in plain["constraints"])
        snapshot = Snapshot(**arrays, **names)
        policy = Policy(**header["policy"])
    except (OSError, EOFError, BadZipFile, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"This is no recording of a plan: {error}.", remedy="Give a file from the folder plans/.") from error
    return Recording(snapshot=snapshot, policy=policy, now=float(header["now"]), decisions=tuple(header["decisions"]))
