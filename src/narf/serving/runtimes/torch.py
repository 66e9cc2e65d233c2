"""PyTorch: scripted modules, and pickled ones, which need the code they were trained with beside them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from narf.serving.package import Manifest
from narf.serving.tensors import Tensors

CODE = "code"  # folder of a package that is importable while its model is loaded


class TorchRuntime:
    def __init__(self, module: Any, names: list[str], outputs: list[str]) -> None:
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._module, self._names, self._outputs = module.eval().to(self._device), names, outputs

    def run(self, inputs: Tensors) -> Tensors:
        with torch.inference_mode():
            tensors = [torch.from_numpy(np.array(inputs[name])).to(self._device) for name in self._names]
            value = self._module(*tensors)
        values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else (value,)
        return {name: item.cpu().numpy() for name, item in zip(self._outputs, values, strict=True)}


def open_scripted(folder: Path, manifest: Manifest, threads: int) -> TorchRuntime:
    _set_threads(threads)
    return _runtime(torch.jit.load(folder / manifest.file, map_location="cpu"), manifest)


def open_pickled(folder: Path, manifest: Manifest, threads: int) -> TorchRuntime:
    """Unpickling runs code that came with the model, with this process's rights: only registered models get here."""
    _set_threads(threads)
    if (folder / CODE).is_dir():
        sys.path.insert(0, str(folder / CODE))
    return _runtime(torch.load(folder / manifest.file, map_location="cpu", weights_only=False), manifest)


def _runtime(module: Any, manifest: Manifest) -> TorchRuntime:
    return TorchRuntime(module, [spec.name for spec in manifest.inputs], [spec.name for spec in manifest.outputs])


def _set_threads(threads: int) -> None:
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // 2))
