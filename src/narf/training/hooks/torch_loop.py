"""A plain PyTorch loop: the loss through `Tensor.backward`, learning rates through the optimisers.

A step is a step of the first optimiser that the script uses. At most a thousand points a second are recorded. A script that records
a `loss` of its own is left to it.
"""

from __future__ import annotations

import functools
import sys
import time
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training import stop
from narf.training.hooks import guarded
from narf.training.imports import when_imported

_LEAST_SECONDS = 0.001  # between two recorded steps


def install() -> None:
    recorder = recorders.current()
    if recorder is not None:
        when_imported("torch", functools.partial(_patch, _Loop(recorder)))


_paused = 0
_seen = False


def pause(is_paused: bool) -> None:
    """While Lightning trains, its own hooks record."""
    global _paused
    _paused += 1 if is_paused else -1


def sees_loss() -> bool:
    """Whether a loss has been differentiated here: it is recorded at each step."""
    return _seen


class _Loop:
    def __init__(self, recorder: recorders.Recorder) -> None:
        self.recorder = recorder
        self.loss: Any = None
        self.unscaled: tuple[Any, Any] | None = None
        self.optimizer: Any = None
        self.step = -1
        self.next_at = 0.0
        self.rates: list[Any] = []
        self.is_off = False
        self.first: tuple[int, dict[str, Any]] | None = None  # held back until it is known that the script records no loss itself

    def backward(self, tensor: Any) -> None:
        """Remember the loss that is differentiated; nothing is computed yet."""
        global _seen
        _seen = True
        if self.unscaled is not None and self.unscaled[0] is tensor:
            tensor = self.unscaled[1]
        self.loss = tensor.detach()

    @guarded("torch_loop")
    def stepped(self, optimizer: Any) -> None:
        if self.optimizer is None:
            self.optimizer = optimizer
        if optimizer is not self.optimizer:
            return
        self.step += 1
        loss, self.loss = self.loss, None
        now = time.monotonic()
        if loss is None or self.is_off or now < self.next_at:
            return
        self.next_at = now + _LEAST_SECONDS
        values = {"loss": loss, **self._changed_rates()}
        if self.first is None and self.step == 0:
            self.first = (self.step, values)
            return
        if self.first is not None:
            if self.recorder.has_metric("loss"):
                self.is_off = True
                return
            self._record(self.first[1], self.first[0])
            self.first = None
        self._record(values, self.step)

    def _record(self, values: dict[str, Any], step: int) -> None:
        before = self.recorder.step
        self.recorder.log(values, step)
        self.recorder.step = before  # `narf.log` without a step counts for itself

    def _changed_rates(self) -> dict[str, Any]:
        rates = [group.get("lr") for group in self.optimizer.param_groups]
        if rates == self.rates:
            return {}
        self.rates = list(rates)
        return {"lr" if len(rates) == 1 else f"lr/{index}": float(rate) for index, rate in enumerate(rates) if rate is not None}


def _patch(loop: _Loop, torch: ModuleType) -> None:
    tensor: Any = torch.Tensor
    original = tensor.backward
    scaler: Any = torch.amp.GradScaler
    scale_original = scaler.scale

    @functools.wraps(original)
    def backward(self: Any, *arguments: Any, **named: Any) -> Any:
        if not _paused and not loop.is_off and self.numel() == 1:
            loop.backward(self)
        return original(self, *arguments, **named)

    tensor.backward = backward

    def stepped(optimizer: Any, *_: Any) -> None:
        if not _paused:
            loop.stepped(optimizer)
            _stop_if_asked()

    sys.modules["torch.optim.optimizer"].register_optimizer_step_post_hook(stepped)

    @functools.wraps(scale_original)
    def scale(self: Any, outputs: Any) -> Any:
        result = scale_original(self, outputs)
        if hasattr(outputs, "detach"):
            loop.unscaled = (result, outputs)
        return result

    scaler.scale = scale


def _stop_if_asked() -> None:
    """A plain loop ends where it is asked to; one that uses `narf.checkpoint` does so itself, with a checkpoint."""
    if not stop.is_in_section():
        want = stop.wanted()
        if want is not None:
            raise SystemExit(0 if want == stop.PRUNE else stop.EXIT_CODE)
