"""What the program prints: a script without a logger says its metrics on the screen, and they count too.

Lines are read as they are written to standard output and standard error; the streams stay what they are. Of what `logging` writes
there the message is read, without the time and the names that its format puts before it. What a hook or a logger
records by the same name is better, so the first value of a name waits until its second, or the end.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training.hooks import guarded, torch_loop
from narf.training.imports import when_imported
from narf.training.printed import Printed, metrics_in

_MOST_NAMES = 200
_FREE_SECONDS, _MOST_SHARE = 0.25, 0.02  # what reading may take of a program that prints without end
_LONGEST_REST = 4000


def install() -> None:
    recorder = recorders.current()
    if recorder is None or os.environ.get("RANK", "0") != "0" or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    said = _Said(recorder)
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]
    for stream in streams:
        _listen(stream, said)
    when_imported("logging", functools.partial(_listen_to_logging, streams, said))
    recorder.before_end.append(said.end)


def _listen(stream: Any, said: _Said) -> None:
    original, rest = stream.write, ""

    @guarded("printed")
    def hear(text: str) -> None:
        nonlocal rest
        *lines, last = (rest + text).split("\n")
        rest = last[-_LONGEST_REST:]
        said.read(lines)

    @functools.wraps(original)
    def write(text: Any) -> Any:
        written = original(text)
        if not getattr(said.logging, "writes", False):
            hear(text)
        return written

    stream.write = write


def _listen_to_logging(streams: list[Any], said: _Said, logging: ModuleType) -> None:
    handler: Any = logging.StreamHandler
    original = handler.emit

    @guarded("printed")
    def hear(record: Any) -> None:
        said.read(record.getMessage().split("\n"))

    @functools.wraps(original)
    def emit(self: Any, record: Any) -> None:
        if not any(self.stream is stream for stream in streams):
            original(self, record)
            return
        hear(record)
        said.logging.writes = True
        try:
            original(self, record)
        finally:
            said.logging.writes = False

    handler.emit = emit


class _Said:
    def __init__(self, recorder: recorders.Recorder) -> None:
        self.logging = threading.local()  # `writes`: what is written now was read as a message
        self._process, self._began, self._spent = os.getpid(), time.monotonic(), 0.0
        self._recorder = recorder
        self._waiting: dict[str, tuple[Printed, float]] = {}
        self._steps: dict[str, int] = {}  # the last of each name that is recorded from here
        self._left: set[str] = set()  # recorded by somebody else

    def read(self, lines: list[str]) -> None:
        now = time.monotonic()
        if os.getpid() != self._process or self._spent > _FREE_SECONDS + _MOST_SHARE * (now - self._began):
            return  # a worker of a loader; or one that prints without end
        for line in lines:
            for one in metrics_in(line):
                self._hear(one)
        self._spent += time.monotonic() - now

    def _hear(self, one: Printed) -> None:
        name = one.name
        if name in self._left:
            return
        if name in self._steps:
            self._record(one, time.time())
        elif self._recorder.has_metric(name) or (name == "loss" and torch_loop.sees_loss()):
            self._left.add(name)
            self._waiting.pop(name, None)
        elif name in self._waiting:
            self._record(*self._waiting.pop(name))
            self._record(one, time.time())
        elif len(self._waiting) + len(self._steps) < _MOST_NAMES:
            self._waiting[name] = (one, time.time())

    def end(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for one, when in waiting.values():
            if not self._recorder.has_metric(one.name):
                self._record(one, when)

    def _record(self, one: Printed, when: float) -> None:
        last = self._steps.get(one.name)
        step = one.step if one.step is not None and (last is None or one.step > last) else 0 if last is None else last + 1
        self._steps[one.name] = step
        before = self._recorder.step
        self._recorder.log({one.name: one.value}, step, when)
        self._recorder.step = before  # `narf.log` without a step counts for itself
