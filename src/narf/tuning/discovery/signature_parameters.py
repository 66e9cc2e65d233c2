"""Fields of signatures and dataclasses as parameters on a command line, nested ones with dotted names."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.signature import Field, constructor_of, is_dataclass
from narf.tuning.discovery.source import UNKNOWN, Source


def from_fields(
    source: Source, file: str, fields: Iterable[Field], style: Style, prefix: str = "", how: How = How.OPTION, depth: int = 4
) -> Iterator[FoundParameter]:
    """Each field as `--<prefix><name>`; a field that is a dataclass gives its own fields, below its name."""
    for item in fields:
        if item.type == "class":
            if depth and is_dataclass(source, item.class_name):
                inner = _as_made(source, item, constructor_of(source, item.class_name))
                yield from from_fields(source, file, inner, style, f"{prefix}{item.name}.", how, depth - 1)
            continue
        yield from_field(item, file, style, prefix, how)


def _as_made(source: Source, item: Field, fields: list[Field]) -> list[Field]:
    """The fields of a nested dataclass with what its default gives them: `Tower(dropout=0.3)`."""
    made = item.default_node
    if not isinstance(made, ast.Call) or source.main.dotted(made.func).rpartition(".")[2] != item.class_name:
        return fields
    given = {field.name: node for field, node in zip(fields, made.args, strict=False)} | {word.arg: word.value for word in made.keywords}
    values = {name: value for name, node in given.items() if (value := source.main.literal(node)) is not UNKNOWN}
    return [replace(field, default=values[field.name], has_default=True) if field.name in values else field for field in fields]


def from_field(item: Field, file: str, style: Style, prefix: str = "", how: How = How.OPTION) -> FoundParameter:
    """One field as a parameter. Members of an Enum are given by name where jsonargparse or Hydra reads them, by value to Typer."""
    name = prefix + item.name
    choices: tuple[Any, ...] = item.choices
    default: Any = None if item.default is UNKNOWN else item.default
    if item.type == "choice" and item.class_name:
        index = 1 if style is Style.TYPER else 0
        choices = tuple(member[index] for member in item.choices)
        default = default[index] if isinstance(default, tuple) else default
    kind = item.type or ("str" if default is None else "")
    return FoundParameter(
        name=name,
        type=kind or "str",
        style=style,
        passing=passing_for(name, kind, style, how),
        default=default,
        choices=choices,
        help=item.help,
        least=item.least,
        most=item.most,
        line=item.line,
        file=file,
        required=not item.has_default,
    )


def passing_for(name: str, kind: str, style: Style, how: How) -> Passing:
    if how is How.OVERRIDE:
        return Passing(How.OVERRIDE, name)
    if how is How.INJECT:
        return Passing(How.INJECT, name)
    flag = "--" + (name.replace("_", "-") if style in (Style.TYPER, Style.CLICK) else name)
    if kind == "bool" and style in (Style.TYPER, Style.CLICK):
        return Passing(How.ON_OFF, flag, off_flag="--no-" + flag[2:])
    return Passing(How.OPTION, flag)
