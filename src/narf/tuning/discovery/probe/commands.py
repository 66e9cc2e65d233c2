"""Command lines declared with click and Typer."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import enum
import sys

from narf.tuning.discovery.probe.found import FOUND, add, save, stop, tells_all, type_of


def patch_click(click):
    original = click.Command.main

    def record(command, args=None, *more, **named):
        take_command(command, list(sys.argv[1:] if args is None else args), "click")
        if tells_all():
            stop("click")
        save()
        return original(command, args, *more, **named)

    click.Command.main = record
    click.Command.__call__ = record


def patch_typer(typer):
    import typer.main as commands

    original = typer.Typer.__call__

    def record(app, *more, **named):
        take_command(commands.get_command(app), sys.argv[1:], "typer")
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
            if chosen not in words:
                FOUND["prefix"].append(chosen)
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
