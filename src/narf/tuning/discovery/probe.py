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

FOUND = {"parameters": [], "metrics": [], "modules": {}, "files": [], "excluded": {}, "limits": [], "stopped": "", "problem": ""}
_RESULT = ""
_TYPES = {float: "float", int: "int", bool: "bool", str: "str"}
_CONFIGURATION = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf")

CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "shutil.move")


def save():
    """Write down what is known so far: the time limit may end the process at any moment."""
    with open(_RESULT + ".new", "w") as file:
        json.dump(FOUND, file, default=str)
    os.replace(_RESULT + ".new", _RESULT)


def stop(where):
    FOUND["stopped"] = where
    save()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


def main(result, keep_out, modules, script, arguments):
    global _RESULT
    _RESULT = result
    names = set(modules.split(","))
    folder = os.path.dirname(os.path.abspath(script))
    guard(keep_out)
    sys.path.insert(0, folder)
    sys.argv = [script, *arguments]
    patch_argparse()
    patch_optparse()
    if names & {"lightning", "pytorch_lightning"}:
        names.add("jsonargparse")  # what LightningCLI reads its arguments with
    for name, patch in (
        ("click", patch_click),
        ("typer", patch_typer),
        ("jsonargparse", patch_jsonargparse),
        ("hydra", patch_hydra),
        ("omegaconf", patch_omegaconf),
        ("lightning", patch_lightning),
        ("pytorch_lightning", patch_lightning),
        ("torch", patch_torch),
        ("sklearn", patch_sklearn),
        ("mlflow", patch_mlflow),
    ):
        if name in names:
            # Not installed here, or another version: the script says so itself, or the time limit ends it.
            with contextlib.suppress(ImportError, AttributeError):
                patch(name)
    watch(folder, keep_out)
    try:
        runpy.run_path(script, run_name="__main__")
    except SystemExit as request:
        if request.code not in (None, 0):
            said = f"with exit code {request.code}." if isinstance(request.code, int) else f"and said: {str(request.code)[:300]}"
            FOUND["problem"] = FOUND["problem"] or f"it left {said}"
    except BaseException as problem:  # the script's own; what was found before it stands
        FOUND["problem"] = f"{type(problem).__name__}: {problem}"[:300]
    stop("end")


def watch(*folders):
    """Write down which configuration files below `folders` are read."""
    roots = [os.path.join(os.path.realpath(folder), "") for folder in folders]

    def hook(event, arguments):
        if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        mode = arguments[1] if len(arguments) > 1 else None
        if not path.lower().endswith(_CONFIGURATION) or (isinstance(mode, str) and set(mode) & set("wax+")):
            return
        path = os.path.realpath(path)
        for root in roots:
            if path.startswith(root) and path[len(root) :] not in FOUND["files"] and os.path.isfile(path):
                FOUND["files"].append(path[len(root) :])

    sys.addaudithook(hook)


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

    def recording(original, is_final):
        def record(parser, args=None, namespace=None, **options):
            caller = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
            if caller in ("argparse", "hydra", "mlflow", "jsonargparse"):  # a library that reads its own arguments
                return original(parser, args, namespace, **options)
            take_parser(parser, "argparse", list(sys.argv[1:] if args is None else args))
            if is_final and tells_all():
                stop("parse_args")
            save()
            complain = parser.error

            def error(message):
                FOUND["problem"] = FOUND["problem"] or f"{message}."
                complain(message)

            parser.error = error
            return original(parser, args, namespace, **options)

        return record

    argparse.ArgumentParser.parse_args = recording(argparse.ArgumentParser.parse_args, True)
    argparse.ArgumentParser.parse_known_args = recording(argparse.ArgumentParser.parse_known_args, False)


def patch_optparse():
    import optparse

    original = optparse.OptionParser.parse_args

    def record(parser, *more, **named):
        for group in [parser, *parser.option_groups]:
            for option in group.option_list:
                take_option(parser, option)
        if tells_all():
            stop("parse_args")
        save()
        return original(parser, *more, **named)

    optparse.OptionParser.parse_args = record


def take_option(parser, option):
    flags = [*option._long_opts, *option._short_opts]
    if option.action in ("help", "version") or not option.dest or not flags:
        return
    default = parser.defaults.get(option.dest)
    kind, choices = {"float": "float", "int": "int", "long": "int", "choice": "choice"}.get(option.type, "str"), list(option.choices or ())
    how, on_value = "option", True
    if option.action in ("store_true", "store_false"):
        how, kind, on_value = "switch", "bool", option.action == "store_true"
    elif option.action != "store" or option.nargs not in (None, 1):
        kind = "list"
    add(option.dest, kind, default, choices, option.help, "argparse", how, flags[0], "", on_value)


def tells_all():
    """Whether what was declared so far is what the script takes: something to tune, and no configuration file that says more."""
    declared = FOUND["parameters"]
    files = [item for item in declared if str(item["default"] or item["name"]).lower().endswith((*_CONFIGURATION, "config", "cfg"))]
    return (
        not files
        and not _FILES
        and any(item["type"] in ("int", "float", "bool", "choice") and item["name"] not in _ALWAYS for item in declared)
    )


_FILES = []
_ALWAYS = ("seed", "verbose", "debug", "quiet", "epochs", "num_workers", "workers", "gpus", "device", "random_state")


def patch_jsonargparse(_name):
    import jsonargparse

    original = jsonargparse.ArgumentParser.parse_args

    def record(parser, args=None, *more, **named):
        words = list(sys.argv[1:] if args is None else args)
        take_parser(parser, "jsonargparse", words)
        save()
        jsonargparse.ArgumentParser.parse_args = original
        with contextlib.suppress(SystemExit):  # it says itself what is missing
            take_values(original(parser, args, *more, **named))
        stop("parse_args")

    jsonargparse.ArgumentParser.parse_args = record


def take_values(config):
    """What a parsed command line holds below the classes that it chose: `--model models.MLP` has `model.init_args.width`."""
    command = config.get("subcommand")
    prefix = f"{command}." if command else ""
    flat = {key[len(prefix) :]: value for key, value in config.items(branches=False) if key.startswith(prefix)}
    for item in FOUND["parameters"]:
        if isinstance(flat.get(item["name"]), (int, float, str)):
            item["default"] = flat[item["name"]]  # also where a configuration file says so
    known = {item["name"] for item in FOUND["parameters"]}
    for key, value in flat.items():
        root, mark, last = key.rpartition(".init_args.")
        if mark and key not in known:
            hints = hints_of(flat.get(f"{root}.class_path"))
            kind, choices = type_of(hints.get(last), value)
            add(key, kind, value, choices, "", "jsonargparse", "option", f"--{key}")


def hints_of(class_path):
    """Types of a constructor's parameters, those that it hands on to its bases among them."""
    import importlib

    module, _, name = str(class_path).rpartition(".")
    try:
        chosen = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return {}
    found = {}
    for base in reversed(chosen.__mro__):
        with contextlib.suppress(Exception):  # annotations are code of the script's
            found.update(typing.get_type_hints(base.__init__))
    return found


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
    for group in getattr(parser, "_mutually_exclusive_groups", ()):
        for action in group._group_actions[1:]:
            FOUND["excluded"][action.dest] = group._group_actions[0].dest


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
    if long == "--config" and style == "argparse":
        _FILES.append(long)  # whose file may say more than the options do
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
        plain = [item for item in inner if item in _TYPES]
        if len(plain) == 1 and str(origin).endswith(("Union", "UnionType'>")):  # a number or a tensor
            return _TYPES[plain[0]], []
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

    original = click.Command.main

    def record(command, args=None, *more, **named):
        take_command(command, list(sys.argv[1:] if args is None else args), "click")
        if tells_all():
            stop("click")
        save()
        return original(command, args, *more, **named)

    click.Command.main = record
    click.Command.__call__ = record


def patch_typer(_name):
    import typer
    import typer.main

    original = typer.Typer.__call__

    def record(app, *more, **named):
        take_command(typer.main.get_command(app), sys.argv[1:], "typer")
        if tells_all():
            stop("typer")
        save()
        return original(app, *more, **named)

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
        bare = getattr(item, "bare_type", None) or getattr(getattr(item, "type_descriptor", None), "annotation", None)
        type_name, choices = click_type(declared) if declared is not None else type_of(bare, item.default)
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
            getattr(declared or item, "min", None), getattr(declared or item, "max", None),
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


def take_config(body, prefix, style="hydra"):
    for key, value in body.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            take_config(value, name + ".", style)
        elif not str(key).startswith("_") and not (isinstance(value, str) and "${" in value):
            kind, choices = type_of(type(value), value) if isinstance(value, enum.Enum) else type_of(None, value)
            add(name, kind if not isinstance(value, list) else "list", value, choices, "", style, "override", name)


def patch_omegaconf(_name):
    """What is merged with the command line is the script's to take: `merge(..., OmegaConf.from_cli())`, `merge_with_dotlist(sys.argv[1:])`."""
    import omegaconf
    from omegaconf.basecontainer import BaseContainer

    conf = omegaconf.OmegaConf
    from_cli, merge, merge_dotlist = conf.from_cli, conf.merge, BaseContainer.merge_with_dotlist
    given = []

    def take(config):
        take_config(conf.to_container(config, resolve=False), "", "omegaconf")
        save()
        return config

    def from_command_line(*arguments, **named):
        given.append(from_cli(*arguments, **named))
        return given[-1]

    def merged(*configs, **named):
        result = merge(*configs, **named)
        return take(result) if any(config is item for config in configs for item in given) else result

    def merge_with_dotlist(config, words):
        merge_dotlist(config, words)
        if list(words) == sys.argv[1:]:
            take(config)

    conf.from_cli, conf.merge = staticmethod(from_command_line), staticmethod(merged)
    BaseContainer.merge_with_dotlist = merge_with_dotlist


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
                FOUND["metrics"].append({"name": monitor, "mode": str(getattr(callback, "mode", "")), "monitored": True})
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

    def record(*_, **__):
        FOUND["metrics"].append({"name": "loss", "mode": "min", "monitored": False})
        stop("backward")

    torch.Tensor.backward = record


def patch_sklearn(_name):
    import sklearn.base

    original = sklearn.base.BaseEstimator._validate_params

    def record(estimator, *_, **__):
        if hasattr(type(estimator), "transform") and not hasattr(type(estimator), "predict"):
            return original(estimator)  # a scaler prepares; the model comes later
        with contextlib.suppress(Exception):  # another version states its limits in another way
            take_limits(estimator)
        return stop("fit")

    sklearn.base.BaseEstimator._validate_params = record


def take_limits(estimator):
    """The ends that scikit-learn states for the parameters of a model, and of the models that it consists of."""
    import numbers

    inner = [value for value in estimator.get_params().values() if hasattr(value, "_parameter_constraints")]
    for model in (estimator, *inner):
        for name, options in model._parameter_constraints.items():
            for option in options if isinstance(options, list) else ():
                if type(option).__name__ != "Interval":
                    continue
                kind = "int" if option.type is numbers.Integral else "float"
                step = 1 if kind == "int" else 1e-6
                least = None if option.left is None else option.left + (0 if option.closed in ("left", "both") else step)
                most = None if option.right is None else option.right - (0 if option.closed in ("right", "both") else step)
                FOUND["limits"].append([name, kind, least, most])


def patch_mlflow(_name):
    """A script that logs a metric has trained. Nothing is written to a tracking server, and none is made."""
    import mlflow

    class Quiet:
        """Answers everything with itself."""

        def __call__(self, *_, **__):
            return self

        def __getattr__(self, name):
            if name.startswith("__"):
                raise AttributeError(name)
            return self

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def __str__(self):
            return "0" * 32

    def logged(key, *_, **__):
        for name in key if isinstance(key, dict) else [key]:
            FOUND["metrics"].append({"name": str(name), "mode": "", "monitored": False})
        stop("log_metric")

    for name in ("start_run", "active_run", "end_run", "set_experiment", "create_experiment", "set_tag", "set_tags", "log_param", "log_params", "log_text", "log_dict", "log_input",
                 "autolog"):  # fmt: skip
        if hasattr(mlflow, name):
            setattr(mlflow, name, Quiet())
    mlflow.log_metric = mlflow.log_metrics = logged


def add(name, type_name, default, choices, help_text, style, how, flag, off="", on_value=True, required=False, least=None, most=None):
    if isinstance(default, enum.Enum):
        default = default.name
    if default is not None and not isinstance(default, (int, float, str, bool, list)):
        default = None
    FOUND["parameters"][:] = [item for item in FOUND["parameters"] if (item["name"], item["style"]) != (name, style)]  # declared anew
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
