"""Small packages for tests, made without training anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from narf.serving.drift import reference_of
from narf.serving.package import Manifest, write_manifest
from narf.serving.tensors import TensorSpec

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


def linear(folder: Path, *, name: str = "linear", version: str = "1") -> Path:
    """y = x @ WEIGHTS: FP32 [-1, 4] to FP32 [-1, 3]."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(WEIGHTS, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(folder / "model.onnx"))
    reference = reference_of({"x": np.random.default_rng(1).normal(size=(500, 4))}, ("a", "b", "c", "d"))
    write_manifest(
        folder,
        Manifest(
            runtime="onnx",
            file="model.onnx",
            name=name,
            version=version,
            inputs=(TensorSpec("x", "FP32", (-1, 4)),),
            outputs=(TensorSpec("y", "FP32", (-1, 3)),),
            columns=("a", "b", "c", "d"),
            reference={"features": [feature.as_json() for feature in reference]},
        ),
    )
    return folder


def identity(folder: Path, specs: list[TensorSpec], *, name: str = "identity") -> Path:
    """Every input comes back as `<name>_out`."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {
        "FP32": TensorProto.FLOAT, "FP64": TensorProto.DOUBLE, "FP16": TensorProto.FLOAT16, "BOOL": TensorProto.BOOL, "BYTES": TensorProto.STRING,
        "INT8": TensorProto.INT8, "INT16": TensorProto.INT16, "INT32": TensorProto.INT32, "INT64": TensorProto.INT64,
        "UINT8": TensorProto.UINT8, "UINT16": TensorProto.UINT16, "UINT32": TensorProto.UINT32, "UINT64": TensorProto.UINT64,
    }  # fmt: skip

    def shape(spec: TensorSpec) -> list[object]:
        return [f"d{index}" if size == -1 else size for index, size in enumerate(spec.shape)]

    graph = helper.make_graph(
        [helper.make_node("Identity", [spec.name], [f"{spec.name}_out"]) for spec in specs],
        "identity",
        [helper.make_tensor_value_info(spec.name, types[spec.datatype], shape(spec)) for spec in specs],
        [helper.make_tensor_value_info(f"{spec.name}_out", types[spec.datatype], shape(spec)) for spec in specs],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(folder / "model.onnx"))
    outputs = tuple(TensorSpec(f"{spec.name}_out", spec.datatype, spec.shape) for spec in specs)
    write_manifest(folder, Manifest(runtime="onnx", file="model.onnx", name=name, inputs=tuple(specs), outputs=outputs))
    return folder


def with_processing(folder: Path, code: str) -> Path:
    """The linear model with `code` as its processing."""
    from dataclasses import replace

    from narf.serving.package import read_manifest

    linear(folder)
    (folder / "processing.py").write_text(code)
    write_manifest(folder, replace(read_manifest(folder), processing="processing.py"))
    return folder
