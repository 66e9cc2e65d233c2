"""Runtimes: what computes a model's answer. Named in a table and imported on first use."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Protocol

from narf.serving.package import Manifest, read_manifest
from narf.serving.tensors import Tensors


class Runtime(Protocol):
    """One loaded model. `run` is called from one thread at a time, with arrays that share their first dimension."""

    def run(self, inputs: Tensors) -> Tensors:
        """The outputs for `inputs`, by name. Whatever the model raises is let through."""
        ...


_OPENERS = {
    "onnx": "narf.serving.runtimes.onnx:open_runtime",
    "torchscript": "narf.serving.runtimes.torch:open_scripted",
    "torch": "narf.serving.runtimes.torch:open_pickled",
    "pyfunc": "narf.serving.runtimes.pyfunc:open_runtime",
}


def open_runtime(folder: Path, manifest: Manifest | None = None, *, threads: int = 0) -> Runtime:
    """The runtime of the package in `folder`, with the user's processing around it. threads: 0 chooses by the model's size."""
    manifest = manifest or read_manifest(folder)
    module, _, name = _OPENERS[manifest.runtime].partition(":")
    runtime: Runtime = getattr(importlib.import_module(module), name)(folder, manifest, threads)
    if manifest.processing:
        from narf.serving.runtimes.processing import with_processing

        runtime = with_processing(runtime, folder, manifest.processing)
    return runtime
