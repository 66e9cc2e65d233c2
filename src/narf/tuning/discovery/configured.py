"""Parameters of programs configured by a signature or dataclass: jsonargparse.CLI, tyro, HfArgumentParser, fire, plain dataclasses."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import constructor_of, fields_of, is_dataclass, parameters_of
from narf.tuning.discovery.signature_parameters import from_fields
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, keyword

_JSONARGPARSE = ("jsonargparse.CLI", "jsonargparse.auto_cli", "jsonargparse.capture_parser")
_DATACLASS_PARSERS = ("HfArgumentParser", "parse_args_into_dataclasses")


def find_signature_cli(source: Source, arguments: tuple[str, ...]) -> list[FoundParameter]:
    """Parameters of the function or class that jsonargparse.CLI, fire.Fire, tyro.cli and the like run."""
    found: list[FoundParameter] = []
    for module in source.modules:
        for call in module.calls():
            name = module.dotted(call.func)
            if name in _JSONARGPARSE:
                found += _of_components(source, module, call, Style.JSONARGPARSE)
            elif name in (
                "fire.Fire",
                "tyro.cli",
                "tyro.extras.subcommand_cli_from_dict",
                "simple_parsing.parse",
                "pyrallis.parse",
                "draccus.parse",
            ):
                found += _dashed(_of_components(source, module, call, Style.DATACLASS), name.startswith("tyro"))
            elif name.rpartition(".")[2] == "HfArgumentParser":
                found += _of_components(source, module, call, Style.DATACLASS)
        for call in module.calls():  # simple_parsing: parser.add_arguments(Config, dest="config")
            if isinstance(call.func, ast.Attribute) and call.func.attr == "add_arguments":
                target = module.dotted(argument(call, 0, "dataclass"))
                if is_dataclass(source, target):
                    found += from_fields(
                        source, source.classes[target.rpartition(".")[2]][0].file, fields_of(source, target), Style.DATACLASS
                    )
    return found


def _of_components(source: Source, module: Module, call: ast.Call, style: Style) -> list[FoundParameter]:
    nodes: list[ast.expr] = list(call.args[:1])
    for word in ("components", "config_class"):
        given = keyword(call, word)
        if given is not None:
            nodes.append(given)
    if nodes and isinstance(nodes[0], ast.Tuple | ast.List):
        nodes = list(nodes[0].elts)
    found: list[FoundParameter] = []
    if not nodes:  # CLI() takes what the module defines
        own = [statement for statement in module.tree.body if isinstance(statement, ast.FunctionDef)]
        if len(own) == 1:
            found += from_fields(source, module.file, parameters_of(source, module, own[0]), style)
    for node in nodes:
        name = module.dotted(node)
        if name in source.defined:
            home, function = source.defined[name]
            found += from_fields(source, home.file, parameters_of(source, home, function), style)
        elif source.class_of(name) is not None:
            home, _ = source.classes[name.rpartition(".")[2]]
            found += from_fields(source, home.file, constructor_of(source, name), style)
    return [
        replace(item, left_alone="A positional argument; give it after --.")
        if item.required and style is Style.JSONARGPARSE and "." not in item.name
        else item
        for item in found
    ]


def _dashed(found: list[FoundParameter], is_tyro: bool) -> list[FoundParameter]:
    if not is_tyro:
        return found
    result = []
    for item in found:
        flag = item.passing.flag.replace("_", "-")
        passing = Passing(How.OPTION, flag)
        if item.type == "bool":
            head, _, last = flag[2:].rpartition(".")
            passing = Passing(How.ON_OFF, flag, off_flag=f"--{head + '.' if head else ''}no-{last}")
        result.append(replace(item, passing=passing))
    return result


def find_dataclasses(source: Source, known: set[str], *, from_files: bool = False) -> list[FoundParameter]:
    """Fields of dataclasses that the script builds with their defaults, `Config()`: values are put in place by the hooks.

    from_files: configuration files are known, so that `Config(**read)` leaves the rest at its defaults.
    """
    found: dict[str, FoundParameter] = {}
    for class_name, given in _built(source, from_files):
        home, _ = source.classes[class_name]
        for item in fields_of(source, class_name):
            value = given.get(item.name, item.default)
            if item.name in known or value is UNKNOWN or item.type == "class":
                continue
            parameter = next(iter(from_fields(source, home.file, [item], Style.DATACLASS, "", How.INJECT)), None)
            if parameter is None:
                continue
            name = item.name
            if name in found and (found[name].file, found[name].line) != (home.file, item.line):
                name = f"{class_name}.{item.name}"
            default = parameter.default if isinstance(value, tuple) else value
            place = f"{class_name}.{item.name}" if item.name in given else name  # written at the call, which outweighs the class
            found[name] = replace(parameter, name=name, default=default, passing=Passing(How.INJECT, place), required=False)
    return list(found.values())


def _built(source: Source, from_files: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """(dataclass, arguments it is built with) for each that the script builds, nested ones through their defaults."""
    seen: set[str] = set()
    for module in source.modules:
        for call in module.calls():
            name = module.dotted(call.func)
            if name == "cls":  # a constructor of the class's own: `def load(cls, path): return cls(**yaml.safe_load(...))`
                name = _class_around(module, call)
            has_more = any(item.arg is None for item in call.keywords)
            if not name or not is_dataclass(source, name) or (has_more and not from_files):
                continue
            last = name.rpartition(".")[2]
            names = [item.name for item in fields_of(source, last)]
            given = {names[i]: module.literal(node) for i, node in enumerate(call.args) if i < len(names)}
            given |= {item.arg: module.literal(item.value) for item in call.keywords if item.arg}
            if last not in seen:
                seen.add(last)
                yield last, given
            yield from _nested(source, last, seen, set(given))


def _class_around(module: Module, call: ast.Call) -> str:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef) and node.lineno <= call.lineno <= (node.end_lineno or node.lineno):
            return node.name
    return ""


def _nested(source: Source, class_name: str, seen: set[str], given: Collection[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    for item in fields_of(source, class_name):
        is_nested = item.type == "class" and item.name not in given and item.class_name not in seen
        if is_nested and is_dataclass(source, item.class_name):
            seen.add(item.class_name)
            yield item.class_name, {}
            yield from _nested(source, item.class_name, seen)
