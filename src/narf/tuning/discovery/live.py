"""What a dry run saw in objects where training began, laid beside what was read: it confirms, fills in, adds and drops.

Only what has a place is added: a value that a trial could not deliver is no parameter, whatever object holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from narf.training.opened import number_or_text
from narf.training.places import Place, places
from narf.tuning.discovery.constants import is_named_settings, sounds_like_settings
from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.names import last_of, sounds_like_a_setting
from narf.tuning.discovery.signature import fields_of, is_dataclass, type_of_value
from narf.tuning.discovery.signature_parameters import from_fields
from narf.tuning.discovery.source import Module, Source
from narf.tuning.space import Condition

Held = tuple[str, str, Any]  # path, class of the object, value
_MOST_CHOICES = 3  # each takes a dry run
_WEAKER = (Style.DATACLASS, Style.TABLE, Style.CONSTANT)
_NOT_THE_MODELS = ("solver", "algorithm", "svd_solver", "output_distribution", "strategy", "handle_unknown")
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
    """Of an entry that several files or tables have, those whose value some other object holds, if one does: the rest is overwritten, or
    stands in a preset that is not chosen."""
    names = {item.name for item in parameters}
    leaves = [(path, value) for path, _, value in held if path not in names]

    def key(item: FoundParameter) -> str:
        if item.style is Style.CONFIG_FILE:
            return item.passing.flag.rpartition(":")[2]
        return ".".join(item.name.split(".")[-2:]) if item.style is Style.TABLE else ""

    def is_held(item: FoundParameter) -> bool:
        return any(f".{path}".endswith(f".{key(item)}") and value == item.default for path, value in leaves)

    shared: dict[tuple[Style, str], list[FoundParameter]] = {}
    for item in parameters:
        shared.setdefault((item.style, key(item)), []).append(item)
    result = []
    for item in parameters:
        same = shared[item.style, key(item)] if key(item) else []
        if len(same) > 1 and any(is_held(other) for other in same):
            if not is_held(item):
                continue
            if item.style is Style.CONFIG_FILE and sum(is_held(other) for other in same) == 1:
                item = replace(item, name=key(item))
        result.append(item)
    return result


_TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


def with_environment(source: Source, parameters: Sequence[FoundParameter], environment: Mapping[str, str | None]) -> list[FoundParameter]:
    """The parameters, and the variables that the script's own code asked for by names that it puts together. A variable has the type, the
    ends and the choices of the field that it is called like, `RISK_MAX_DEPTH` of `max_depth`, and outweighs it."""
    result = list(parameters)
    records = [name for name in source.classes if is_dataclass(source, name)] if environment else []
    known = [item for name in records for item in from_fields(source, "", fields_of(source, name), Style.DATACLASS, how=How.INJECT)]
    for name, text in environment.items():
        if any(item.name == name for item in result):
            continue
        weaker = (*(item for item in result if item.style in _WEAKER), *known)
        fields = [item for item in weaker if f"_{name}".lower().endswith(f"_{last_of(item.name).lower()}")]
        field = max(fields, key=lambda item: len(last_of(item.name)), default=None)
        value = _read(text)
        if field is not None and (text is not None or field.default is not None):
            if field.type == "float" and type(value) is int:
                value = float(value)
            default = field.default if value is None else value
            item = replace(field, name=name, style=Style.ENVIRONMENT, default=default, proposal=None, left_alone="", confirmed=True)
            result = [other for other in result if last_of(other.name) != last_of(field.name) or other.style not in _WEAKER]
        elif isinstance(value, bool | int | float) and sounds_like_a_setting(name):
            item = FoundParameter(
                name=name, type=type_of_value(value), style=Style.ENVIRONMENT, passing=Passing(How.INJECT), default=value, confirmed=True
            )
        else:
            continue
        word = text.lower() if text and text.lower() in ("1", "yes", "on") and item.type == "bool" else ""
        result.append(replace(item, passing=Passing(How.INJECT, f"environment:{name}" + (f":{word}" if word else ""))))
    return result


def _read(text: str | None) -> Any:
    """A variable as what it looks like: a truth, a number, or the text itself."""
    if text is None or text.lower() in _TRUTHS:
        return _TRUTHS.get((text or "").lower())
    return number_or_text(text)


def _with_value(item: FoundParameter, values: list[Any]) -> FoundParameter:
    if any(type(value) is type(item.default) and value == item.default for value in values):
        return replace(item, confirmed=True)
    numbers = {value for value in values if isinstance(value, int | float)}
    if item.default is None and len(numbers) == 1:
        return replace(item, default=numbers.pop(), proposal=None, confirmed=True)
    return item


def _only_held(source: Source, leaves: list[Held]) -> list[FoundParameter]:
    kinds = {kind for _, kind, _ in leaves}
    standing: dict[str, list[tuple[Module, Place, Any]]] = {}
    for module in source.modules:
        for place in places(module.tree):
            if place.kind != "argument" or place.names[0].partition(".")[0] in kinds:
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
            is_given = bool(fitting) and fitting[0][1].kind in ("default", "argument") and _owner(fitting[0][1]) == kind
            is_state = bool(fitting) and fitting[0][1].kind == "attribute" and not is_named_settings(kind)
            if len(names) == 1 and ((is_settings and not is_state) or is_given or sounds_like_a_setting(name)):
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


def with_conditions(
    parameters: Sequence[FoundParameter], later: Sequence[str], declared: Callable[[str], set[str]]
) -> tuple[FoundParameter, ...]:
    """What is declared when something was chosen, `--lambda_gp` after `--model=wgangp`, is searched with that choice only.

    later: what a first reading of the command line did not know yet. declared: what is there with one more word.
    """
    changed = {item.name: item for item in parameters}
    choices = [item for item in parameters if item.type == "choice" and item.proposal is not None and item.name not in later]
    for choice in [item for item in choices if item.passing.how is How.OPTION][:_MOST_CHOICES]:
        other = next((value for value in choice.choices if value != choice.default), None)
        there = declared(f"{choice.passing.flag}={other}") if other is not None else set()
        default = choice.default
        for name in later if there and isinstance(default, str) else ():
            item = changed.get(name)
            if name not in there and item is not None and item.proposal is not None:
                condition = Condition(choice.name, (str(default),))
                changed[name] = replace(item, proposal=replace(item.proposal, when=(*item.proposal.when, condition)))
    return tuple(changed.values())


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


def with_options(parameters: Iterable[FoundParameter], options: Sequence[tuple[str, Sequence[str], bool]]) -> list[FoundParameter]:
    """A text that is called like an argument of a model of scikit-learn and is one of its words: those are what is chosen from."""
    result = []
    for item in parameters:
        last = last_of(item.name).lower()
        if item.type == "str" and isinstance(item.default, str) and not item.choices and last not in _NOT_THE_MODELS:
            can_be_none = item.passing.how is How.INJECT and ":" not in item.passing.flag
            fitting: set[tuple[str | None, ...]] = {
                (*words, *((None,) if may_be_none and can_be_none else ()))
                for name, words, may_be_none in options
                if f"_{last}".endswith(f"_{name}") and item.default in words
            }
            if len(fitting) == 1 and len(choices := fitting.pop()) > 1:
                item = replace(item, type="choice", choices=choices, proposal=None, left_alone="")
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
