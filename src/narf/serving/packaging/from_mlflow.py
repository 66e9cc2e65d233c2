"""An MLflow model folder of any flavor. Known flavors are opened natively so that they can be exported; the rest is pyfunc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput
from narf.serving.packaging.original import Original
from narf.serving.runtimes.pyfunc import PyfuncRuntime
from narf.serving.tensors import Array, Tensors, TensorSpec, datatype_of

_COLUMN_TYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
}


def open_mlflow(folder: Path) -> Original:
    import mlflow.models

    try:
        model = mlflow.models.Model.load(str(folder))
    except Exception as error:  # a folder written by anybody; mlflow raises many types for it
        raise BadInput(f"{folder.name} is no readable MLflow model: {error}") from error
    signature = model.signature
    specs, columns = _inputs(signature)
    samples = _example(model, folder, specs, columns)
    flavors = set(model.flavors)
    if "pytorch" in flavors and len(specs) <= 1:
        original = _native_torch(folder)
    elif "onnx" in flavors:
        from narf.serving.packaging.from_onnx import open_onnx

        original = open_onnx(next(iter(sorted(folder.rglob("*.onnx")))))
    elif flavors & {"sklearn", "xgboost", "lightgbm"} and _is_numeric(specs):
        original = _native_estimator(folder, flavors, samples, columns)
        if samples is not None and columns:
            samples = {"input": np.column_stack([samples[name] for name in columns])}
    else:
        runtime = PyfuncRuntime(folder, specs, columns=columns)
        original = Original(
            kind="pyfunc",
            label=f"MLflow pyfunc ({', '.join(sorted(flavors - {'python_function'})) or 'python_function'})",
            model=runtime,
            predict=runtime.run,
            inputs=specs,
        )
    original.source = folder
    if columns and not original.columns:
        original.columns = columns
    if samples is not None:
        names = list(samples)
        wanted = [spec.name for spec in original.inputs] or original.extra.get("names", names)
        original.samples = dict(zip(wanted, samples.values(), strict=False)) if len(wanted) == len(names) else samples
        original.samples_are_real = True
    elif not original.inputs and specs:
        wanted = original.extra.get("names", [spec.name for spec in specs])
        original.inputs = tuple(TensorSpec(name, spec.datatype, spec.shape) for name, spec in zip(wanted, specs, strict=False))
    return original


def _inputs(signature: Any) -> tuple[tuple[TensorSpec, ...], tuple[str, ...]]:
    """The signature's inputs as tensors: one for each column of a table, or the tensors as they are."""
    if signature is None or signature.inputs is None:
        return (), ()
    if signature.inputs.is_tensor_spec():
        tensors = signature.inputs.inputs
        return tuple(TensorSpec(t.name or "input", datatype_of(np.dtype(t.type)), (-1, *tuple(t.shape)[1:])) for t in tensors), ()
    columns = signature.inputs.inputs
    names = tuple(str(column.name if column.name is not None else index) for index, column in enumerate(columns))
    return tuple(
        TensorSpec(name, _COLUMN_TYPES.get(getattr(c.type, "name", ""), "BYTES"), (-1,)) for name, c in zip(names, columns, strict=True)
    ), names


def _is_numeric(specs: tuple[TensorSpec, ...]) -> bool:
    return all(spec.datatype not in {"BYTES"} for spec in specs)


def _example(model: Any, folder: Path, specs: tuple[TensorSpec, ...], columns: tuple[str, ...]) -> Tensors | None:
    """The model's saved input example: rows that were fed to it when it was logged."""
    if model.saved_input_example_info is None:
        return None
    example = model.load_input_example(str(folder))
    if columns and hasattr(example, "columns"):
        return {spec.name: np.asarray(example.iloc[:, index].to_numpy(), dtype=spec.dtype) for index, spec in enumerate(specs)}
    if isinstance(example, dict):
        return {str(name): np.asarray(value) for name, value in example.items()}
    array: Array = np.asarray(example)
    name = specs[0].name if len(specs) == 1 else "input"
    return {name: array} if array.ndim else None


def _native_torch(folder: Path) -> Original:
    import mlflow.pytorch

    from narf.serving.packaging.from_torch import original_of_module

    module = mlflow.pytorch.load_model(str(folder), map_location="cpu")
    return original_of_module(module.eval(), kind="torch", label=f"MLflow pytorch {type(module).__name__}", source=folder)


def _native_estimator(folder: Path, flavors: set[str], samples: Tensors | None, columns: tuple[str, ...]) -> Original:
    from narf.serving.packaging.from_estimator import open_estimator

    flavor = next(name for name in ("sklearn", "xgboost", "lightgbm") if name in flavors)
    module = __import__(f"mlflow.{flavor}", fromlist=["load_model"])
    original = open_estimator(module.load_model(str(folder)), folder)
    if original.inputs[0].shape[1] == -1 and columns:
        original.inputs = (TensorSpec("input", "FP32", (-1, len(columns))),)
    if samples is not None and not columns:
        dtype = next(iter(samples.values())).dtype
        if dtype == np.float64:
            original.inputs = (TensorSpec("input", "FP64", original.inputs[0].shape),)
    return original
