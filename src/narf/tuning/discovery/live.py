"""What a dry run saw in objects where training began, laid beside what was read: it confirms, fills in, adds and drops.

Only what has a place is added: a value that a trial could not deliver is no parameter, whatever object holds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from narf.training.places import Place, places
from narf.tuning.discovery.constants import is_named_settings, sounds_like_settings
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.propose import last_of, sounds_like_a_setting
from narf.tuning.discovery.signature import type_of_value
from narf.tuning.discovery.source import Module, Source

Held = tuple[str, str, Any]  # path, class of the object, value
_BUILT = (Style.DATACLASS, Style.LIGHTNING_MODULE)
_STATED = ("table", "field", "attribute")


def with_held(source: Source, parameters: Sequence[FoundParameter], held: Iterable[Held]) -> list[FoundParameter]:
    """The parameters, confirmed where an object holds their value, with the defaults that reading did not work out, and those that only
    an object shows: a record that some factory made, a table that was merged."""
    leaves = [(path, kind, value) for path, kind, value in held]
    by_name: dict[str, list[Any]] = {}
    for path, _, value in leaves:
        by_name.setdefault(last_of(path), []).append(value)
    changed = [_with_value(item, by_name.get(last_of(item.name), [])) for item in parameters]
    known = {last_of(item.name).lower() for item in changed}
    return changed + [item for item in _only_held(source, leaves) if last_of(item.name).lower() not in known]


def in_effect(parameters: Sequence[FoundParameter], held: Iterable[Held]) -> list[FoundParameter]:
    """Of an entry that several files have, the one whose value some object holds, if that is only one: the others are overwritten."""
    leaves = [(path, value) for path, _, value in held]

    def key(item: FoundParameter) -> str:
        return item.passing.flag.rpartition(":")[2]

    def is_held(item: FoundParameter) -> bool:
        return any(path.endswith(f".{key(item)}") and value == item.default for path, value in leaves)

    result = []
    for item in parameters:
        same = [other for other in parameters if other.style is Style.CONFIG_FILE and key(other) == key(item)]
        if item.style is Style.CONFIG_FILE and len(same) > 1 and len([other for other in same if is_held(other)]) == 1:
            if not is_held(item):
                continue
            item = replace(item, name=key(item))
        result.append(item)
    return result


def _with_value(item: FoundParameter, values: list[Any]) -> FoundParameter:
    if any(type(value) is type(item.default) and value == item.default for value in values):
        return replace(item, confirmed=True)
    numbers = {value for value in values if isinstance(value, int | float)}
    if item.default is None and len(numbers) == 1:
        return replace(item, default=numbers.pop(), proposal=None, confirmed=True)
    return item


def _only_held(source: Source, leaves: list[Held]) -> list[FoundParameter]:
    standing: dict[str, list[tuple[Module, Place, Any]]] = {}
    for module in source.modules:
        for place in places(module.tree):
            if place.kind != "argument":
                standing.setdefault(last_of(place.names[0]), []).append((module, place, module.literal(place.value)))
    groups: dict[str, list[Held]] = {}
    for leaf in leaves:
        groups.setdefault(leaf[0].rpartition(".")[0], []).append(leaf)
    found: dict[str, FoundParameter] = {}
    for path, group in groups.items():
        values = [(last_of(name), value) for name, _, value in group]
        is_settings = any(is_named_settings(part) for part in (*path.split("."), group[0][1])) or sounds_like_settings(values)
        for name, kind, value in group:
            fitting = [each for each in standing.get(last_of(name), ()) if type(each[2]) is type(value) and each[2] == value]
            fitting = [each for each in fitting if _owner(each[1]) in (kind, path.rpartition(".")[2])] or fitting
            names = {each[1].names[0] for each in fitting}
            if len(names) == 1 and (is_settings or sounds_like_a_setting(name)):
                module, place, _ = fitting[0]
                style = Style.TABLE if is_settings and place.kind in _STATED else Style.CONSTANT
                found.setdefault(place.names[0], _parameter(module, place, value, style))
    return list(found.values())


def _owner(place: Place) -> str:
    return place.names[0].rpartition(".")[0].rpartition(".")[2]


def _parameter(module: Module, place: Place, value: Any, style: Style) -> FoundParameter:
    name = place.names[0]
    return FoundParameter(
        name=name,
        type=type_of_value(value),
        style=style,
        passing=Passing(How.INJECT, name),
        default=value,
        line=getattr(place.value, "lineno", 0),
        file=module.file,
        confirmed=True,
    )


def with_words(parameters: Iterable[FoundParameter], words: Sequence[Sequence[str]]) -> list[FoundParameter]:
    """A text that is a key of a table of functions or classes, however that was filled: its keys are what is chosen from."""
    result = []
    for item in parameters:
        if item.type == "str" and isinstance(item.default, str) and not item.choices:
            fitting = {tuple(keys) for keys in words if item.default in keys}
            if len(fitting) == 1:
                item = replace(item, type="choice", choices=fitting.pop(), proposal=None, left_alone="")
        result.append(item)
    return result


def without_unmade(parameters: Iterable[FoundParameter], source: Source, made: Sequence[str]) -> list[FoundParameter]:
    """Without fields and arguments of the script's own classes of which no object was there, if of others there was one."""
    lines = {
        (module.file, name): range(node.lineno, (node.end_lineno or node.lineno) + 1) for name, (module, node) in source.classes.items()
    }

    def owner(item: FoundParameter) -> str:
        around = [(len(span), name) for (file, name), span in lines.items() if file == item.file and item.line in span]
        return min(around)[1] if around else ""

    built = [item for item in parameters if item.style in _BUILT]
    absent = {id(item) for item in built if owner(item) and owner(item) not in made}
    return [item for item in parameters if id(item) not in absent or len(absent) == len(built)]
