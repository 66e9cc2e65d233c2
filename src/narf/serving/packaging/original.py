"""The original: a trained model as it was found, with something to call and real inputs where there are any.

What is recognised by its file: a Lightning checkpoint, a pickled or scripted `torch.nn.Module`, an ONNX file, an MLflow
model folder of any flavor, a pickled scikit-learn, XGBoost or LightGBM estimator.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from narf.domain.errors import BadInput, NarfError
from narf.serving.tensors import Array, Tensors, TensorSpec


@dataclass(kw_only=True)
class Original:
    """kind: "torch", "torchscript", "onnx", "sklearn", "pyfunc". predict: the truth that every candidate is compared with.

    inputs: the signature of the inputs; `()` until the samples tell. columns: names of the features in the one input.
    """

    kind: str
    label: str
    model: Any
    predict: Callable[[Tensors], Tensors]
    inputs: tuple[TensorSpec, ...] = ()
    samples: Tensors | None = None
    samples_are_real: bool = False
    columns: tuple[str, ...] = ()
    source: Path | None = None
    batchable: bool = True
    extra: dict[str, Any] = field(default_factory=dict)


def open_original(path: Path, *, class_name: str = "", script: Path | None = None, arguments: Sequence[str] = ()) -> Original:
    """The model in `path`, whatever it is.

    class_name: "module:Class" or "file.py:Class" of a checkpoint's LightningModule (or of a module whose state_dict this is);
    script, arguments: the program that trained it; it is run up to `Trainer.fit` to get the module where no class is named.

    Raises:
        BadInput: it is not there, or it is nothing that can be served.
    """
    if not path.exists():
        raise BadInput(f"There is no model at {path}.", remedy="Name a file or an MLflow model folder.")
    if path.is_dir():
        return _open_folder(path, class_name=class_name, script=script, arguments=arguments)
    suffix = path.suffix.lower()
    if suffix == ".onnx":
        from narf.serving.packaging.from_onnx import open_onnx

        return open_onnx(path)
    if suffix in {".ckpt", ".pt", ".pth", ".bin", ".ts"} or _is_torch_archive(path):
        from narf.serving.packaging.from_torch import open_torch

        return open_torch(path, class_name=class_name, script=script, arguments=arguments)
    if suffix in {".pkl", ".pickle", ".joblib", ".skops"}:
        from narf.serving.packaging.from_estimator import open_estimator

        return open_estimator(load_pickle(path), path)
    if suffix in {".ubj", ".json", ".txt", ".model"}:
        from narf.serving.packaging.from_estimator import open_booster

        return open_booster(path)
    raise BadInput(
        f"{path.name} is no model that is recognised.",
        remedy="Give a Lightning checkpoint (.ckpt), a torch module (.pt), ONNX (.onnx), an MLflow model folder, or a pickled estimator (.pkl, .joblib).",
    )


def _open_folder(path: Path, *, class_name: str, script: Path | None, arguments: Sequence[str]) -> Original:
    if (path / "MLmodel").exists():
        from narf.serving.packaging.from_mlflow import open_mlflow

        return open_mlflow(path)
    models = sorted(file for file in path.rglob("*") if file.suffix.lower() in {".ckpt", ".pt", ".pth", ".onnx", ".pkl", ".joblib"})
    if len(models) == 1:
        return open_original(models[0], class_name=class_name, script=script, arguments=arguments)
    nested = sorted(path.rglob("MLmodel"))
    if not models and len(nested) == 1:
        return open_original(nested[0].parent)
    found = ", ".join(str(file.relative_to(path)) for file in models[:5]) or "nothing that looks like a model"
    raise BadInput(f"{path.name} holds {found}.", remedy="Name the one file or MLflow model folder to serve.")


def load_pickle(path: Path) -> Any:
    """Unpickle: this runs code that the file carries, with the rights of this process."""
    try:
        if path.suffix.lower() == ".joblib":
            import joblib  # type: ignore[import-untyped]

            return joblib.load(path)
        with path.open("rb") as file:
            return pickle.load(file)
    except NarfError:
        raise
    except Exception as error:  # any class at all may be missing or refuse: the file is the user's
        raise BadInput(
            f"{path.name} cannot be unpickled: {type(error).__name__}: {error}.", remedy="Are its packages installed?"
        ) from error


def named_outputs(value: Any, to_array: Callable[[Any], Array]) -> Tensors:
    """A model's answer as named tensors: one is "output", a sequence is "output_0"..., a mapping keeps its names."""
    if isinstance(value, dict):
        return {str(name): to_array(item) for name, item in value.items()}
    if isinstance(value, (tuple, list)) and not all(np.isscalar(item) for item in value):
        return {f"output_{index}": to_array(item) for index, item in enumerate(value)}
    return {"output": to_array(value)}


def _is_torch_archive(path: Path) -> bool:
    return zipfile.is_zipfile(path) and any(name.endswith(("/data.pkl", "/constants.pkl")) for name in zipfile.ZipFile(path).namelist())
