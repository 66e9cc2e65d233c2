"""Parameters declared with argparse (and jsonargparse's ArgumentParser): every `add_argument`, here and in local modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import constructor_of, fields_of, is_dataclass, parameters_of, type_of_value
from narf.tuning.discovery.signature_parameters import from_fields
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, keyword

_TYPES = {"float": "float", "int": "int", "bool": "bool", "str": "str"}
_TRUTH_READERS = ("str2bool", "strtobool", "str_to_bool", "string_to_bool", "parse_bool", "boolean", "bool_type", "to_bool", "booltype")
_PARSERS = ("ArgumentParser", "LightningArgumentParser", "OptionParser")


def find_arguments(source: Source, arguments: Sequence[str] = ()) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """The parameters, and the sub-command to give when the script has one and the user names none in `arguments`."""
    if not _makes_a_parser(source):
        return [], ()
    is_json = any(name.startswith("jsonargparse") for module in source.modules for name in module.names.values())
    found: dict[str, FoundParameter] = {}
    groups: dict[tuple[str, str], str] = {}  # of options that exclude each other: the first of each
    commands = _sub_commands(source)
    command = next((word for word in arguments if word in commands), commands[0] if commands else "")
    for module, call, _ in source.calls(".add_argument", ".add_option"):
        if _command_of(module, call) not in ("", command):
            continue
        if is_json and (nested := list(_of_dataclass(source, module, call))):
            found |= {item.name: item for item in nested if item.name not in found}
            continue
        parameter = _read_argument(source, module, call, Style.JSONARGPARSE if is_json else Style.ARGPARSE)
        if parameter is None or parameter.name in found:
            continue
        if group := _exclusive(module, call):
            first = groups.setdefault((module.file, group), parameter.name)
            parameter = parameter if first == parameter.name else replace(parameter, left_alone=excluded_by(first))
        found[parameter.name] = parameter
    if is_json:
        for parameter in _added_classes(source):
            found.setdefault(parameter.name, parameter)
    for module, call, _ in source.calls(".set_defaults"):
        for item in call.keywords:
            value = module.literal(item.value)
            if item.arg in found and value is not UNKNOWN:
                found[item.arg] = replace(found[item.arg], default=value)
    return list(found.values()), commands[:1]


def _makes_a_parser(source: Source) -> bool:
    for module in source.modules:
        for call in module.calls():
            name = module.dotted(call.func)
            if name.rpartition(".")[2] in _PARSERS or source.descends(name, *_PARSERS):
                return True
    return False


def _sub_commands(source: Source) -> tuple[str, ...]:
    """Names of sub-parsers, the one that trains first."""
    names = []
    for module, call, _ in source.calls(".add_parser"):
        name = module.literal(argument(call, 0, "name"))
        if isinstance(name, str):
            names.append(name)
    return tuple(sorted(names, key=lambda name: (name not in ("fit", "train"), names.index(name))))


def _command_of(module: Module, call: ast.Call) -> str:
    """The sub-command whose parser declares this argument; "" for the parser of all."""
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    if not isinstance(receiver, ast.Name):
        return ""
    bound: tuple[int, str] = (0, "")
    for node in module.nodes:  # the last binding before the call: one name may stand for one parser after another
        if not isinstance(node, ast.Assign) or not bound[0] < node.lineno <= call.lineno:
            continue
        if any(isinstance(target, ast.Name) and target.id == receiver.id for target in node.targets):
            made = node.value
            is_command = isinstance(made, ast.Call) and isinstance(made.func, ast.Attribute) and made.func.attr == "add_parser"
            name = module.literal(argument(made, 0, "name")) if is_command and isinstance(made, ast.Call) else ""
            bound = (node.lineno, name if isinstance(name, str) else "")
    return bound[1]


def _exclusive(module: Module, call: ast.Call) -> str:
    """The name of the group of options that exclude each other in which this one is declared."""
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    if not isinstance(receiver, ast.Name):
        return ""
    for node in module.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Attribute):
            is_group = node.value.func.attr == "add_mutually_exclusive_group"
            if is_group and any(isinstance(target, ast.Name) and target.id == receiver.id for target in node.targets):
                return f"{receiver.id} {node.lineno}"
    return ""


def excluded_by(other: str) -> str:
    return f"It cannot be given together with {other}."


def _of_dataclass(source: Source, module: Module, call: ast.Call) -> Iterator[FoundParameter]:
    """jsonargparse: add_argument("--model", type=ModelConfig)."""
    flag = module.literal(argument(call, 0, "flag"))
    target = module.dotted(keyword(call, "type"))
    if isinstance(flag, str) and target and is_dataclass(source, target):
        home, _ = source.classes[target.rpartition(".")[2]]
        yield from from_fields(source, home.file, fields_of(source, target), Style.JSONARGPARSE, name_of(flag) + ".")


def _read_argument(source: Source, module: Module, call: ast.Call, style: Style) -> FoundParameter | None:
    flags = [module.literal(node) for node in call.args]
    flags = [flag for flag in flags if isinstance(flag, str)]
    long = next((flag for flag in flags if flag.startswith("--")), next((flag for flag in flags if flag.startswith("-")), ""))
    if not flags or module.literal(keyword(call, "action")) in ("version", "help", "config"):
        return None
    dest = module.literal(keyword(call, "dest"))
    name = dest if isinstance(dest, str) else (long or flags[0]).lstrip("-").replace("-", "_")
    if not long:  # a positional argument stays the user's to give
        return None if style is Style.JSONARGPARSE else _positional(module, call, name, style)
    default = module.literal(keyword(call, "default"))
    help_text = module.literal(keyword(call, "help"))
    kind, passing, choices = _type_and_passing(source, module, call, long, default)
    if passing.how is How.SWITCH:
        default = not passing.on_value if default is UNKNOWN else default
    return FoundParameter(
        name=name,
        type=kind,
        style=style,
        passing=passing,
        default=None if default is UNKNOWN else default,
        choices=choices,
        help=help_text if isinstance(help_text, str) else "",
        line=call.lineno,
        file=module.file,
        required=module.literal(keyword(call, "required")) is True,
    )


def _positional(module: Module, call: ast.Call, name: str, style: Style) -> FoundParameter:
    """What need not be given and is a number or a choice is put in place; the rest stays the user's to give."""
    declared, default, choices = keyword(call, "type"), module.literal(keyword(call, "default")), module.options(keyword(call, "choices"))
    kind, nargs = _TYPES.get(module.dotted(declared), "str"), keyword(call, "nargs")
    if module.literal(nargs) == "?" and isinstance(default, int | float | str):
        kind = "choice" if isinstance(choices, list) and choices else kind
        passing = Passing(How.INJECT, name)
        options = tuple(choices) if kind == "choice" else ()
        return FoundParameter(
            name=name, type=kind, style=style, passing=passing, default=default, choices=options, line=call.lineno, file=module.file
        )
    return FoundParameter(
        name=name,
        type=kind,
        style=style,
        passing=Passing(How.OPTION, ""),
        line=call.lineno,
        file=module.file,
        required=module.literal(nargs) not in ("?", "*", "...", 0) and not module.dotted(nargs).endswith("REMAINDER"),
        left_alone="A positional argument; give it after --.",
    )


def _type_and_passing(source: Source, module: Module, call: ast.Call, flag: str, default: Any) -> tuple[str, Passing, tuple[Any, ...]]:
    action_node = keyword(call, "action")
    action = module.literal(action_node)
    option = Passing(How.OPTION, flag)
    if action in ("store_true", "store_false"):
        return "bool", Passing(How.SWITCH, flag, on_value=action == "store_true"), ()
    if action_node is not None and module.dotted(action_node).endswith("BooleanOptionalAction"):
        return "bool", Passing(How.ON_OFF, flag, off_flag="--no-" + flag.lstrip("-")), ()
    if action in ("append", "append_const", "extend", "count", "store_const") or module.literal(keyword(call, "nargs")) not in (
        UNKNOWN,
        "?",
        None,
    ):
        return "list", option, ()
    choices = module.options(keyword(call, "choices"))
    declared = keyword(call, "type")
    given = module.literal(declared)  # optparse names types by text
    declared_name = given if isinstance(given, str) else module.dotted(declared).rpartition(".")[2]
    if isinstance(choices, list | dict) and choices:
        return "choice", option, tuple(choices)
    if members := source.enum_choices(declared_name):
        return "choice", option, tuple(value for _, value in members)
    if declared_name == "bool" and keyword(call, "type") is not None:
        is_json = any(name.startswith("jsonargparse") for name in module.names.values())
        return "bool", option if is_json else Passing(How.TRUTHY, flag), ()
    if declared_name.lower() in _TRUTH_READERS:
        return "bool", option, ()
    if declared_name in _TYPES:
        return _TYPES[declared_name], option, ()
    if declared is not None and (last := _declared_number(declared, declared_name)):
        return last, option, ()
    kind = "str" if default in (UNKNOWN, None) else type_of_value(default)
    if declared is None and kind in ("int", "float", "bool"):
        # argparse hands over text where no type is declared, and the script counts on the default's: so put it in place.
        return kind, Passing(How.INJECT, name_of(flag)), ()
    return kind or "str", option, ()


def _declared_number(declared: ast.expr, name: str) -> str:
    """`type=lambda x: int(float(x))`, `type=positive_int`: a number by any other reader."""
    if isinstance(declared, ast.Lambda) and isinstance(declared.body, ast.Call) and isinstance(declared.body.func, ast.Name):
        return _TYPES.get(declared.body.func.id, "")
    words = name.lower().replace("_", " ").split()
    return next((kind for kind in ("int", "float") if any(word.endswith(kind) for word in words)), "")


def name_of(flag: str) -> str:
    return flag.lstrip("-").replace("-", "_")


def _added_classes(source: Source) -> Iterator[FoundParameter]:
    """jsonargparse: add_class_arguments(Class, "model"), add_dataclass_arguments, add_function_arguments."""
    linked = link_targets(source)
    for module, call, method in source.calls(
        ".add_class_arguments", ".add_dataclass_arguments", ".add_function_arguments", ".add_lightning_class_args"
    ):
        target = module.dotted(argument(call, 0, "theclass"))
        given = module.literal(argument(call, 1, "nested_key"))
        key = given + "." if isinstance(given, str) and given else ""
        if method == "add_function_arguments":
            known = source.defined.get(target)
            fields = list(parameters_of(source, known[0], known[1])) if known else []
        else:
            fields = constructor_of(source, target)
        for parameter in from_fields(source, module.file, fields, Style.JSONARGPARSE, key):
            if parameter.name not in linked:
                yield parameter


def link_targets(source: Source) -> set[str]:
    """Targets of link_arguments: their values come from elsewhere."""
    found = set()
    for module, call, _ in source.calls(".link_arguments"):
        target = module.literal(argument(call, 1, "target"))
        if isinstance(target, str):
            found.add(target)
    return found
