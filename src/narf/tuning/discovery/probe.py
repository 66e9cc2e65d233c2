"""Runs a script up to where it would train and writes down the parameters it declares. Started as a program; standard library only.

    python probe.py RESULT KEEP_OUT MODULES SCRIPT ARGUMENTS...

RESULT: the JSON file to write. KEEP_OUT: a folder in which nothing may be changed. MODULES: what the script imports, separated by commas.
"""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

import contextlib
import enum
import functools
import json
import os
import runpy
import sys
import typing

FOUND = {"parameters": [], "metrics": [], "modules": {}, "stopped": ""}
_RESULT = ""
_TYPES = {float: "float", int: "int", bool: "bool", str: "str"}


CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "shutil.move")


def stop(where):
    FOUND["stopped"] = where
    with open(_RESULT, "w") as file:
        json.dump(FOUND, file, default=str)
    sys.stdout.flush()
    os._exit(0)


def main(result, keep_out, modules, script, arguments):
    global _RESULT
    _RESULT = result
    names = set(modules.split(","))
    guard(keep_out)
    sys.path.insert(0, os.path.dirname(os.path.abspath(script)))
    sys.argv = [script, *arguments]
    patch_argparse()
    if names & {"lightning", "pytorch_lightning"}:
        names.add("jsonargparse")  # what LightningCLI reads its arguments with
    for name, patch in (
        ("click", patch_click),
        ("typer", patch_typer),
        ("jsonargparse", patch_jsonargparse),
        ("hydra", patch_hydra),
        ("lightning", patch_lightning),
        ("pytorch_lightning", patch_lightning),
        ("torch", patch_torch),
        ("sklearn", patch_sklearn),
    ):
        if name in names:
            # Not installed here, or another version: the script says so itself, or the time limit ends it.
            with contextlib.suppress(ImportError, AttributeError):
                patch(name)
    with contextlib.suppress(SystemExit):
        runpy.run_path(script, run_name="__main__")
    stop("end")


def guard(folder):
    """Refuse to change anything below `folder`: the user's own."""
    prefix = os.path.join(os.path.realpath(folder), "")

    def is_inside(path):
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(prefix)

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and is_inside(path):
                raise PermissionError(f"a dry run may not write {path!r}")
        elif event in CHANGES and any(is_inside(item) for item in arguments):
            raise PermissionError(f"a dry run may not change {arguments[0]!r}")

    if folder:
        sys.addaudithook(hook)


def patch_argparse():
    import argparse

    def recording(original):
        def record(parser, args=None, namespace=None, **options):
            caller = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
            if caller in ("argparse", "hydra", "mlflow"):  # a library that reads its own arguments
                return original(parser, args, namespace, **options)
            take_parser(parser, "argparse", list(sys.argv[1:] if args is None else args))
            stop("parse_args")

        return record

    argparse.ArgumentParser.parse_args = recording(argparse.ArgumentParser.parse_args)
    argparse.ArgumentParser.parse_known_args = recording(argparse.ArgumentParser.parse_known_args)


def patch_jsonargparse(_name):
    import jsonargparse

    def record(parser, args=None, *_, **__):
        words = list(sys.argv[1:] if args is None else args)
        take_parser(parser, "jsonargparse", words)
        stop("parse_args")

    jsonargparse.ArgumentParser.parse_args = record


def take_parser(parser, style, words):
    for action in parser._actions:
        commands = getattr(action, "choices", None)
        if isinstance(commands, dict) and commands and all(hasattr(item, "_actions") for item in commands.values()):
            chosen = next(
                (word for word in words if word in commands), "fit" if "fit" in commands else "train" if "train" in commands else None
            )
            if chosen:
                take_parser(commands[chosen], style, words)
            continue
        take_action(action, style)


def take_action(action, style):
    kind = type(action).__name__
    if kind in (
        "_HelpAction",
        "_VersionAction",
        "ActionPrintConfig",
        "_ActionPrintConfig",
        "_ActionConfigLoad",
        "ActionConfigFile",
        "_ActionHelpClassPath",
        "_ActionHelpShtab",
    ):
        return
    flags = list(action.option_strings)
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    if not long or long in ("--config", "--print_config") or long.endswith(".help"):
        return
    how, off, on_value = "option", "", True
    type_name, choices = type_of(getattr(action, "_typehint", None) or action.type, action.default)
    if action.choices is not None:
        type_name, choices = "choice", list(action.choices)
    if kind in ("_StoreTrueAction", "_StoreFalseAction"):
        how, type_name, on_value = "switch", "bool", kind == "_StoreTrueAction"
    elif kind in ("BooleanOptionalAction", "ActionYesNo"):
        how, type_name, off = "on_off", "bool", next((flag for flag in flags if flag.startswith("--no")), "")
    elif kind in ("_AppendAction", "_CountAction", "_StoreConstAction") or action.nargs not in (None, "?"):
        type_name = "list"
    elif action.type is bool and style == "argparse":
        how = "truthy"
    elif action.type is None and style == "argparse" and isinstance(action.default, (int, float)) and action.choices is None:
        how = "inject"
    add(action.dest, type_name, action.default, choices, action.help, style, how, long, off, on_value, bool(action.required))


def type_of(hint, default):
    """(type, choices) of a type, a callable or a type hint."""
    if hint in _TYPES:
        return _TYPES[hint], []
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "choice", list(typing.get_args(hint))
    if origin is not None:
        inner = [item for item in typing.get_args(hint) if item is not type(None)]
        if (len(inner) == 1 and str(origin).endswith("Union'>")) or (len(inner) == 1 and origin is typing.Union):
            return type_of(inner[0], default)
        if set(inner) == {int, float}:
            return "float", []
        return "list", []
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "choice", [member.name for member in hint]
    for base, name in ((bool, "bool"), (int, "int"), (float, "float")):
        if (
            (isinstance(hint, type) and issubclass(hint, base))
            or (hint is not None and isinstance(default, base))
            or (hint is None and isinstance(default, base))
        ):
            return name, []
    return "str", []


def patch_click(_name):
    import click

    def record(command, args=None, *_, **__):
        take_command(command, list(sys.argv[1:] if args is None else args), "click")
        stop("click")

    click.Command.main = record
    click.Command.__call__ = record


def patch_typer(_name):
    import typer
    import typer.main

    def record(app, *_, **__):
        take_command(typer.main.get_command(app), sys.argv[1:], "typer")
        stop("typer")

    typer.Typer.__call__ = record


def take_command(command, words, style):
    commands = getattr(command, "commands", None)
    if commands:
        chosen = next((word for word in words if word in commands), None) or next(
            (n for n in ("train", "fit", "main", "run") if n in commands), None
        )
        if chosen:
            return take_command(commands[chosen], words, style)
    for item in command.params:
        if (
            getattr(item, "param_type_name", "") != "option"
            or item.name == "help"
            or "--install-completion" in item.opts
            or "--show-completion" in item.opts
        ):
            continue
        long = next((flag for flag in item.opts if flag.startswith("--")), item.opts[0])
        declared = getattr(item, "type", None)
        type_name, choices = click_type(declared) if declared is not None else type_of(getattr(item, "bare_type", None), item.default)
        bare = getattr(item, "bare_type", None)
        if isinstance(bare, type) and issubclass(bare, enum.Enum):
            choices = [member.value for member in bare]
        how = "option"
        if item.is_flag:
            how = "on_off" if item.secondary_opts else "switch"
        default = item.default() if callable(item.default) else item.default
        default = getattr(default, "value", default)
        if not isinstance(default, (int, float, str, bool, type(None))):
            default = None
        type_name = "list" if item.multiple or item.nargs != 1 else "choice" if choices else "bool" if item.is_flag else type_name
        add(
            item.name, type_name, default, choices, getattr(item, "help", ""), style, how, long, (item.secondary_opts or [""])[0], True, bool(item.required),
            getattr(declared, "min", None), getattr(declared, "max", None),
        )  # fmt: skip


def click_type(declared):
    kinds = {"FloatParamType": "float", "FloatRange": "float", "IntParamType": "int", "IntRange": "int", "BoolParamType": "bool"}
    kind = type(declared).__name__
    return kinds.get(kind, "str"), [getattr(choice, "value", choice) for choice in declared.choices] if "Choice" in kind else []


def patch_hydra(_name):
    import hydra

    original = hydra.main

    def replaced(*arguments, **options):
        decorate = original(*arguments, **options)

        def decorator(function):
            @functools.wraps(function)
            def task(config):
                from omegaconf import OmegaConf

                take_config(OmegaConf.to_container(config, resolve=False), "")
                stop("hydra")

            return decorate(task)

        return decorator

    hydra.main = replaced


def take_config(body, prefix):
    for key, value in body.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            take_config(value, name + ".")
        elif not str(key).startswith("_") and not (isinstance(value, str) and "${" in value):
            add(name, type_of(None, value)[0] if not isinstance(value, list) else "list", value, [], "", "hydra", "override", name)


def patch_lightning(name):
    trainers = []
    if name == "lightning":
        import lightning.pytorch as library
    else:
        import pytorch_lightning as library
    trainers.append(library.Trainer)

    def record(trainer, model=None, *_, **__):
        for callback in getattr(trainer, "callbacks", []):
            monitor = getattr(callback, "monitor", None)
            if isinstance(monitor, str):
                FOUND["metrics"].append({"name": monitor, "mode": str(getattr(callback, "mode", ""))})
        take_module(model)
        stop("Trainer.fit")

    for trainer in trainers:
        trainer.fit = record


def take_module(model):
    import inspect

    if model is None:
        return
    names = [name for name in inspect.signature(type(model).__init__).parameters if name not in ("self", "args", "kwargs")]
    FOUND["modules"][type(model).__name__] = names


def patch_torch(_name):
    import torch

    torch.Tensor.backward = lambda *_, **__: stop("backward")


def patch_sklearn(_name):
    import sklearn.base

    sklearn.base.BaseEstimator._validate_params = lambda *_, **__: stop("fit")


def add(name, type_name, default, choices, help_text, style, how, flag, off="", on_value=True, required=False, least=None, most=None):
    if isinstance(default, enum.Enum):
        default = default.name
    if default is not None and not isinstance(default, (int, float, str, bool, list)):
        default = None
    FOUND["parameters"].append(
        {
            "name": name, "type": type_name, "default": default, "choices": [getattr(c, "value", c) if not isinstance(c, (int, float, str)) else c for c in choices],
            "help": "" if help_text in (None, "==SUPPRESS==") else str(help_text), "style": style,
            "passing": {"how": how, "flag": name if how == "inject" else flag, "off_flag": off or "", "on_value": on_value}, "required": required, "least": least, "most": most,
        }
    )  # fmt: skip


if __name__ == "__main__":
    del sys.path[0]  # our own folder, whose modules have names of libraries
    main(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
