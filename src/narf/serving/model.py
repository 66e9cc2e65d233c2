"""A model being served: its queue, the batches that leave it, and the thread they run in.

A model whose batches take microseconds runs on the event loop itself: handing it to a thread costs more than it computes.
Everything else, and every model with user code, runs in a thread of its own, so that the loop answers while it works.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import LimitReached, NarfError, Unavailable
from narf.serving.batching import Cost, Policy, learn, next_batch, retry_after
from narf.serving.package import Manifest, read_manifest
from narf.serving.packaging.cases import rows as repeat_rows
from narf.serving.packaging.cases import synthetic
from narf.serving.runtimes import Runtime, open_runtime
from narf.serving.tensors import Tensors

_log = logging.getLogger(__name__)
_INLINE_SECONDS = 0.0005  # a full batch below this does not hold up the loop
HANG_SECONDS = 10.0  # beyond the time that requests have: nobody waits any longer for what runs then
_EXPIRE_SECONDS = 0.1


class ModelFailed(NarfError):
    """The model's own code raised; the traceback is in the replica's log."""

    code = "model_failed"


class TooLate(NarfError):
    code = "deadline_exceeded"


@dataclass(slots=True, eq=False)
class Prediction:
    """One request in the queue. done: called on the loop, once, with the outputs or the error."""

    inputs: Tensors
    rows: int
    key: Hashable
    deadline: float
    done: Callable[[Prediction, Tensors | NarfError], None]
    id: bytes = b""
    arrived: float = 0.0
    cancelled: bool = False
    answered: bool = False
    context: Any = None

    def answer(self, result: Tensors | NarfError) -> None:
        if not self.answered:
            self.answered = True
            if not self.cancelled:
                self.done(self, result)


@dataclass(slots=True, kw_only=True)
class Counters:
    """What `/metrics` shows of a model."""

    requests: int = 0
    rows: int = 0
    batches: int = 0
    failed: int = 0
    rejected: int = 0
    expired: int = 0
    batch_seconds: float = 0.0
    by_size: dict[int, int] = field(default_factory=dict)  # upper bound of rows -> batches


Observer = Callable[[Sequence[Prediction], Tensors, Tensors, float], None]


class ServedModel:
    """Loaded by `start`; `submit` is called on the event loop only."""

    def __init__(self, folder: Path, *, policy: Policy | None = None, threads: int = 0, name: str = "", version: str = "") -> None:
        self.folder = folder
        self.manifest: Manifest = read_manifest(folder)
        self.name, self.version = name or self.manifest.name, version or self.manifest.version
        self.policy = policy or Policy()
        if not self.manifest.batchable:
            self.policy = Policy(batch_rows=1, queue_requests=self.policy.queue_requests, queue_rows=self.policy.queue_requests)
        self.counters = Counters()
        self.cost = Cost()
        self.observe: Observer | None = None
        self.is_ready = False
        self.runs_inline = False
        self._threads = threads
        self._runtime: Runtime | None = None
        self._queue: list[Prediction] = []
        self._queued_rows = 0
        self._is_running = self._is_scheduled = False
        self._running: tuple[Prediction, ...] = ()
        # Monotonic; 0: nothing runs. Read by the watchdog's thread.
        self.running_since = self.running_deadline = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"model-{self.name}")
        self._loop: asyncio.AbstractEventLoop | None = None
        shapes = [spec.shape for spec in self.manifest.caller_inputs]
        self.has_free_shape = any(size == -1 for shape in shapes for size in shape[1:])

    def start(self) -> None:
        """Load and warm up; blocks. What it learns of the cost decides whether the model runs on the loop."""
        self._runtime = open_runtime(self.folder, self.manifest, threads=self._threads)
        try:
            self._warm_up(self._runtime)
        except Exception as error:  # made-up inputs may be wrong for the model; real requests will tell
            _log.warning("model %s could not be warmed up: %s", self.name, error)
        self.is_ready = True

    def _warm_up(self, runtime: Runtime) -> None:
        sample = synthetic(self.manifest.caller_inputs, np.random.default_rng(0), count=1)
        sizes = (1, self.policy.batch_rows) if self.manifest.batchable else (1,)
        slowest = 0.0
        for size in sizes:
            inputs = repeat_rows(sample, size) if self.manifest.batchable else sample
            for _ in range(2):
                runtime.run(inputs)
            begin = time.perf_counter()
            runtime.run(inputs)
            slowest = max(slowest, time.perf_counter() - begin)
            for _ in range(20):
                self.cost = learn(self.cost, size, time.perf_counter() - begin)
        self.runs_inline = self.manifest.runtime == "onnx" and not self.manifest.processing and slowest < _INLINE_SECONDS

    # -- the queue

    def submit(self, prediction: Prediction) -> None:
        """Queue it; `prediction.done` will be called.

        Raises:
            LimitReached: the queue is full, or the answer would come too late.
            Unavailable: the model is not loaded.
        """
        if not self.is_ready:
            raise Unavailable(f"Model {self.name!r} is not ready.", remedy="Try again in a moment.")
        now = time.monotonic()
        prediction.arrived = now
        self.refuse_if_full(prediction.rows, prediction.deadline - now)
        self._queue.append(prediction)
        self._queued_rows += prediction.rows
        if not self._is_running and not self._is_scheduled:
            self._is_scheduled = True
            self._loop = asyncio.get_running_loop()
            # After the requests that arrived in the same turn of the loop: they make the first batch together.
            self._loop.call_soon(self._run_next)

    def refuse_if_full(self, rows: int, seconds_left: float) -> None:
        """Raises LimitReached. Asked before a request is even read, so that refusing costs little when there is much to refuse."""
        if not self._queue:
            return
        wait = retry_after(len(self._queue), self._queued_rows, rows, self.policy, self.cost, seconds_left)
        if wait is not None:
            self.counters.rejected += 1
            raise LimitReached(
                f"Model {self.name!r} has as many requests waiting as it can answer in time.",
                remedy="Try again later, or add replicas.",
                retry_after_seconds=wait,
            )

    @property
    def waiting(self) -> int:
        return len(self._queue) + len(self._running)

    def _run_next(self) -> None:
        self._is_scheduled = False
        while self._queue and not self._is_running:
            batch = self._take()
            if not batch:
                return
            inputs = batch[0].inputs if len(batch) == 1 else _stack(batch)
            self._running = tuple(batch)
            self.running_deadline = max(prediction.deadline for prediction in batch)
            self.running_since = time.monotonic()
            if not self.runs_inline:
                self._is_running = True
                self._run_in_thread(inputs, sum(prediction.rows for prediction in batch))
                return
            result = self._compute(inputs)
            self._finish(inputs, result, time.monotonic() - self.running_since)
            if self._queue:  # let the loop read before the next batch
                self._is_scheduled = True
                assert self._loop is not None
                self._loop.call_soon(self._run_next)
                return

    def _take(self) -> list[Prediction]:
        decision = next_batch(self._queue, self.policy, self.cost, time.monotonic())
        queue = self._queue
        if len(decision.run) == len(queue):
            self._queue, self._queued_rows = [], 0
            return queue
        gone = {*decision.run, *decision.expired, *decision.dropped}
        self._queue = [prediction for index, prediction in enumerate(queue) if index not in gone]
        self._queued_rows = sum(prediction.rows for prediction in self._queue)
        for index in decision.expired:
            self._expire(queue[index])
        return [queue[index] for index in decision.run]

    def _expire(self, prediction: Prediction) -> None:
        self.counters.expired += 1
        prediction.answer(
            TooLate(f"Model {self.name!r} could not answer within the request's deadline.", remedy="Allow more time, or add replicas.")
        )

    def _compute(self, inputs: Tensors) -> Tensors | Exception:
        assert self._runtime is not None
        try:
            return self._runtime.run(inputs)
        except Exception as error:  # the model's code is the user's: whatever it raises fails its request, not the replica
            return error

    def _run_in_thread(self, inputs: Tensors, rows: int) -> None:
        loop = asyncio.get_running_loop()
        begin = time.monotonic()
        timers = [
            loop.call_at(loop.time() + max(0.0, deadline - begin), self._expire_running, deadline)
            for deadline in {p.deadline for p in self._running}
        ]
        waiting = loop.call_later(_EXPIRE_SECONDS, lambda: expire_waiting())

        def expire_waiting() -> None:
            """What waits behind a model that hangs is told in time, too."""
            nonlocal waiting
            self._expire_queued()
            waiting = loop.call_later(_EXPIRE_SECONDS, expire_waiting)

        def work() -> None:
            result = self._compute(inputs)
            seconds = time.monotonic() - begin
            loop.call_soon_threadsafe(finished, result, seconds)

        def finished(result: Tensors | Exception, seconds: float) -> None:
            for timer in (*timers, waiting):
                timer.cancel()
            self._is_running = False
            self._finish(inputs, result, seconds)
            self._run_next()

        self._executor.submit(work)

    def _expire_running(self, deadline: float) -> None:
        for prediction in self._running:
            if prediction.deadline <= deadline and not prediction.answered:
                self._expire(prediction)

    def _expire_queued(self) -> None:
        now = time.monotonic()
        if not any(prediction.deadline <= now for prediction in self._queue):
            return
        late = [prediction for prediction in self._queue if prediction.deadline <= now]
        self._queue = [prediction for prediction in self._queue if prediction.deadline > now]
        self._queued_rows = sum(prediction.rows for prediction in self._queue)
        for prediction in late:
            self._expire(prediction)

    def _finish(self, inputs: Tensors, result: Tensors | Exception, seconds: float) -> None:
        batch, self._running, self.running_since = self._running, (), 0.0
        rows = sum(prediction.rows for prediction in batch)
        self.cost = learn(self.cost, rows, seconds)
        if not isinstance(result, Exception):
            result = self._checked(result, rows)
        if isinstance(result, Exception):
            self._failed(batch, result)
            return
        counters = self.counters
        counters.batches += 1
        counters.requests += len(batch)
        counters.rows += rows
        counters.batch_seconds += seconds
        size = 1 << (rows - 1).bit_length()
        counters.by_size[size] = counters.by_size.get(size, 0) + 1
        if self.observe is not None:
            self.observe(batch, inputs, result, seconds)
        if len(batch) == 1:
            batch[0].answer(result)
            return
        start = 0
        items = list(result.items())
        for prediction in batch:
            end = start + prediction.rows
            prediction.answer({name: array[start:end] for name, array in items})
            start = end

    def _failed(self, batch: Sequence[Prediction], error: Exception) -> None:
        if len(batch) > 1:
            # One bad request must not fail its neighbours: each is tried alone.
            self._queue[:0] = [prediction for prediction in batch if not prediction.answered]
            self._queued_rows = sum(prediction.rows for prediction in self._queue)
            for prediction in batch:
                prediction.key = object()
            if not self._is_scheduled and self._loop is not None:
                self._is_scheduled = True
                self._loop.call_soon(self._run_next)
            return
        self.counters.failed += 1
        _log.error("model %s failed on request %s", self.name, batch[0].id.decode("ascii", "replace"), exc_info=error)
        batch[0].answer(
            ModelFailed(
                f"Model {self.name!r} failed on this input: {type(error).__name__}: {str(error)[:500]}",
                remedy="Its traceback is in the log of the replica.",
            )
        )

    def _checked(self, result: Any, rows: int) -> Tensors | Exception:
        """The outputs, if they are what a batch of `rows` must give: user code may return anything."""
        if not isinstance(result, dict) or not result:
            return TypeError(f"it returned a {type(result).__name__} instead of named arrays")
        for name, array in result.items():
            if not isinstance(array, np.ndarray):
                return TypeError(f"output {name!r} is a {type(array).__name__} instead of an array")
            if self.manifest.batchable and (array.ndim == 0 or len(array) != rows):
                return ValueError(f"output {name!r} has shape {list(array.shape)} for {rows} rows")
        return result

    def stop(self) -> None:
        self.is_ready = False
        self._executor.shutdown(wait=False, cancel_futures=True)


def _stack(batch: Sequence[Prediction]) -> Tensors:
    return {name: np.concatenate([prediction.inputs[name] for prediction in batch]) for name in batch[0].inputs}


class Watchdog:
    """Ends the process when a model hangs: a thread cannot be stopped, a replica can be replaced. `end` is told which and why.

    A run hangs when it goes on for `grace` seconds after it took `timeout`, and after the last of its requests gave up.
    """

    def __init__(
        self,
        models: Callable[[], Sequence[ServedModel]],
        end: Callable[[ServedModel, str], None],
        timeout: float,
        grace: float = HANG_SECONDS,
    ) -> None:
        self._models, self._end, self._timeout, self._grace = models, end, timeout, grace
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(min(1.0, self._grace / 4)):
            for model in self._models():
                since, now = model.running_since, time.monotonic()
                if since and now > max(since + self._timeout, model.running_deadline) + self._grace:
                    sentence = (
                        f"Model {model.name!r} has been at the same requests for {now - since:.0f} s: it hangs, and ends its process."
                    )
                    _log.critical(sentence)
                    self._end(model, sentence)
