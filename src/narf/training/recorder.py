"""The recorder: turns what a program logs into the records of its spool. One a process, whoever logs.

What odd input gets is written down in `docs/guides/training.md` under "What may be logged"; nothing here raises into the user's
program because of a value.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from narf.training.highwater import HighWater
from narf.training.spool import _BODY, _HEAD, _SEED, MAGIC, SpoolWriter, pack_point

LONGEST_NAME = 250  # what MLflow's stores take
MOST_NAMES = 100_000  # of metrics in one process; what comes after is refused
_LEAST_STEP, _MOST_STEP = -(2**63), 2**63 - 1
_ODD = re.compile(r"[^\w\-. :/]", re.ASCII)


class Recorder:
    """Writes metrics, parameters, tags and artifacts of one run to the spool in `folder`. Safe from any thread and over forks."""

    def __init__(self, folder: str, checkpoints: str | None = None) -> None:
        self.folder = folder
        self.step = -1  # the last step logged; `log` without a step takes the next one
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.is_ended = False
        self.before_end: list[Callable[[], None]] = []  # called once, when the run's last words are due
        self._spool = SpoolWriter(folder)
        self._keys: dict[str, int] = {}
        self._names: set[str] = set()
        self._lock = threading.RLock()
        self._reported: set[str] = set()
        self._deferred: _Deferred | None = None
        self._highwater = HighWater(checkpoints) if checkpoints else None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def log(self, values: Mapping[str, Any], step: int | None = None, when: float | None = None) -> bool:
        """Write `values` at `step`; without a step, at the one after the last. Whether all of them are safe on disk now."""
        now = time.time() if when is None else when
        if step is None:
            step = self.step + 1
        keys = self._keys
        records = b""
        safe = True
        try:
            for name, value in values.items():
                if type(value) is not float:
                    number = self._number(name, value, step, now)
                    if number is None:
                        safe = False
                        continue
                    value = number
                key = keys.get(name)
                if key is None:
                    key = self._key(name)
                    if key < 0:
                        safe = False
                        continue
                # The lines of `spool.pack_point`, unrolled: this is the path that must take under 5 µs.
                body = _BODY.pack(key, step, now, value)
                records += _HEAD.pack(MAGIC, zlib.crc32(body, _SEED) & 0xFFFF) + body
        except Exception as error:  # a step that is no integer, a mapping that fails: the user's program goes on
            self.report("log", f"narf: could not log {_shown(values)} at step {step!r}: {error}")
            return False
        self.step = step
        if self.is_ended:
            self._refuse_after_end()
            return False
        highwater = self._highwater
        if highwater is not None:
            records = highwater.keep_new(records)
        if records and not self._write(records):
            return False
        if highwater is not None:
            highwater.mark(records)
        return safe

    def param(self, name: str, value: Any) -> None:
        """Record a parameter. The first value of a name stands, as in MLflow; a parameter told again alike is nothing new."""
        name = clean_name(str(name))
        text = _text(value, 6000)
        with self._lock:
            if name in self.params:
                if self.params[name] != text:
                    self.report(f"param {name}", f"narf: parameter {name!r} is {self.params[name]!r} already; {text!r} was not recorded")
                return
            self.params[name] = text
        self._event("param", name=name, value=text)

    def tag(self, name: str, value: Any) -> None:
        name = clean_name(str(name))
        text = _text(value, 8000)
        if self.tags.get(name) != text:
            self.tags[name] = text
            self._event("tag", name=name, value=text)

    def checkpointed(self, step: int) -> None:
        """A checkpoint from which the next attempt can go on has been written: the scheduler prefers to preempt who loses little."""
        self.tag("narf.checkpoint_step", step)
        self.tag("narf.checkpointed_at", round(time.time(), 3))

    def text_metric(self, name: str, value: Any, step: int, when: float) -> None:
        self._event("metric_text", name=clean_name(str(name)), value=_text(value, 8000), step=step, time=when)

    def artifact(self, file: str, path: str, *, copy: bool = True) -> bool:
        """Hand in a file as artifact `path`. It is copied first, unless `copy` is False: then it must stay as it is."""
        path = clean_path(path)
        try:
            if copy:
                import shutil

                folder = os.path.join(self.folder, "artifacts")
                os.makedirs(folder, exist_ok=True)
                kept = os.path.join("artifacts", os.urandom(8).hex())
                shutil.copyfile(file, os.path.join(self.folder, kept))
                return self._event("artifact", path=path, file=kept, delete=True)
            return self._event("artifact", path=path, file=os.path.abspath(file), delete=False)
        except OSError as error:
            self.report("artifact", f"narf: the artifact {path!r} was not recorded: {error}")
            return False

    def artifact_bytes(self, content: bytes, path: str) -> bool:
        """Hand in `content` as artifact `path`."""
        try:
            folder = os.path.join(self.folder, "artifacts")
            os.makedirs(folder, exist_ok=True)
            kept = os.path.join("artifacts", os.urandom(8).hex())
            with open(os.path.join(self.folder, kept), "wb") as file:
                file.write(content)
        except OSError as error:
            self.report("artifact", f"narf: the artifact {path!r} was not recorded: {error}")
            return False
        return self._event("artifact", path=clean_path(path), file=kept, delete=True)

    def has_metric(self, name: str) -> bool:
        return name in self._keys

    def phase(self, name: str) -> None:
        self._event("phase", name=name)

    def note(self, text: str) -> None:
        self._event("note", text=text)

    def heartbeat(self, rank: int, step: int) -> None:
        """Show that rank `rank` lives and has reached `step`, in a file of its own."""
        try:
            os.makedirs(self.folder, exist_ok=True)
            path = os.path.join(self.folder, f"rank-{rank}.heartbeat")
            with open(path + ".part", "w") as file:
                file.write(f'{{"rank": {rank}, "step": {step}, "time": {time.time()}}}\n')
            os.replace(path + ".part", path)
        except OSError as error:
            self.report("heartbeat", f"narf: no heartbeat can be written: {error}")

    def report(self, about: str, sentence: str) -> None:
        """Say once in a process, on stderr and in the spool, that something is wrong with `about`."""
        if about in self._reported:
            return
        self._reported.add(about)
        with contextlib.suppress(OSError, ValueError, AttributeError):  # stderr is closed: the note still tells
            sys.stderr.write(sentence.rstrip() + "\n")
        self._event("note", text=sentence)

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait for deferred tensors and write what waits; whether everything is on disk."""
        if self._deferred is not None:
            self._deferred.drain(timeout_seconds)
        return self._spool.flush()

    def end(self) -> None:
        """The last words of this process. What is logged afterwards is refused."""
        if self.is_ended:
            return
        waiting, self.before_end = self.before_end, []
        for act in waiting:
            act()
        self.flush()
        if self._spool.refused:
            self._event("note", text=f"{self._spool.refused} records were refused because the disk was full")
        if self._spool.spool_id:
            self._event("end")
        self._spool.flush()
        self.is_ended = True

    # -- inside ------------------------------------------------------------------------------------------------------------

    def _write(self, records: bytes) -> bool:
        try:
            safe = self._spool.append_points(records)
        except OSError as error:
            self.report("spool", f"narf: metrics cannot be written to {self.folder}: {error}")
            return False
        if not safe:
            self.report("disk", f"narf: the disk under {self.folder} is full; metrics wait in memory until there is room")
        return safe

    def _event(self, type_: str, **fields: Any) -> bool:
        if self.is_ended:
            self._refuse_after_end()
            return False
        try:
            return self._spool.append_event(type_, **fields)
        except (OSError, ValueError) as error:
            self.report("spool", f"narf: cannot write to {self.folder}: {error}")
            return False

    def _refuse_after_end(self) -> None:
        if "after end" not in self._reported:
            self._reported.add("after end")
            sys.stderr.write("narf: the run has ended; what is logged now is not recorded\n")

    def _key(self, name: str) -> int:
        with self._lock:
            key = self._keys.get(name)
            if key is not None:
                return key
            if len(self._keys) >= MOST_NAMES:
                self.report("names", f"narf: more than {MOST_NAMES:,} metric names in one process; {name!r} was not recorded")
                return -1
            clean = clean_name(name) if isinstance(name, str) else clean_name(str(name))
            if clean in self._names:  # two odd names became one: tell them apart
                clean = f"{clean[: LONGEST_NAME - 9]}_{_short(str(name))}"
            if clean != name:
                self.note(f"the metric {_text(name, 500)!r} is recorded as {clean!r}")
            key, refused = len(self._keys), self._spool.refused
            if not self._event("key", id=key, name=clean) and (self.is_ended or self._spool.refused > refused):
                return -1
            if self._highwater is not None:
                self._highwater.name(key, clean)
            self._names.add(clean)
            self._keys[name] = key
            return key

    def _number(self, name: str, value: Any, step: int, when: float) -> float | None:
        """`value` as a float; None when it is none, or will be one later."""
        if isinstance(value, (int, float)):
            try:
                return float(value)
            except OverflowError:
                return float("inf") if value > 0 else float("-inf")
        if isinstance(value, (str, bytes)) or value is None:
            self.text_metric(name, value, step, when)
            return None
        device = getattr(value, "device", None)
        if device is not None and getattr(device, "type", "cpu") not in ("cpu", "meta"):
            self._defer(name, value, step, when)
            return None
        try:
            return float(value)
        except Exception:  # an array of many, a tensor without data, any object: kept as text
            self.text_metric(name, _summary(value), step, when)
            self.report(f"metric {name}", f"narf: the metric {name!r} is not a number but {type(value).__name__}; kept as text")
            return None

    def _defer(self, name: str, value: Any, step: int, when: float) -> None:
        """Fetch a tensor from its device in another thread: waiting for it here would stall the training."""
        with self._lock:
            if self._deferred is None:
                self._deferred = _Deferred(self._log_deferred)
        self._deferred.put(name, value, step, when)

    def _log_deferred(self, name: str, value: float, step: int, when: float) -> None:
        key = self._keys.get(name)
        if key is None:
            key = self._key(name)
        if key < 0 or self.is_ended:
            return
        record = pack_point(key, step, when, value)
        if self._highwater is not None:
            record = self._highwater.keep_new(record)
        if record and self._write(record) and self._highwater is not None:
            self._highwater.mark(record)

    def _after_fork(self) -> None:
        """In the child: a spool of its own, and no thread of the parent's is left."""
        self._spool.forget()
        self._lock = threading.RLock()
        self._keys, self._names, self._deferred = {}, set(), None
        self.before_end = []
        self._highwater = None


class _Deferred:
    """Waits for tensors on other devices in a thread of its own and hands on their values in order."""

    MOST_WAITING = 10_000

    def __init__(self, deliver: Callable[[str, float, int, float], None]) -> None:
        import queue

        self._deliver = deliver
        self._queue: queue.Queue[Any] = queue.Queue(self.MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="narf-deferred", daemon=True)
        self._thread.start()

    def put(self, name: str, tensor: Any, step: int, when: float) -> None:
        # The copy is queued on the device's stream now, so what the program does to the tensor later does not matter.
        host = tensor.detach().to("cpu", non_blocking=True)
        ready = None
        if tensor.device.type == "cuda":
            torch = sys.modules["torch"]
            ready = torch.cuda.Event()
            ready.record(torch.cuda.current_stream(tensor.device))
        self._queue.put((name, host, ready, step, when))

    def drain(self, timeout_seconds: float) -> None:
        deadline = time.monotonic() + timeout_seconds
        with self._queue.all_tasks_done:
            while self._queue.unfinished_tasks and self._thread.is_alive():
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self._queue.all_tasks_done.wait(left)

    def _run(self) -> None:
        while True:
            name, host, ready, step, when = self._queue.get()
            try:
                if ready is not None:
                    ready.synchronize()
                self._deliver(name, float(host), step, when)
            except Exception as error:  # the edge of a thread: nobody else could hear it
                sys.stderr.write(f"narf: the metric {name!r} at step {step} was lost: {error}\n")
            finally:
                self._queue.task_done()


def clean_name(name: str) -> str:
    """`name` with what stores refuse replaced: other than letters, digits, `_-. :/` by `_`, cut at 250 characters."""
    if _ODD.search(name) or len(name) > LONGEST_NAME or not name.strip() or name[0] == "/" or ".." in name or "//" in name:
        whole = name
        name = _ODD.sub("_", name).lstrip("/").replace("..", "_.").replace("//", "/").strip() or "_"
        if len(name) > LONGEST_NAME:
            name = f"{name[: LONGEST_NAME - 9]}_{_short(whole)}"
    return name


def _short(text: str) -> str:
    """Eight hex digits that tell texts apart."""
    return f"{zlib.crc32(text.encode('utf-8', 'replace')):08x}"


def clean_path(path: str) -> str:
    """`path` as a relative one that cannot leave the run's artifacts."""
    parts: list[str] = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    return "/".join(parts) or "artifact"


def _text(value: Any, longest: int) -> str:
    try:
        text = value if isinstance(value, str) else value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    except Exception as error:  # the user's __str__
        text = f"<{type(value).__name__}: {error}>"
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _summary(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{type(value).__name__} of shape {tuple(shape)}" if shape is not None else _text(value, 8000)


def _shown(values: Any) -> str:
    return _text(list(values)[:5] if isinstance(values, Mapping) else type(values).__name__, 200)


_current: Recorder | None = None


def current() -> Recorder | None:
    """The recorder of this process, made on first use when the process runs on the platform; None outside."""
    global _current
    if _current is None:
        folder = os.environ.get("NARF_SPOOL")
        if folder:
            _current = Recorder(folder, os.environ.get("NARF_CHECKPOINTS") or None)
    return _current


def use(recorder: Recorder | None) -> Recorder | None:
    """Make `recorder` the one of this process; returns the one before."""
    global _current
    before, _current = _current, recorder
    return before
