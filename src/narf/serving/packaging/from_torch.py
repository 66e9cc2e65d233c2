"""PyTorch originals: Lightning checkpoints, pickled modules, state_dicts with a class, TorchScript."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from narf.domain.errors import BadInput
from narf.serving.packaging.original import Original, named_outputs
from narf.serving.tensors import Array, Tensors

_ENOUGH_ROWS = 2048  # for a picture of what the training data looks like


def open_torch(path: Path, *, class_name: str, script: Path | None, arguments: Sequence[str]) -> Original:
    try:
        scripted = torch.jit.load(path, map_location="cpu").eval()
    except (RuntimeError, ValueError):
        pass  # no TorchScript archive: an ordinary pickle
    else:
        return original_of_module(scripted, kind="torchscript", label="TorchScript", source=path)
    if class_name:
        _importable(class_name)
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # a pickle raises whatever its classes raise
        raise BadInput(
            f"{path.name} cannot be loaded by torch: {type(error).__name__}: {error}", remedy="Give the code it was trained with."
        ) from error
    if isinstance(loaded, torch.nn.Module):
        return original_of_module(loaded.eval(), kind="torch", label=f"torch.nn.Module {type(loaded).__name__}", source=path)
    if not isinstance(loaded, dict):
        raise BadInput(
            f"{path.name} holds a {type(loaded).__name__}, not a model.", remedy="Save the module, its state_dict, or a checkpoint."
        )
    state = loaded.get("state_dict", loaded)
    samples = None
    if class_name:
        module = _instance(_importable(class_name), loaded.get("hyper_parameters", {}))
    elif script is not None:
        module, samples = run_to_fit(script, arguments)
    else:
        raise BadInput(
            f"{path.name} is a checkpoint: it has the weights but not the class.",
            remedy="Name the class (--class file.py:Class) or the script.",
        )
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(
            f"The weights in {path.name} do not fit {type(module).__name__}: {error}", remedy="Name the class that was trained."
        ) from error
    original = original_of_module(module.eval(), kind="torch", label=f"{type(module).__name__} checkpoint", source=path)
    if samples is not None:
        original.samples, original.samples_are_real = samples, True
    return original


def original_of_module(module: Any, *, kind: str, label: str, source: Path | None) -> Original:
    names = forward_names(module)

    def predict(inputs: Tensors) -> Tensors:
        return run_module(module, inputs, names)

    original = Original(kind=kind, label=label, model=module, predict=predict, source=source)
    original.extra["names"] = names
    example = getattr(module, "example_input_array", None)
    if isinstance(example, torch.Tensor) and names:
        original.samples = {names[0]: example.detach().cpu().numpy()}
    return original


def forward_names(module: Any) -> list[str]:
    """The names of the tensors that `forward` asks for."""
    if isinstance(module, torch.jit.ScriptModule):
        arguments = module.forward.schema.arguments[1:]
        return [argument.name for argument in arguments if not argument.has_default_value()]
    parameters = inspect.signature(module.forward).parameters.values()
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in parameters if p.kind in positional and p.default is inspect.Parameter.empty]
    return names or ["input"]


def run_module(module: Any, inputs: Tensors, names: Sequence[str]) -> Tensors:
    with torch.inference_mode():
        tensors = [torch.from_numpy(np.array(inputs[name])) for name in names]  # a copy: torch refuses read-only memory
        return named_outputs(module(*tensors), _to_array)


def run_to_fit(script: Path, arguments: Sequence[str]) -> tuple[Any, Tensors | None]:
    """Run the training script until it calls `Trainer.fit`: the module it built and a batch of its data, if it can be had.

    Raises:
        BadInput: the script ended or failed before it came to `Trainer.fit`.
    """
    import lightning.pytorch as pl

    class ReachedFit(BaseException):  # not an Exception: the script must not catch it
        pass

    captured: dict[str, Any] = {}

    def fit(_trainer: Any, model: Any, *positional: Any, **named: Any) -> None:
        loaders = positional[0] if positional else named.get("train_dataloaders")
        captured.update(model=model, loaders=loaders, datamodule=named.get("datamodule"))
        raise ReachedFit

    trainers = [pl.Trainer]
    if legacy := sys.modules.get("pytorch_lightning"):
        trainers.append(legacy.Trainer)
    kept, argv = [trainer.fit for trainer in trainers], sys.argv
    for trainer in trainers:
        trainer.fit = fit
    sys.path.insert(0, str(script.parent.resolve()))
    sys.argv = [str(script), *arguments]
    try:
        runpy.run_path(str(script), run_name="__main__")
    except ReachedFit:
        pass
    except SystemExit as error:
        raise BadInput(
            f"{script.name} ended (exit code {error.code}) before it called Trainer.fit.", remedy="Name the class: --class."
        ) from None
    except Exception as error:  # the user's code may raise anything; the caller reports it as theirs
        raise BadInput(
            f"{script.name} failed before it called Trainer.fit: {type(error).__name__}: {error}", remedy="Name the class: --class."
        ) from error
    finally:
        for trainer, method in zip(trainers, kept, strict=True):
            trainer.fit = method
        sys.argv = argv
    if "model" not in captured:
        raise BadInput(f"{script.name} never called Trainer.fit.", remedy="Name the class: --class file.py:Class.")
    return captured["model"], _training_rows(captured)


def _training_rows(captured: dict[str, Any]) -> Tensors | None:
    """Real rows from the loader or the data module. There may be none to be had: then inputs are made up."""
    loaders = captured["loaders"]
    if isinstance(loaders, (list, tuple)) and loaders:
        loaders = loaders[0]
    module = captured["datamodule"] or (loaders if hasattr(loaders, "train_dataloader") else None)
    names, found, rows = forward_names(captured["model"]), [], 0
    try:
        if module is not None:
            module.prepare_data()
            module.setup("fit")
            loaders = module.train_dataloader()
        elif loaders is None:
            captured["model"].prepare_data()
            loaders = captured["model"].train_dataloader()
        for batch in loaders:
            inputs = _inputs_of(batch, names)
            if inputs is None:
                break
            found.append(inputs)
            rows += len(next(iter(inputs.values())))
            if rows >= _ENOUGH_ROWS:
                break
        if not found:
            return None
        return {name: np.concatenate([inputs[name] for inputs in found]) for name in names}
    except Exception as error:  # user code again; without rows the check uses made-up inputs and says so
        sys.stderr.write(f"No rows could be taken from the training data: {type(error).__name__}: {error}\n")
        return None


def _inputs_of(batch: Any, names: Sequence[str]) -> Tensors | None:
    """What of a batch `forward` takes: by name, or the first tensors of it."""
    if isinstance(batch, dict):
        named = {name: batch[name] for name in names if isinstance(batch.get(name), torch.Tensor)}
        return {name: _to_array(value) for name, value in named.items()} if len(named) == len(names) else None
    values = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    tensors = [value for value in values if isinstance(value, torch.Tensor)][: len(names)]
    return {name: _to_array(value) for name, value in zip(names, tensors, strict=True)} if len(tensors) == len(names) else None


def _importable(class_name: str) -> Any:
    place, _, name = class_name.rpartition(":")
    if not place:
        raise BadInput(f"{class_name!r} names no class.", remedy="Write file.py:Class or package.module:Class.", field="class")
    try:
        if place.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(place).stem, place)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(spec.name, module)
            sys.path.insert(0, str(Path(place).parent.resolve()))
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(place)
        return getattr(module, name)
    except (ImportError, FileNotFoundError, AttributeError) as error:
        raise BadInput(f"{class_name!r} cannot be imported: {error}.", field="class") from error


def _instance(cls: Any, hyper_parameters: Any) -> Any:
    accepted = inspect.signature(cls.__init__).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in accepted.values())
    given = {key: value for key, value in dict(hyper_parameters).items() if takes_any or key in accepted}
    try:
        return cls(**given)
    except TypeError as error:
        raise BadInput(
            f"{cls.__name__} cannot be built from the checkpoint's hyper-parameters: {error}.",
            remedy="Call self.save_hyperparameters() in it.",
        ) from error


def _to_array(value: Any) -> Array:
    return value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)
