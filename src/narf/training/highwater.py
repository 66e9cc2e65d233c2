"""The high-water mark of each metric, kept over attempts, so that a resumed curve has no step twice.

After a kill the next attempt resumes from an older checkpoint and repeats some steps. Each attempt keeps, in a small memory-mapped
file in the checkpoint folder, the largest step it logged of every metric; a later attempt drops points up to there.
"""

from __future__ import annotations

import json
import mmap
import os
import struct

_STEP = struct.Struct("<q")
_NONE = -(2**63)
_MOST = 4096  # metrics that are followed; those beyond are not deduplicated
_KEY_STEP = struct.Struct("<Iq")


class HighWater:
    """Marks of this attempt, and the highest of those before it. Not locked: a lost race costs a repeated point, not a missing one."""

    def __init__(self, checkpoints: str) -> None:
        attempt = os.environ.get("NARF_ATTEMPT", "1")
        self._before = _read_marks(checkpoints, attempt) if attempt != "1" else {}
        self._floor: list[int] = []  # by key: points at or below are old
        self._map: mmap.mmap | None = None
        self._is_old = bool(self._before)
        rank = os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or "0"
        self._path = os.path.join(checkpoints, f"marks.{attempt}.{rank}")
        self._names: int | None = None

    def name(self, key: int, name: str) -> None:
        """Follow `key`, which is the metric `name`. Called once for each key, counted from 0."""
        before = self._before.get(name, _NONE)
        # A metric always logged at step 0 (MLflow's default) is a value that is told again, not a curve that is repeated.
        self._floor.append(before if before > 0 else _NONE)
        if key >= _MOST:
            return
        try:
            if self._map is None or self._names is None:
                self._open()
            assert self._names is not None
            os.write(self._names, (json.dumps(name) + "\n").encode())
        except (OSError, ValueError):
            self._map = None  # without marks, a resumed curve may repeat points; nothing is lost

    def keep_new(self, records: bytes) -> bytes:
        """`records` without the points that an earlier attempt logged."""
        if not self._is_old:
            return records
        kept = b""
        for at in range(0, len(records), 32):
            key, step = _KEY_STEP.unpack_from(records, at + 4)
            if key >= len(self._floor) or step > self._floor[key]:
                kept += records[at : at + 32]
        return kept

    def mark(self, records: bytes) -> None:
        """Raise the marks for `records`, which are on disk. Before that, a kill would lose them in the next attempt."""
        marks = self._map
        if marks is not None:
            for at in range(4, len(records), 32):
                key, step = _KEY_STEP.unpack_from(records, at)
                if key < _MOST and step > _STEP.unpack_from(marks, key * 8)[0]:
                    _STEP.pack_into(marks, key * 8, step)

    def _open(self) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        # Written, not only sized: a hole in the file would kill the process when the disk is full.
        with open(self._path + ".steps", "wb") as file:
            file.write(_STEP.pack(_NONE) * _MOST)
        fd = os.open(self._path + ".steps", os.O_RDWR)
        try:
            self._map = mmap.mmap(fd, _MOST * 8)
        finally:
            os.close(fd)
        self._names = os.open(self._path + ".names", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)


def _read_marks(checkpoints: str, attempt: str) -> dict[str, int]:
    """The highest step of each metric over the earlier attempts."""
    highest: dict[str, int] = {}
    try:
        files = os.listdir(checkpoints)
    except OSError:
        return highest
    for file in files:
        if not file.startswith("marks.") or not file.endswith(".names") or file.split(".")[1] == attempt:
            continue
        stem = os.path.join(checkpoints, file[: -len(".names")])
        try:
            with open(stem + ".names", "rb") as names, open(stem + ".steps", "rb") as steps:
                marks = steps.read()
                for key, line in enumerate(names.read().split(b"\n")[:-1]):
                    step = _STEP.unpack_from(marks, key * 8)[0]
                    name = json.loads(line)
                    highest[name] = max(step, highest.get(name, _NONE))
        except (OSError, ValueError, struct.error):
            continue
    return highest
