"""MLflow's pyfunc: runs any MLflow model, and any pickled estimator, the slow and general way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from narf.serving.package import Manifest
from narf.serving.tensors import Array, Tensors, TensorSpec


class PyfuncRuntime:
    """An MLflow model folder. Named one-dimensional inputs become the columns of a table, one tensor stays an array."""

    def __init__(self, folder: Path, inputs: Sequence[TensorSpec], *, columns: Sequence[str] = ()) -> None:
        import mlflow.pyfunc

        self._model = mlflow.pyfunc.load_model(str(folder))
        self._inputs, self._columns = tuple(inputs), tuple(columns)

    def run(self, inputs: Tensors) -> Tensors:
        return outputs_of(self._model.predict(self._argument(inputs)))

    def _argument(self, inputs: Tensors) -> Any:
        if not self._columns:
            return next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs)
        import pandas

        if len(inputs) == 1 and len(self._columns) > 1:
            return pandas.DataFrame(next(iter(inputs.values())), columns=list(self._columns))
        return pandas.DataFrame({name: _column(inputs[name]) for name in self._columns})


class EstimatorRuntime:
    """A pickled estimator that speaks scikit-learn's interface."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        from narf.serving.packaging.from_estimator import predict_estimator
        from narf.serving.packaging.original import load_pickle

        self._estimator, self._columns, self._predict = load_pickle(path), columns, predict_estimator

    def run(self, inputs: Tensors) -> Tensors:
        return self._predict(self._estimator, inputs, self._columns)


class BoosterRuntime:
    def __init__(self, path: Path) -> None:
        from narf.serving.packaging.from_estimator import open_booster

        self.run = open_booster(path).predict


def open_runtime(folder: Path, manifest: Manifest, threads: int) -> Any:
    path = folder / manifest.file
    if path.is_dir():
        return PyfuncRuntime(path, manifest.inputs, columns=manifest.columns)
    if path.suffix in {".pkl", ".pickle", ".joblib"}:
        return EstimatorRuntime(path, manifest.columns)
    return BoosterRuntime(path)


def outputs_of(value: Any) -> Tensors:
    """What pyfunc answered, as named tensors: a table's columns, an array, or a list."""
    if hasattr(value, "columns"):
        return {str(name): _plain(value[name].to_numpy()) for name in value.columns}
    if isinstance(value, dict):
        return {str(name): _plain(np.asarray(item)) for name, item in value.items()}
    if hasattr(value, "to_numpy"):
        value = value.to_numpy()
    return {"output": _plain(np.asarray(value))}


def _plain(array: Array) -> Array:
    return array.astype(object) if array.dtype.kind in "UST" else array


def _column(array: Array) -> Array:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
