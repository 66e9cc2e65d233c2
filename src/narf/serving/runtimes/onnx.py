"""ONNX Runtime: on the GPU where there is one that it can use, else on the CPU."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from narf.serving.package import Manifest
from narf.serving.tensors import Tensors, TensorSpec

_SMALL_BYTES = 4 << 20  # below this a second thread costs more in hand-over than it computes
_TYPES = {
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(float16)": "FP16",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(bool)": "BOOL",
    "tensor(string)": "BYTES",
}


class OnnxRuntime:
    """A session and its signature as the model file states it."""

    def __init__(self, path: Path, *, threads: int = 0, log_level: int = 3) -> None:
        options = onnxruntime.SessionOptions()
        size = path.stat().st_size
        options.intra_op_num_threads = threads or (1 if size < _SMALL_BYTES else max(1, len(os.sched_getaffinity(0)) // 2))
        options.inter_op_num_threads = 1
        options.log_severity_level = log_level
        # A spinning thread takes a core from the event loop beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        available = onnxruntime.get_available_providers()
        providers = [name for name in ("CUDAExecutionProvider",) if name in available] + ["CPUExecutionProvider"]
        self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        self.inputs = tuple(_spec(node) for node in self._session.get_inputs())
        self.outputs = tuple(_spec(node) for node in self._session.get_outputs())
        self._names = [spec.name for spec in self.outputs]
        self._takes_text = any(spec.datatype == "BYTES" for spec in self.inputs)

    def run(self, inputs: Tensors) -> Tensors:
        return dict(zip(self._names, self._session.run(None, as_text(inputs) if self._takes_text else inputs), strict=True))


def open_runtime(folder: Path, manifest: Manifest, threads: int) -> OnnxRuntime:
    return OnnxRuntime(folder / manifest.file, threads=threads)


def _spec(node: onnxruntime.NodeArg) -> TensorSpec:
    if node.type not in _TYPES:
        raise ValueError(f"{node.name} is a {node.type}, which cannot be served; only tensors can")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return TensorSpec(node.name, _TYPES[node.type], shape)


def as_text(inputs: Tensors) -> Tensors:
    """BYTES arrays as the str objects that ONNX Runtime asks for."""
    return {name: np.vectorize(_text, otypes=[object])(a) if a.dtype.kind == "O" and a.size else a for name, a in inputs.items()}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
