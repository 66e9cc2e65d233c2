"""Tables of settings that are made inside of functions and classes, or key by key, and defaults of what a table is asked for.

def get_config(): config = ConfigDict(); config.lr = 0.1; return config        get_config.config.lr
class Config: def __init__(self): self.lr = 0.1                                  Config.lr
class Config: class optim: lr = 0.1                                              Config.optim.lr
options.get("lr", 0.1)                                                           options.lr
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from narf.training.places import Place, path_of, places
from narf.tuning.discovery.constants import handed_on, is_named_settings, sounds_like_settings
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.names import sounds_like_a_setting
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Module, Source, Unknown


def find_inside(source: Source) -> list[FoundParameter]:
    """Tables by what they are called, how they are used, or how their numbers are called."""
    used = handed_on(source)
    found: dict[str, FoundParameter] = {}
    for module in source.modules:
        tables = _tables(source, module)
        roots: dict[str, list[tuple[str, Any]]] = {}  # what all tables below one name hold
        for table, leaves in tables.items():
            roots.setdefault(_root(source, table), []).extend((key, value) for key, value, _ in leaves)
        for table, leaves in tables.items():
            parts = table.split(".")
            if parts[-1] in used or any(is_named_settings(part) for part in parts) or sounds_like_settings(roots[_root(source, table)]):
                for key, value, place in leaves:
                    _add(found, module, place, f"{table}.{key}", value)
    return list(found.values())


def find_asked(source: Source) -> list[FoundParameter]:
    """What a table is asked for with a default that sounds like a setting: the table need not say it."""
    found: dict[str, FoundParameter] = {}
    for module in source.modules:
        for place in places(module.tree):
            if place.kind == "asked" and sounds_like_a_setting(place.names[0]):
                _add(found, module, place, place.names[0], module.literal(place.value))
    return list(found.values())


def _tables(source: Source, module: Module) -> dict[str, list[tuple[str, Any, Place]]]:
    """Table -> (key, value, place) of each constant in it, without those that another statement replaces."""
    replaced = set(_replaced(module))
    found: dict[str, list[tuple[str, Any, Place]]] = {}
    for place in places(module.tree):
        table, _, key = place.names[0].rpartition(".")
        is_inside = place.kind == "table" or (place.kind == "attribute" and _is_plain(source, table))
        if "model_config" in place.names[0].split("."):
            continue  # how pydantic reads a record
        if isinstance(place.value, ast.Name):
            continue  # what it names says it
        if is_inside and not key.startswith("_") and ".".join(place.names[0].split(".")[-2:]) not in replaced:
            found.setdefault(table, []).append((key, module.literal(place.value), place))
    return found


def _root(source: Source, table: str) -> str:
    """`config` of `config.model.head`; `main.config` where that is inside of a function."""
    parts = table.split(".")
    is_inside = parts[0] in source.defined or parts[0] in source.classes
    return ".".join(parts[: 2 if is_inside else 1])


def _is_plain(source: Source, name: str) -> bool:
    """A class that holds values and does nothing: no module of torch, no object that changes its attributes."""
    known = source.class_of(name)
    methods = [item for item in known[1].body if isinstance(item, ast.FunctionDef)] if known else []
    if any(not item.name.startswith("__") and not item.decorator_list for item in methods):
        return False
    return not source.descends(name.rpartition(".")[2], "Module", "LightningModule", "LightningDataModule", "Enum", "StrEnum", "IntEnum")


def _replaced(module: Module) -> Iterator[str]:
    """`config.lr` after `config.lr = args.lr`: what comes from elsewhere is not the table's to say."""
    for node in (node for node in module.nodes if isinstance(node, ast.Assign)):
        for target in node.targets:
            if (path := path_of(target)) and "." in path and isinstance(module.literal(node.value), Unknown):
                yield ".".join(path.split(".")[-2:])


def _add(found: dict[str, FoundParameter], module: Module, place: Place, name: str, value: Any) -> None:
    kind = "" if isinstance(value, Unknown) or value is None else type_of_value(value)
    if kind in ("int", "float", "bool", "str"):
        passing, line = Passing(How.INJECT, name), getattr(place.value, "lineno", 0)
        found.setdefault(
            name, FoundParameter(name=name, type=kind, style=Style.TABLE, passing=passing, default=value, line=line, file=module.file)
        )
