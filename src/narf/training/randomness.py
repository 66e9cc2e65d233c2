"""All random state of a training process: Python's, NumPy's, torch's on every device, and of the data loaders' own generators."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from typing import Any


def capture(loaders: Iterable[Any] = ()) -> dict[str, Any]:
    """The state now. Only of libraries that are loaded; nothing is imported and no device is waited for."""
    state: dict[str, Any] = {"python": random.getstate()}
    numpy = sys.modules.get("numpy")
    if numpy is not None and hasattr(numpy, "random"):
        state["numpy"] = numpy.random.get_state()
    torch = sys.modules.get("torch")
    if torch is not None:
        state["torch"] = torch.get_rng_state()
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            state["cuda"] = torch.cuda.get_rng_state_all()
        mps = getattr(torch, "mps", None)
        if mps is not None and getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
            state["mps"] = mps.get_rng_state()
    state["loaders"] = [generator.get_state() for generator in _generators(loaders)]
    return state


def restore(state: dict[str, Any], loaders: Iterable[Any] = ()) -> None:
    """Put back what `capture` took. Loaders must be the same, in the same order."""
    random.setstate(_tuple(state["python"]))
    if "numpy" in state and "numpy" in sys.modules:
        sys.modules["numpy"].random.set_state(state["numpy"])
    torch = sys.modules.get("torch")
    if torch is not None and "torch" in state:
        torch.set_rng_state(state["torch"].cpu())
        if "cuda" in state and torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
        if "mps" in state and torch.backends.mps.is_available():
            torch.mps.set_rng_state(state["mps"].cpu())
    for generator, saved in zip(_generators(loaders), state.get("loaders", ())):
        generator.set_state(saved.cpu())


def _generators(loaders: Iterable[Any]) -> list[Any]:
    """The generators that loaders were given, each once. Samplers may hold one of their own."""
    found: list[Any] = []
    for loader in loaders:
        batch_sampler = getattr(loader, "batch_sampler", None)
        sampler = getattr(loader, "sampler", None)
        for holder in (loader, sampler, batch_sampler, getattr(batch_sampler, "sampler", None)):
            generator = getattr(holder, "generator", None)
            if generator is not None and hasattr(generator, "get_state") and not any(generator is one for one in found):
                found.append(generator)
    return found


def _tuple(value: Any) -> Any:
    return tuple(_tuple(item) for item in value) if isinstance(value, (list, tuple)) else value
