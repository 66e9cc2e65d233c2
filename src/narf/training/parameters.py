"""Parameters that a study or `--set` puts into an unchanged script, and where they go in.

`NARF_PARAMS` is a JSON object of name to value. A name finds its place in, all that match: arguments of argparse, click, typer and
Hydra (see `hooks.arguments`); module-level constants and entries of tables of settings there (`config.lr`), constructor arguments of Lightning modules, and dataclass fields of the
script and the modules beside it, which are compiled with the value in place; `FILE:KEY` is a place in a configuration file that the script opens (see `opened`). What found no place is said at the end of the run.
"""

from __future__ import annotations

import ast
import functools
import json
import os
from collections.abc import Mapping
from types import CodeType
from typing import Any

from narf.training.places import is_record, name_of, places, worked_out

# What a trial ends with of which nothing arrived; the names and what to do follow. The platform knows it by this (`tuning.outcome`).
NOTHING_ARRIVED = "narf: none of the values of this trial found a place in the script: "

_values: dict[str, Any] | None = None
_used: set[str] = set()


def values() -> dict[str, Any]:
    """The values to put in; empty in a run that is not tuned."""
    global _values
    if _values is None:
        text = os.environ.get("NARF_PARAMS", "")
        try:
            read = json.loads(text) if text else {}
        except ValueError as error:
            raise ValueError(f"NARF_PARAMS is not JSON: {error}") from None
        if not isinstance(read, dict):
            raise ValueError("NARF_PARAMS must be a JSON object of names to values")
        _values = read
    return _values


def used(name: str) -> Any:
    """The value of `name`, which has found its place. Whoever uses it records it."""
    _used.add(name)
    return values()[name]


def placed(name: str, original: Any, *, shown: str = "") -> Any:
    """The value of `name`, as what it replaces; recorded, under the name `shown` where it is another."""
    value = like(used(name), original)
    from narf.training import recorder as recorders

    recorder = recorders.current()
    if recorder is not None:
        recorder.param(shown or name, value)
    return value


def nested(places: Mapping[str, str]) -> Any:
    """A class decorator: objects of the class are given, once they are made, the values of the names at the paths below them."""

    def decorate(cls: Any) -> Any:
        original = cls.__init__

        @functools.wraps(original)
        def init(self: Any, *arguments: Any, **named: Any) -> None:
            original(self, *arguments, **named)
            for path, name in places.items():
                *parents, last = path.split(".")
                place = self
                for parent in parents:
                    place = getattr(place, parent, None)
                if place is not None and hasattr(place, last):
                    object.__setattr__(place, last, placed(name, getattr(place, last), shown=path))  # also where it is frozen

        cls.__init__ = init
        return cls

    return decorate


def unused() -> list[str]:
    """Names that found no place so far."""
    return sorted(set(values()) - _used)


def nothing_arrived() -> str:
    """A sentence if this is a trial whose every value was to be put into the script, and none found its place; "" elsewhere.

    `NARF_PARAMS_ARE_ALL` says that nothing of the trial was passed as an argument: all trials would be the same.
    """
    if not os.environ.get("NARF_PARAMS_ARE_ALL") or os.environ.get("RANK", "0") != "0" or os.environ.get("LOCAL_RANK", "0") != "0":
        return ""
    if not values() or _used:
        return ""
    return f"{NOTHING_ARRIVED}{', '.join(values())}. See what can be searched (narf tune SCRIPT --discover), and name that."


def forget() -> None:
    """Read `NARF_PARAMS` anew: for a process that is forked for each trial."""
    global _values
    _values = None
    _used.clear()


def like(value: Any, original: Any) -> Any:
    """`value` in the type of what it replaces, where that loses nothing: 64.0 is 64 where a whole number was, 1 is 1.0 for a float."""
    if isinstance(original, bool) or isinstance(value, bool) or original is None:
        return value
    if isinstance(original, int) and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(original, float) and isinstance(value, int):
        return float(value)
    return value


def compile_script(source: bytes, filename: str) -> CodeType:
    """The code of a script or of a module beside it, with the values in place. Without values: exactly Python's own."""
    found = values()
    if not found:
        return compile(source, filename, "exec", dont_inherit=True)
    tree = ast.parse(source, filename)
    for place in list(places(tree)):
        name = next((name for name in place.names if name in found), None)
        if name is not None:
            place.put(_expression(placed(name, worked_out(place.value)[0]), place.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            if is_record(node):
                _decorate(node, found)
            if any(name_of(base).endswith("Module") for base in node.bases):
                _construct(node, found)
    return compile(ast.fix_missing_locations(tree), filename, "exec", dont_inherit=True)


def _decorate(node: ast.ClassDef, found: Mapping[str, Any]) -> None:
    """`Settings.treatment.alpha` finds its place in each `Settings` when it is made, below its field `treatment`."""
    start = f"{node.name}."
    below = {name[len(start) :]: name for name in found if name.startswith(start) and name.count(".") > 1 and name not in _used}
    if below:
        text = f"__import__({__name__!r}, fromlist=['nested']).nested({below!r})"
        decorator = ast.parse(text, mode="eval").body
        for inner in ast.walk(decorator):
            ast.copy_location(inner, node)
        node.decorator_list.insert(0, decorator)


def _construct(node: ast.ClassDef, found: Mapping[str, Any]) -> None:
    """Assign the value first thing in the body of a Lightning module's constructor, so that it holds however that is called."""
    for function in node.body:
        if not isinstance(function, ast.FunctionDef) or function.name != "__init__":
            continue
        arguments = function.args
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = dict(zip([argument.arg for argument in reversed(positional)], reversed(arguments.defaults)))
        defaults.update({a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults) if d is not None})
        inserted: list[ast.stmt] = []
        for argument in [*positional[1:], *arguments.kwonlyargs]:
            if argument.arg in found:
                original = worked_out(defaults[argument.arg])[0] if argument.arg in defaults else None
                target = ast.Name(id=argument.arg, ctx=ast.Store())
                value = _expression(placed(argument.arg, original), function)
                inserted.append(ast.copy_location(ast.Assign(targets=[target], value=value), function.body[0]))
        start = 1 if ast.get_docstring(function) is not None else 0
        function.body[start:start] = inserted


def _expression(value: Any, at: ast.AST) -> ast.expr:
    """`value` as code. Infinity and NaN have no literal."""
    text = f"float({str(value)!r})" if isinstance(value, float) and value - value != 0.0 else repr(value)
    expression = ast.parse(text, mode="eval").body
    for node in ast.walk(expression):
        ast.copy_location(node, at)
    return expression
