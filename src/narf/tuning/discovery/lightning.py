"""Parameters of a LightningCLI, and of the constructors of LightningModules and DataModules that the script builds itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from narf.tuning.discovery.arguments import link_targets
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import Field, constructor_of, type_of_value
from narf.tuning.discovery.signature_parameters import from_fields
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, keyword

MODULES = ("LightningModule", "LightningDataModule")
_SUB_COMMANDS = ("fit", "validate", "test", "predict")
_CLI = ("LightningCLI",)


def find_lightning_cli(source: Source, arguments: tuple[str, ...]) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """`--model.x` and `--data.x` of the classes given to LightningCLI, and what a subclass of it adds."""
    for module in source.modules:
        for call in module.calls():
            name = module.dotted(call.func)
            if not source.descends(name, *_CLI):
                continue
            found = list(_cli_parameters(source, module, call, arguments))
            runs = module.literal(keyword(call, "run")) is not False
            prefix = ("fit",) if runs and not any(word in _SUB_COMMANDS for word in arguments) else ()
            return _with_cli_defaults(source, found), prefix
    return [], ()


def _cli_parameters(source: Source, module: Module, call: ast.Call, arguments: tuple[str, ...]) -> Iterator[FoundParameter]:
    linked = link_targets(source)
    for index, (word, key) in enumerate((("model_class", "model"), ("datamodule_class", "data"))):
        node = argument(call, index, word)
        target = module.dotted(node)
        mode = module.literal(keyword(call, f"subclass_mode_{key}")) is True
        if chosen := _given_class(arguments, key):
            target, mode = chosen if source.class_of(chosen) is not None else target, True
        if not target or source.class_of(target) is None:
            continue
        home, _ = source.classes[target.rpartition(".")[2]]
        prefix = f"{key}.init_args." if mode else f"{key}."
        for parameter in from_fields(source, home.file, constructor_of(source, target), Style.LIGHTNING_CLI, prefix):
            if parameter.name not in linked:
                yield parameter
    for home, added, _ in source.calls(".add_argument"):
        flag = home.literal(argument(added, 0, "flag"))
        if not isinstance(flag, str) or not flag.startswith("--"):
            continue
        default = home.literal(keyword(added, "default"))
        kind = home.dotted(keyword(added, "type")).rpartition(".")[2]
        kind = kind if kind in ("int", "float", "bool", "str") else ("str" if default is UNKNOWN else type_of_value(default))
        if flag.lstrip("-") not in linked:
            yield FoundParameter(
                name=flag.lstrip("-"),
                type=kind,
                style=Style.LIGHTNING_CLI,
                passing=Passing(How.OPTION, flag),
                default=None if default is UNKNOWN else default,
                line=added.lineno,
                file=home.file,
            )


def _given_class(arguments: tuple[str, ...], key: str) -> str:
    """The class that the user's own arguments name: `--model models.MLP` or `--model=models.MLP`."""
    for word, following in zip(arguments, (*arguments[1:], ""), strict=False):
        flag, equals, value = word.partition("=")
        if flag in (f"--{key}", f"--{key}.class_path"):
            return value if equals else following
    return ""


def _with_cli_defaults(source: Source, found: list[FoundParameter]) -> list[FoundParameter]:
    defaults: dict[str, Any] = {}
    for module, call, _ in source.calls(".set_defaults"):
        given = module.literal(argument(call, 0, "defaults"))
        if isinstance(given, dict):
            defaults.update(given)
    return [replace(item, default=defaults.get(item.name, item.default)) for item in found]


def find_constructed(source: Source, known: set[str]) -> list[FoundParameter]:
    """Constructor parameters of Lightning modules that the script builds and leaves at a constant.

    What the script passes on from elsewhere (`LitModel(lr=args.lr)`) is not the constructor's to choose; nor is
    what `known` names already.
    """
    found: dict[str, FoundParameter] = {}
    ambiguous: set[str] = set()
    for module, call, class_name in _constructions(source):
        given, everything_given = _given(module, constructor_of(source, class_name), call)
        if everything_given:
            continue
        home, _ = source.classes[class_name]
        for item in constructor_of(source, class_name):
            value = given.get(item.name, item.default)
            if item.name in known or value is UNKNOWN or (not item.has_default and item.name not in given):
                continue
            kind = item.type or type_of_value(value)
            if item.name in found and found[item.name].file + str(found[item.name].line) != home.file + str(item.line):
                ambiguous.add(item.name)
            parameter = next(iter(from_fields(source, home.file, [replace(item, type=kind)], Style.LIGHTNING_MODULE, "", How.INJECT)), None)
            if parameter is None:
                continue
            default = parameter.default if isinstance(value, tuple) else value
            name = item.name if item.name not in ambiguous else f"{class_name}.{item.name}"
            found[name] = replace(parameter, name=name, default=default, passing=Passing(How.INJECT, name), required=False)
    return list(found.values())


def _constructions(source: Source) -> Iterator[tuple[Module, ast.Call, str]]:
    for module in source.modules:
        for call in module.calls():
            name = module.dotted(call.func)
            last = name.rpartition(".")[2]
            if last not in MODULES and source.class_of(name) is not None and source.descends(name, *MODULES):
                yield module, call, last


def _given(module: Module, fields: list[Field], call: ast.Call) -> tuple[dict[str, Any], bool]:
    """Values that a call passes (UNKNOWN: not a constant), and whether it passes all there is (`**config`)."""
    given: dict[str, Any] = {}
    names = [item.name for item in fields]
    for position, node in enumerate(call.args):
        if isinstance(node, ast.Starred):
            return given, True
        if position < len(names):
            given[names[position]] = module.literal(node)
    for item in call.keywords:
        if item.arg is None:
            return given, True
        given[item.arg] = module.literal(item.value)
    return given, False
