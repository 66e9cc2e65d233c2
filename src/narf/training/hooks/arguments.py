"""Command-line parameters: those of argparse, click, typer and Hydra become parameters of the run, and take tuned values."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from narf.training import parameters
from narf.training import recorder as recorders
from narf.training.hooks import guarded
from narf.training.imports import when_imported

_SECRET = re.compile(r"pass(word|wd|phrase)|secret|token|api[-_]?key|credential|private[-_]?key", re.IGNORECASE)
_LONGEST_LIST = 100
_FRAMEWORKS = ("hydra", "ray", "IPython", "ipykernel", "pytest", "_pytest")


def install() -> None:
    recorder = recorders.current()
    if recorder is not None and len(sys.argv) > 1:
        recorder.tag("narf.arguments", " ".join(_quoted(argument) for argument in _without_secrets(sys.argv[1:])))
    when_imported("argparse", _patch_argparse)
    when_imported("click.core", _patch_click)
    when_imported("typer._click.core", _patch_click)
    when_imported("hydra.core.utils", _patch_hydra)
    if parameters.values():
        from narf.training import imports, opened

        imports.compile_beside(parameters.compile_script)
        opened.install()


@guarded("arguments")
def record(found: Mapping[str, Any], prefix: str = "") -> None:
    """Record what is a number, a text, a truth or a short list of those; nested mappings under dotted names; never a secret."""
    recorder = recorders.current()
    if recorder is None:
        return
    for name, value in found.items():
        name = f"{prefix}{name}"
        if value is None or isinstance(value, (bool, int, float, str)):
            recorder.param(name, "***" if _SECRET.search(name) and value else value)
        elif isinstance(value, Mapping):
            record(value, f"{name}.")
        elif hasattr(value, "__dict__") and type(value).__name__ == "Namespace":
            record(vars(value), f"{name}.")
        elif isinstance(value, (list, tuple)) and len(value) <= _LONGEST_LIST:
            recorder.param(name, list(value))
        elif not callable(value) and not hasattr(value, "read"):
            recorder.param(name, value)


def _patch_argparse(module: ModuleType) -> None:
    parser_class: Any = module.ArgumentParser
    original = parser_class.parse_known_args
    depth = [0]

    @functools.wraps(original)
    def parse_known_args(self: Any, args: Any = None, namespace: Any = None, *more: Any, **named: Any) -> Any:
        # Subparsers parse inside their parser, and libraries parse lists of their own: only the command line is the script's.
        is_own = depth[0] == 0 and (args is None or list(args) == sys.argv[1:]) and not _is_of_a_framework()
        if is_own:
            _relax(self)
        depth[0] += 1
        try:
            result = original(self, args, namespace, *more, **named)
        finally:
            depth[0] -= 1
        if is_own and isinstance(result, tuple):
            _override_namespace(self, result[0])
            record({name: value for name, value in vars(result[0]).items() if not name.startswith("_")})
        return result

    parser_class.parse_known_args = parse_known_args


def _is_of_a_framework() -> bool:
    """Whether the parser is one of a framework's own, whose arguments say nothing of the script."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__") in ("argparse", __name__):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and str(frame.f_globals.get("__name__")).split(".")[0] in _FRAMEWORKS


@guarded("arguments")
def _relax(parser: Any) -> None:
    """An argument that gets its value from a study need not be on the command line."""
    for action in parser._actions:
        if action.dest in parameters.values() and action.required and action.option_strings:
            action.required = False


@guarded("arguments")
def _override_namespace(parser: Any, namespace: Any) -> None:
    for action in _all_actions(parser):
        if action.dest in parameters.values() and hasattr(namespace, action.dest):
            setattr(namespace, action.dest, _as_parsed(parser, action, parameters.used(action.dest)))


def _all_actions(parser: Any) -> list[Any]:
    found = []
    for action in parser._actions:
        found.append(action)
        if isinstance(action.choices, dict):  # subcommands
            for inner in action.choices.values():
                if hasattr(inner, "_actions"):
                    found += _all_actions(inner)
    return found


def _as_parsed(parser: Any, action: Any, value: Any) -> Any:
    """`value` as the parser would have made it from text."""
    if value is None or isinstance(value, bool) or action.nargs == 0:
        return value
    if isinstance(value, list):
        return [_as_parsed(parser, action, item) for item in value]
    value = parameters.like(value, action.default)
    if action.type is None:
        return value
    if action.type is int and isinstance(value, float) and value.is_integer():
        value = int(value)
    return parser._get_value(action, str(value))


def _patch_click(module: ModuleType) -> None:
    command: Any = module.Command
    original = command.invoke

    @functools.wraps(original)
    def invoke(self: Any, ctx: Any) -> Any:
        _override_click(self, ctx)
        record(ctx.params)
        return original(self, ctx)

    command.invoke = invoke


@guarded("arguments")
def _override_click(command: Any, context: Any) -> None:
    for parameter in command.params:
        if parameter.name in parameters.values() and parameter.name in context.params:
            value = parameters.like(parameters.used(parameter.name), context.params[parameter.name])
            convert = getattr(getattr(parameter, "type", None), "convert", None)  # typer's own parameters have none
            context.params[parameter.name] = value if convert is None or isinstance(value, bool) else convert(value, parameter, context)


def _patch_hydra(module: ModuleType) -> None:
    original = module.run_job

    @functools.wraps(original)
    def run_job(task_function: Any, *arguments: Any, **named: Any) -> Any:
        @functools.wraps(task_function)
        def task(configuration: Any) -> Any:
            _override_hydra(configuration)
            return task_function(configuration)

        return original(task, *arguments, **named)

    module.run_job = run_job  # type: ignore[attr-defined]
    for name in ("hydra._internal.hydra", "hydra._internal.core_plugins.basic_launcher"):
        loaded = sys.modules.get(name)
        if loaded is not None and getattr(loaded, "run_job", None) is original:
            loaded.run_job = run_job  # type: ignore[attr-defined]


@guarded("arguments")
def _override_hydra(configuration: Any) -> None:
    conf = sys.modules["omegaconf"].OmegaConf
    for name in parameters.values():
        if conf.select(configuration, name) is not None:
            value = parameters.like(parameters.used(name), conf.select(configuration, name))
            conf.update(configuration, name, value)
    record({str(key): value for key, value in conf.to_container(configuration, resolve=True).items() if key != "hydra"})


def _without_secrets(arguments: list[str]) -> list[str]:
    """The command line with the values of options that sound secret replaced."""
    shown: list[str] = []
    hide = False
    for argument in arguments:
        if hide and not argument.startswith("-"):
            shown.append("***")
            hide = False
            continue
        name, equals, _ = argument.partition("=")
        hide = bool(name.startswith("-") and _SECRET.search(name))
        shown.append(f"{name}=***" if hide and equals else argument)
        hide = hide and not equals
    return shown


def _quoted(argument: str) -> str:
    import shlex

    return shlex.quote(argument)
