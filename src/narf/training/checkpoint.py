"""`narf.checkpoint`: resume for a plain PyTorch loop, in two lines.

    kept = narf.checkpoint(model, optimizer)
    for epoch in kept.epochs(10):
        for x, y in kept.batches(loader):
            ...

Interrupted at any batch, the next attempt goes on with the next one: parameters, optimiser, random states, the order of shuffled
data and the position in the epoch are those of a run that was not interrupted.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any

from narf.training import randomness, stop
from narf.training import recorder as recorders

_LONG_SECONDS = 10.0  # a loop that took longer is not repeated when a later part of the script is interrupted
_made = 0


class Checkpoint:
    """What is kept of a loop: `objects` with state_dict and load_state_dict, and own plain values as `kept["best"] = 0.3`."""

    def __init__(self, objects: list[Any], path: str | None) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        self.epoch = 0
        self._objects = objects
        self._batches_done = 0
        self._epoch_state: dict[str, Any] = {}
        self._iterator_state: dict[str, Any] | None = None
        self._first_state: dict[str, Any] | None = None
        self._loader: Any = None
        self._is_done = False
        self._restored: dict[str, Any] | None = None
        self._began = time.monotonic()
        self._every = float(os.environ.get("NARF_CHECKPOINT_SECONDS") or 300.0)
        self._next_save = self._began + self._every
        if path and os.path.exists(path):
            self._load(path)

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    def get(self, name: str, default: Any = None) -> Any:
        return self.values.get(name, default)

    @property
    def is_resumed(self) -> bool:
        """Whether an earlier attempt left something to go on from."""
        return self._restored is not None

    def epochs(self, count: int) -> Iterator[int]:
        """The epochs from 0 to `count` that are not done yet."""
        if self._is_done:
            assert self._restored is not None
            randomness.restore(self._restored["random_now"])
            return
        with stop.section():
            while self.epoch < count:
                restored, is_inside = self._restored, False
                if restored is not None and restored.get("waits"):
                    is_inside = restored["iterator"] is not None
                    randomness.restore(restored["epoch_state"] if is_inside else restored["random_now"])
                    restored["waits"] = is_inside
                if not is_inside:
                    self._batches_done, self._iterator_state = 0, None
                self._epoch_state = randomness.capture()
                yield self.epoch
                self.epoch += 1
                self._batches_done, self._iterator_state, self._loader = 0, None, None
                if self.epoch < count:
                    self._safe_point()
            self._is_done = True
            if self._restored is not None or time.monotonic() - self._began > _LONG_SECONDS or stop.wanted() == stop.TERMINATE:
                self.save()

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of `loader` that this epoch has not done yet. For one loader in an epoch, the one that is trained on."""
        restored = self._restored
        self._loader = loader
        loaders = [loader]
        skip = 0
        if restored is not None and restored.get("waits"):
            restored["waits"] = False
            skip = restored["batches_done"]
            randomness.restore(restored["iterator"], loaders)
        self._iterator_state = randomness.capture(loaders)
        iterator = iter(loader)
        if skip and restored is not None:
            randomness.restore(restored["first"], loaders)
        self._first_state = randomness.capture(loaders)
        for _ in range(skip):
            next(iterator, None)
        if skip and restored is not None:
            randomness.restore(restored["random_now"], loaders)
        self._batches_done = skip
        for batch in iterator:
            yield batch
            self._batches_done += 1
            self._safe_point()

    def save(self) -> None:
        """Write everything now. Called by itself when the run is interrupted, and every `NARF_CHECKPOINT_SECONDS` (300)."""
        if not self.path:
            return
        state = {
            "objects": [one.state_dict() for one in self._objects],
            "values": self.values,
            "epoch": self.epoch,
            "is_done": self._is_done,
            "batches_done": self._batches_done,
            "epoch_state": self._epoch_state,
            "iterator": self._iterator_state,
            "first": self._first_state,
            "random_now": randomness.capture([self._loader] if self._loader is not None else []),
            "next_step": _recorder_step(),
        }
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path + ".part", "wb") as file:
            torch = sys.modules.get("torch")
            if torch is not None:
                torch.save(state, file)
            else:
                pickle.dump(state, file)
        os.replace(self.path + ".part", self.path)
        recorder = recorders.current()
        if recorder is not None:
            recorder.checkpointed(recorder.step)
        self._next_save = time.monotonic() + self._every

    def _load(self, path: str) -> None:
        with open(path, "rb") as file:
            torch = sys.modules.get("torch")
            # Our own file, from the workload's own folder; it holds random states, which are no tensors.
            state = torch.load(file, weights_only=False) if torch is not None else pickle.load(file)
        if len(state["objects"]) != len(self._objects):
            raise ValueError(
                f"the checkpoint {path} holds {len(state['objects'])} objects, narf.checkpoint was given {len(self._objects)}. "
                "Give it the same ones in the same order, or delete the file to start anew."
            )
        for one, saved in zip(self._objects, state["objects"]):
            one.load_state_dict(saved)
        self.values.update(state["values"])
        self.epoch, self._is_done = state["epoch"], state["is_done"]
        recorder = recorders.current()
        if recorder is not None:
            recorder.step = state["next_step"]
            recorder.note(f"resumed in epoch {self.epoch} after {state['batches_done']} batches")
        self._restored = {**state, "waits": not self._is_done}

    def _safe_point(self) -> None:
        want = stop.wanted()
        if want == stop.TERMINATE:
            self.save()
            raise SystemExit(stop.EXIT_CODE)
        if want == stop.PRUNE:
            raise SystemExit(0)
        if time.monotonic() >= self._next_save:
            self.save()


def checkpoint(*objects: Any, path: str | None = None) -> Checkpoint:
    """Keep `objects` (model, optimiser, schedule: what has state_dict and load_state_dict) over interruptions.

    On the platform the file is in the folder that lasts over the attempts of a workload; elsewhere at `path`, or nothing is kept.
    The second call in a script keeps a second file. What an earlier attempt left is loaded at once.
    """
    global _made
    _made += 1
    folder = os.environ.get("NARF_CHECKPOINTS")
    if path is None and folder:
        path = os.path.join(folder, f"loop-{_made}.ckpt")
    return Checkpoint(list(objects), path)


def _recorder_step() -> int:
    recorder = recorders.current()
    return recorder.step if recorder is not None else -1
