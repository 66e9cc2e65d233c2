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
    records: list[tuple[str, FoundParameter, bool]] = []  # (class or path to it, parameter, written at the call)
    for class_name, given, path in _built(source, from_files):
        home, _ = source.classes[class_name]
        for item in fields_of(source, class_name):
            value = given.get(item.name, item.default)
            if item.name in known or value is UNKNOWN or item.type == "class":
                continue
            parameter = next(iter(from_fields(source, home.file, [item], Style.DATACLASS, "", How.INJECT)), None)
            if parameter is not None:
                default = parameter.default if isinstance(value, tuple) else value
                records.append((path or class_name, replace(parameter, default=default, required=False), item.name in given))
    owners: dict[str, set[str]] = {}
    for owner, parameter, _ in records:
        owners.setdefault(parameter.name, set()).add(owner)
    found: dict[str, FoundParameter] = {}
    for owner, parameter, is_given in records:
        place = f"{owner}.{parameter.name}"
        name = place.partition(".")[2] if "." in owner else place if len(owners[parameter.name]) > 1 else parameter.name
        # What is written at the call outweighs the class, and a name that two classes have needs its class.
        flag = place if is_given or "." in owner or len(owners[parameter.name]) > 1 else parameter.name
        found.setdefault(name, replace(parameter, name=name, passing=Passing(How.INJECT, flag)))
    return list(found.values())


def _built(source: Source, from_files: bool) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(dataclass, arguments it is built with, path to it) for each that the script builds, nested ones through their defaults.

    The path is "" where the class says enough, and `Settings.treatment` where that is one of several of its class.
    """
    seen: set[str] = set()
    for module, call in _calls_in_order(source):
        name = module.dotted(call.func)
        if name == "cls":  # a constructor of the class's own: `def load(cls, path): return cls(**yaml.safe_load(...))`
            name = _class_around(module, call)
        has_more = any(item.arg is None for item in call.keywords)
        last = name.rpartition(".")[2]
        if not name or last in seen or not is_dataclass(source, name) or (has_more and not from_files and not _reads_its_own_words(module)):
            continue
        seen.add(last)
        given = _arguments(source, module, last, call)
        yield last, given, ""
        nested = list(_nested(source, last, last, set(given)))
        for class_name, inner, path in nested:
            is_one_of_several = bool(inner) or sum(other == class_name for other, _, _ in nested) > 1
            if is_one_of_several or class_name not in seen:
                seen.add(class_name)
                yield class_name, inner, path if is_one_of_several else ""


def _reads_its_own_words(module: Module) -> bool:
    """`cls(**parsed(sys.argv))`: what nobody gives stays at its default."""
    return any(isinstance(node, ast.Attribute) and node.attr == "argv" for node in module.nodes)


def _calls_in_order(source: Source) -> list[tuple[Module, ast.Call]]:
    """All calls; those in defaults of dataclasses last, which count only where nothing builds the class around them."""
    in_defaults = {
        inner
        for _, node in source.classes.values()
        if is_dataclass(source, node.name)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign)
        for inner in ast.walk(statement)
    }
    return sorted(((module, call) for module in source.modules for call in module.calls()), key=lambda pair: pair[1] in in_defaults)


def _arguments(source: Source, module: Module, class_name: str, call: ast.Call) -> dict[str, Any]:
    names = [item.name for item in fields_of(source, class_name)]
    given = {names[i]: module.literal(node) for i, node in enumerate(call.args) if i < len(names)}
    return given | {item.arg: module.literal(item.value) for item in call.keywords if item.arg}


def _class_around(module: Module, call: ast.Call) -> str:
    for node in module.nodes:
        if isinstance(node, ast.ClassDef) and node.lineno <= call.lineno <= (node.end_lineno or node.lineno):
            return node.name
    return ""


def _nested(
    source: Source, class_name: str, path: str, given: Collection[str] = (), depth: int = 4
) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Dataclasses that are fields of one, with what their default gives them: `Learner(alpha=2.0)`."""
    for item in fields_of(source, class_name):
        if item.type != "class" or item.name in given or not depth or not is_dataclass(source, item.class_name):
            continue
        home, _ = source.classes[item.class_name]
        made = item.default_node
        is_made_here = isinstance(made, ast.Call) and home.dotted(made.func).rpartition(".")[2] == item.class_name
        inner = _arguments(source, home, item.class_name, made) if is_made_here and isinstance(made, ast.Call) else {}
        yield item.class_name, inner, f"{path}.{item.name}"
        yield from _nested(source, item.class_name, f"{path}.{item.name}", set(inner), depth - 1)
