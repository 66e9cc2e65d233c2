"""An ONNX file as the original. It is served as it is."""

from __future__ import annotations

from pathlib import Path

from narf.domain.errors import BadInput
from narf.serving.packaging.original import Original
from narf.serving.runtimes.onnx import OnnxRuntime


def open_onnx(path: Path) -> Original:
    try:
        runtime = OnnxRuntime(path, threads=1)
    except Exception as error:  # onnxruntime raises a dozen types of its own, all meaning: not a model it can run
        raise BadInput(f"{path.name} is no ONNX model that ONNX Runtime can run: {error}") from error
    batchable = all(spec.shape and spec.shape[0] == -1 for spec in (*runtime.inputs, *runtime.outputs))
    return Original(kind="onnx", label="ONNX", model=runtime, predict=runtime.run, inputs=runtime.inputs, source=path, batchable=batchable)
