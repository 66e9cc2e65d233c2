"""The output of a gang in one log: what each replica has sent, by whole lines, exactly once over restarts of the driver.

A single replica's bytes are kept as they are, and the end of the log says where to go on. For a gang it is noted
before each append what the log and the replicas' offsets are before and after it; a torn append is cut off again.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from narf.backends.local.log import LogWriter, cut_log, log_end

_HEAD_BYTES, _TAIL_BYTES = 16 << 20, 48 << 20
_LONGEST_LINE = 1 << 16


class MergedLog:
    """The log in `folder`/log of a job with `replicas` replicas."""

    def __init__(self, folder: Path, replicas: int) -> None:
        self._folder, self._note = folder / "log", folder / "offsets.json"
        self._is_gang = replicas > 1
        self.offsets = [0] * replicas  # of each replica's output, up to which it is in the log
        if self._is_gang:
            self._recover()
        else:
            self.offsets = [log_end(self._folder)]
        self._writer = LogWriter(self._folder, head_bytes=_HEAD_BYTES, tail_bytes=_TAIL_BYTES)

    def append(self, rank: int, start: int, data: bytes, *, is_last: bool = False) -> None:
        """Bytes [start, start + len(data)) of a replica. What is an unfinished line is left to be sent again, unless it is the last."""
        if not self._is_gang:
            self._writer.skip(start - self.offsets[0])
            self._writer.write(data)
            self.offsets[0] = start + len(data)
            return
        whole = len(data) if is_last or (len(data) > _LONGEST_LINE and b"\n" not in data) else data.rfind(b"\n") + 1
        if whole == 0:
            return
        label = b"[%d] " % rank
        lines = data[:whole].removesuffix(b"\n").split(b"\n")
        text = b"".join(label + line + b"\n" for line in lines)
        after = [start + whole if other == rank else offset for other, offset in enumerate(self.offsets)]
        self._remember(self._writer.offset + len(text), after)
        self._writer.write(text)
        self.offsets = after

    def close(self) -> None:
        self._writer.close()

    def _remember(self, end: int, after: list[int]) -> None:
        note = {"before": [self._writer.offset, self.offsets], "after": [end, after]}
        new = self._note.with_suffix(".new")
        new.write_text(json.dumps(note))
        os.replace(new, self._note)

    def _recover(self) -> None:
        try:
            note = json.loads(self._note.read_text())
        except FileNotFoundError:
            return
        if log_end(self._folder) >= note["after"][0]:
            self.offsets = note["after"][1]
        else:
            cut_log(self._folder, note["before"][0])
            self.offsets = note["before"][1]
