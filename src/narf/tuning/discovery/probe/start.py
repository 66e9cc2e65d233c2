"""Starts the script with the parts of libraries replaced that declare parameters or train."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import os
import sys
from types import ModuleType

from narf.training.imports import when_imported
from narf.tuning.discovery.probe import arguments, commands, configurations, training
from narf.tuning.discovery.probe.folder import guard, watch, watch_environment
from narf.tuning.discovery.probe.found import FOUND, begin

_PATCHES = {
    "argparse": arguments.patch_argparse,
    "optparse": arguments.patch_optparse,
    "jsonargparse": arguments.patch_jsonargparse,
    "click": commands.patch_click,
    "typer": commands.patch_typer,
    "hydra": configurations.patch_hydra,
    "omegaconf": configurations.patch_omegaconf,
    "lightning.pytorch": training.patch_lightning,
    "pytorch_lightning": training.patch_lightning,
    "torch": training.patch_torch,
    "sklearn.base": training.patch_sklearn,
    "mlflow": training.patch_mlflow,
}


def start(result: str, keep_out: str, seconds: float, script: str, words: list[str]) -> None:
    """Never returns: it ends the process where the script trains, or at its end."""
    begin(result)
    folder = os.path.dirname(os.path.abspath(script))
    guard(keep_out)
    sys.path.insert(0, folder)
    sys.argv = [script, *words]
    for name, patch in _PATCHES.items():
        when_imported(name, _forgiving(patch))
    watch(folder, keep_out)
    watch_environment(folder)
    training.begin_in(folder, seconds)
    trace = None
    try:
        _execute(os.path.abspath(script))
    except SystemExit as request:
        if request.code not in (None, 0):
            said = f"with exit code {request.code}." if isinstance(request.code, int) else f"and said: {str(request.code)[:300]}"
            FOUND["problem"] = FOUND["problem"] or f"it left {said}"
    except BaseException as problem:  # the script's own; what was found before it stands
        FOUND["problem"] = f"{type(problem).__name__}: {problem}"[:300]
        trace = problem.__traceback__
    training.begins("end", trace)


def _forgiving(patch):
    """Of another version, in which the part has another name: the script says so itself, or the time limit ends it."""

    def act(module: ModuleType) -> None:
        try:
            patch(module)
        except (ImportError, AttributeError):
            return

    return act


def _execute(script: str) -> None:
    """Run the file as `__main__`. Its module stays, so that what it holds can be looked at when it has ended."""
    module = ModuleType("__main__")
    module.__file__ = script
    sys.modules["__main__"] = module
    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec", dont_inherit=True)
    exec(code, module.__dict__)
