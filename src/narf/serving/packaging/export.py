"""The exports that are tried for an original: ONNX, then TorchScript, then the original itself."""

from __future__ import annotations

import logging
import pickle
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from narf.serving.packaging.cases import rows
from narf.serving.packaging.original import Original
from narf.serving.runtimes.torch import CODE
from narf.serving.tensors import Tensors


class CannotExport(Exception):
    """This model has no such form; the text says why and becomes part of the evidence."""


def attempts(original: Original) -> list[tuple[str, str]]:
    """(runtime, file) of the exports worth trying, the original's own form last."""
    return {
        "onnx": [("onnx", "model.onnx")],
        "torch": [("onnx", "model.onnx"), ("torchscript", "model.pt"), ("torch", "module.pt")],
        "torchscript": [("onnx", "model.onnx"), ("torchscript", "model.pt")],
        "sklearn": [("onnx", "model.onnx"), ("pyfunc", _own_file(original))],
        "pyfunc": [("pyfunc", "mlflow")],
    }[original.kind]


def export(original: Original, runtime: str, target: Path, samples: Tensors, outputs: Sequence[str]) -> None:
    """Write `original` in the form of `runtime` to `target`.

    Raises:
        CannotExport: it cannot be expressed so.
    """
    if original.kind == "onnx":
        assert original.source is not None
        _copy_onnx(original.source, target)
    elif runtime == "onnx" and original.kind in {"torch", "torchscript"}:
        _torch_to_onnx(original, target, samples, outputs)
    elif runtime == "torchscript":
        _torch_to_script(original, target, samples)
    elif runtime == "torch":
        _pickle_module(original, target)
    elif runtime == "onnx":
        _estimator_to_onnx(original, target, samples)
    else:
        _copy_original(original, target)


def _torch_to_onnx(original: Original, target: Path, samples: Tensors, outputs: Sequence[str]) -> None:
    import torch

    names = list(samples)
    few = tuple(torch.from_numpy(array) for array in rows(samples, 3).values())
    reasons = []
    quiet = logging.getLogger("torch.onnx")
    quiet.setLevel(logging.ERROR)
    # The newer exporter first: it refuses control flow that the older one silently freezes into one branch.
    for dynamo in (True, False):
        if dynamo and original.kind == "torchscript":
            continue
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")
                if dynamo:
                    shapes = tuple({0: torch.export.Dim.DYNAMIC} for _ in names)
                    torch.onnx.export(
                        original.model,
                        few,
                        str(target),
                        dynamo=True,
                        dynamic_shapes=shapes,
                        input_names=names,
                        output_names=list(outputs),
                        external_data=False,
                        verbose=False,
                    )
                else:
                    axes = {name: {0: "batch"} for name in (*names, *outputs)}
                    torch.onnx.export(
                        original.model, few, str(target), dynamo=False, dynamic_axes=axes, input_names=names, output_names=list(outputs)
                    )
            return
        except Exception as error:  # the exporters raise every type there is; each means: not this way
            reasons.append(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}")
    raise CannotExport("; ".join(reasons)[:500])


def _torch_to_script(original: Original, target: Path, samples: Tensors) -> None:
    import torch

    if original.kind == "torchscript":
        assert original.source is not None
        torch.jit.save(original.model, str(target))
        return
    few = tuple(torch.from_numpy(array) for array in rows(samples, 3).values())
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            try:
                scripted = _scripted(original.model)
            except Exception:  # scripting refuses much that tracing takes; the comparison finds a wrong trace
                original.model._jit_is_scripting = True  # Lightning: do not ask for the trainer
                scripted = torch.jit.trace(original.model, few)
            torch.jit.save(scripted, str(target))
    except Exception as error:
        raise CannotExport(f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"[:500]) from error


def _scripted(module: Any) -> Any:
    """Lightning knows how its modules are scripted."""
    import torch

    return module.to_torchscript(method="script") if hasattr(module, "to_torchscript") else torch.jit.script(module)


def _pickle_module(original: Original, target: Path) -> None:
    import torch

    try:
        torch.save(original.model, target)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise CannotExport(f"it cannot be pickled: {error}") from error
    code = original.extra.get("code")
    if code is not None:
        shutil.copytree(code, target.parent / CODE, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", ".git"))


def _estimator_to_onnx(original: Original, target: Path, samples: Tensors) -> None:
    try:
        from skl2onnx import to_onnx
    except ImportError:
        raise CannotExport("skl2onnx is not installed") from None
    try:
        estimator = original.model
        options = {id(estimator): {"zipmap": False}} if hasattr(estimator, "predict_proba") else None
        onnx_model = to_onnx(estimator, next(iter(rows(samples, 3).values())), options=options)
    except Exception as error:  # converters raise their own types and plain RuntimeErrors
        raise CannotExport(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:500]) from error
    _rename(onnx_model, next(iter(samples)), ["output", "probabilities"] if hasattr(original.model, "predict_proba") else ["output"])
    target.write_bytes(onnx_model.SerializeToString())


def _rename(model: object, input_name: str, outputs: Sequence[str]) -> None:
    """Give a converted model the tensor names that the original answers with."""
    graph = model.graph  # type: ignore[attr-defined]
    renamed = {graph.input[0].name: input_name, **{node.name: name for node, name in zip(graph.output, outputs, strict=False)}}
    for node in graph.node:
        for edges in (node.input, node.output):
            for index, name in enumerate(edges):
                edges[index] = renamed.get(name, name)
    for value in (*graph.input, *graph.output):
        value.name = renamed.get(value.name, value.name)


def _copy_original(original: Original, target: Path) -> None:
    if original.source is None:
        target.write_bytes(pickle.dumps(original.model))
    elif original.source.is_dir():
        shutil.copytree(original.source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(original.source, target)


def _copy_onnx(source: Path, target: Path) -> None:
    """The file and, where its weights lie beside it, those too."""
    shutil.copyfile(source, target)
    for beside in source.parent.iterdir():
        if beside.is_file() and beside != source and beside.name.startswith(source.stem) and beside.suffix in {".data", ".onnx_data"}:
            shutil.copyfile(beside, target.parent / beside.name)


def _own_file(original: Original) -> str:
    if original.source is None:
        return "model.pkl"
    return "mlflow" if original.source.is_dir() else "model" + original.source.suffix
