"""Parameters of click options and of Typer commands, with the sub-command they belong to."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import Field, parameters_of, type_of_value
from narf.tuning.discovery.signature_parameters import from_field
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, assigned, keyword

_CLICK_TYPES = {
    "float": "float",
    "int": "int",
    "bool": "bool",
    "str": "str",
    "FLOAT": "float",
    "INT": "int",
    "BOOL": "bool",
    "STRING": "str",
}
_FIRST = ("train", "fit", "main", "run")


def find_click(source: Source, arguments: tuple[str, ...]) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """Options of the command that trains; the sub-command to give if the user names none."""
    commands: dict[str, list[FoundParameter]] = {}
    groups: dict[str, tuple[str, ...]] = {}
    for module in source.modules:
        if "click" not in {name.partition(".")[0] for name in module.names.values()}:
            continue
        for function in module.functions():
            given, group = _command(module, function)
            if given:
                commands[given] = [
                    found
                    for decorator in function.decorator_list
                    for home, call in _options(source, module, decorator)
                    if (found := _read_option(home, call)) is not None
                ]
                if group is not None:
                    groups[given] = _path(module, group)
    return _chosen(commands, groups, arguments)


def _options(source: Source, module: Module, decorator: ast.expr) -> Iterator[tuple[Module, ast.Call]]:
    """The `click.option(...)` that a decorator is, or that a decorator of the script's own applies: in its body, or from a list."""
    if _is_option(module, decorator):
        assert isinstance(decorator, ast.Call)
        yield module, decorator
        return
    known = source.defined.get(module.dotted(decorator.func if isinstance(decorator, ast.Call) else decorator).rpartition(".")[2])
    places: list[tuple[Module, ast.AST]] = [(module, decorator)] if isinstance(decorator, ast.Call) else []
    if known is not None:
        places.append(known)
    for home, place in places:
        for node in ast.walk(place):
            if _is_option(home, node):
                assert isinstance(node, ast.Call)
                yield home, node
            elif isinstance(node, ast.Name):
                yield from ((home, call) for call in _listed(home, node.id))


def _listed(module: Module, name: str) -> Iterator[ast.Call]:
    """The options in `NAME = [click.option(...), ...]` at module level."""
    for statement in module.tree.body:
        bound, value = assigned(statement)
        if bound == name and isinstance(value, ast.List | ast.Tuple):
            yield from (node for node in value.elts if isinstance(node, ast.Call) and _is_option(module, node))


def _is_option(module: Module, node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and module.dotted(node.func).rpartition(".")[2] == "option"


def _path(module: Module, group: str) -> tuple[str, ...]:
    """The groups to name before a command of `group`: those that belong to another one."""
    for function in module.functions():
        for decorator in function.decorator_list if function.name == group else ():
            target = decorator.func if isinstance(decorator, ast.Call) else decorator
            if isinstance(target, ast.Attribute) and target.attr == "group" and isinstance(target.value, ast.Name):
                above = target.value.id
                if above == group or not module.dotted(target) or module.dotted(target).startswith("click"):
                    return ()
                given = module.literal(argument(decorator, 0, "name")) if isinstance(decorator, ast.Call) else UNKNOWN
                return (*_path(module, above), given if isinstance(given, str) else function.name.replace("_", "-"))
    return ()


def _command(module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> tuple[str, str | None]:
    """(name, the group it belongs to) of a click command; ("", None) for anything else."""
    for decorator in function.decorator_list:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        if not isinstance(target, ast.Attribute | ast.Name) or module.dotted(target).rpartition(".")[2] != "command":
            continue
        given = module.literal(argument(decorator, 0, "name")) if isinstance(decorator, ast.Call) else UNKNOWN
        name = given if isinstance(given, str) else function.name.replace("_", "-")
        is_grouped = not module.dotted(target).startswith("click")
        return name, module.dotted(target).rpartition(".")[0] if is_grouped else None
    return "", None


def _read_option(module: Module, call: ast.Call) -> FoundParameter | None:
    declarations = [text for node in call.args if isinstance(text := module.literal(node), str)]
    flags = [text for text in declarations if text.startswith("-")]
    long = next((flag for flag in flags if flag.startswith("--")), flags[0] if flags else "")
    if not long:
        return None
    on, _, off = long.partition("/")
    plain = next((text for text in declarations if not text.startswith("-")), on.strip().lstrip("-").replace("-", "_").lower())
    default = module.literal(keyword(call, "default"))
    kind, choices, least, most = _click_type(module, keyword(call, "type"), default)
    passing = Passing(How.OPTION, on.strip())
    if off:
        kind, passing = "bool", Passing(How.ON_OFF, on.strip(), off_flag=off.strip())
    elif module.literal(keyword(call, "is_flag")) is True:
        kind, passing = "bool", Passing(How.SWITCH, on.strip(), on_value=default is not True)
    if module.literal(keyword(call, "multiple")) is True or isinstance(module.literal(keyword(call, "nargs")), int):
        kind = "list"
    help_text = module.literal(keyword(call, "help"))
    return FoundParameter(
        name=plain,
        type=kind,
        style=Style.CLICK,
        passing=passing,
        default=(False if passing.how is not How.OPTION and kind == "bool" else None) if default is UNKNOWN else default,
        choices=choices,
        help=help_text if isinstance(help_text, str) else "",
        least=least,
        most=most,
        line=call.lineno,
        file=module.file,
        required=module.literal(keyword(call, "required")) is True,
    )


def _click_type(module: Module, node: ast.expr | None, default: Any) -> tuple[str, tuple[Any, ...], float | None, float | None]:
    if isinstance(node, ast.Call):
        last = module.dotted(node.func).rpartition(".")[2]
        if last == "Choice":
            choices = module.literal(argument(node, 0, "choices"))
            return "choice", tuple(choices) if isinstance(choices, list) else (), None, None
        if last in ("FloatRange", "IntRange"):
            least, most = (module.literal(argument(node, index, name)) for index, name in ((0, "min"), (1, "max")))
            return (
                "float" if last == "FloatRange" else "int",
                (),
                least if isinstance(least, int | float) else None,
                most if isinstance(most, int | float) else None,
            )
        return "str", (), None, None
    last = module.dotted(node).rpartition(".")[2]
    if last in _CLICK_TYPES:
        return _CLICK_TYPES[last], (), None, None
    return ("str" if default in (UNKNOWN, None) else type_of_value(default) or "str"), (), None, None


def find_typer(source: Source, arguments: tuple[str, ...]) -> tuple[list[FoundParameter], tuple[str, ...]]:
    commands: dict[str, list[FoundParameter]] = {}
    count, has_callback = 0, False
    for module in source.modules:
        if "typer" not in {name.partition(".")[0] for name in module.names.values()}:
            continue
        for function in module.functions():
            for decorator in function.decorator_list:
                target = decorator.func if isinstance(decorator, ast.Call) else decorator
                last = target.attr if isinstance(target, ast.Attribute) else ""
                has_callback = has_callback or last == "callback"
                if last == "command":
                    count += 1
                    given = module.literal(argument(decorator, 0, "name")) if isinstance(decorator, ast.Call) else UNKNOWN
                    name = given if isinstance(given, str) else function.name.replace("_", "-")
                    commands[name] = _typer_parameters(source, module, function)
        for call in module.calls():
            if module.dotted(call.func) == "typer.run" and (known := source.defined.get(module.dotted(argument(call, 0, "function")))):
                return _typer_parameters(source, *known), ()
    return _chosen(commands, dict.fromkeys(commands, ()) if count > 1 or has_callback else {}, arguments)


def _typer_parameters(source: Source, module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[FoundParameter]:
    found = []
    for item in parameters_of(source, module, function):
        call = _typer_call(module, item)
        default_node = item.default_node
        if call is not None and default_node is call:
            default_node = argument(call, 0, "default")
        is_argument = call is not None and module.dotted(call.func).endswith("Argument")
        required = default_node is None or (isinstance(default_node, ast.Constant) and default_node.value is Ellipsis)
        value: Any = UNKNOWN if required else module.literal(default_node)
        if item.type == "choice" and isinstance(default_node, ast.Attribute):
            value = next((member for member in item.choices if member[0] == default_node.attr), UNKNOWN)
        kind = item.type or (type_of_value(value) if value is not UNKNOWN else "")
        parameter = from_field(replace(item, type=kind, default=value, has_default=not required), module.file, Style.TYPER)
        if call is not None:
            parameter = _with_typer_option(module, call, parameter)
        if is_argument or (call is None and required):
            parameter = replace(parameter, left_alone="A positional argument; give it after --.")
        found.append(parameter)
    return found


def _typer_call(module: Module, item: Field) -> ast.Call | None:
    """The `typer.Option(...)` or `typer.Argument(...)` of a parameter, as its default or inside Annotated."""
    nodes: list[ast.expr | None] = [item.default_node]
    if isinstance(item.annotation, ast.Subscript) and module.dotted(item.annotation).endswith("Annotated"):
        nodes += item.annotation.slice.elts if isinstance(item.annotation.slice, ast.Tuple) else []
    for node in nodes:
        if isinstance(node, ast.Call) and module.dotted(node.func).rpartition(".")[2] in ("Option", "Argument"):
            return node
    return None


def _with_typer_option(module: Module, call: ast.Call, parameter: FoundParameter) -> FoundParameter:
    literals = [text for node in call.args if isinstance(text := module.literal(node), str) and text.startswith("-")]
    long = next((text for text in literals if text.startswith("--")), literals[0] if literals else "")
    passing = parameter.passing
    if long:
        on, _, off = long.partition("/")
        passing = Passing(How.OPTION, on.strip())
        if parameter.type == "bool":
            passing = Passing(How.ON_OFF, on.strip(), off_flag=off.strip()) if off else Passing(How.SWITCH, on.strip())
    least, most = (module.literal(keyword(call, name)) for name in ("min", "max"))
    help_text = module.literal(keyword(call, "help"))
    return replace(
        parameter,
        passing=passing,
        least=least if isinstance(least, int | float) else None,
        most=most if isinstance(most, int | float) else None,
        help=help_text if isinstance(help_text, str) else parameter.help,
    )


def _chosen(
    commands: dict[str, list[FoundParameter]], groups: Mapping[str, tuple[str, ...]], arguments: tuple[str, ...]
) -> tuple[list[FoundParameter], tuple[str, ...]]:
    """The parameters of the command that the user named, else of the one that trains, with its name if one must be given."""
    if not commands:
        return [], ()
    named = next((word for word in arguments if word in commands), None)
    if named is not None:
        return commands[named], ()
    likely = [name for name in _FIRST if name in commands]
    name = likely[0] if likely else max(commands, key=lambda name: len(commands[name]))
    return commands[name], (*groups[name], name) if name in groups else ()
