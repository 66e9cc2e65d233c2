"""The output of one replica on its way from a pipe to the job's log.

A single replica's bytes are passed on untouched. A gang's are merged by whole lines, each with the
replica's label in front, so that two ranks that print at once do not tear each other's lines.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_BLOCK = 1 << 18
_LONGEST_LINE = 1 << 16  # a longer one is passed on in pieces: binary noise has no line ends


class Output:
    def __init__(self, descriptor: int, write: Callable[[bytes], None], *, label: str = "") -> None:
        self.descriptor = descriptor
        self._write, self._label = write, label.encode()
        self._line = b""

    def pump(self) -> bool:
        """Pass on what is there now, one block at most; false at the end."""
        try:
            data = os.read(self.descriptor, _BLOCK)
        except BlockingIOError:
            return True
        if not data:
            return False
        self._pass_on(data)
        return True

    def finish(self) -> None:
        """Pass on everything that is left in the pipe, and close it."""
        os.set_blocking(self.descriptor, False)
        while True:
            try:
                data = os.read(self.descriptor, _BLOCK)
            except BlockingIOError:
                break
            if not data:
                break
            self._pass_on(data)
        if self._line:
            self._write(self._label + self._line + b"\n")
        self._line = b""
        os.close(self.descriptor)

    def _pass_on(self, data: bytes) -> None:
        if not self._label:
            self._write(data)
            return
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _LONGEST_LINE:
            lines.append(self._line)
            self._line = b""
        if lines:
            self._write(b"".join(self._label + line + b"\n" for line in lines))
