"""Values for configuration files and the environment: a file that the script opens to read shows the values of its trial in place of its own.

`NARF_PARAMS` names such a place `FILE:KEY`: `conf/train.yaml:optimizer.lr`, FILE relative to the folder of the script. The file itself
stays as it is: what is opened is a copy. `environment:NAME` is a variable of the environment,
`environment:NAME:WORD` one whose word for true is WORD: 1, yes, on.
"""

from __future__ import annotations

import ast
import builtins
import functools
import io
import json
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

from narf.training import parameters
from narf.training.hooks import guarded
from narf.training.places import places, worked_out

SUFFIXES = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf", ".py")
_ENVIRONMENT = "environment:"
_original_open: Any = io.open
_room: Any = None


def install() -> None:
    """Replace `open` where a trial has values for files; elsewhere nothing changes."""
    global _original_open
    for name in parameters.values():
        if name.startswith(_ENVIRONMENT):
            variable, _, word = name[len(_ENVIRONMENT) :].partition(":")
            value = parameters.placed(name, None, shown=variable)
            os.environ[variable] = _truth(value, word or "true") if isinstance(value, bool) else str(value)
    wanted = by_file(parameters.values(), os.path.dirname(os.path.realpath(sys.argv[0] or ".")))
    if not wanted:
        return
    _original_open = io.open
    copies: dict[str, str] = {}

    @functools.wraps(io.open)
    def opened(file: Any, mode: str = "r", *arguments: Any, **named: Any) -> Any:
        if isinstance(file, (str, bytes, os.PathLike)) and not set(mode) & set("wax+"):
            path = os.path.realpath(os.fsdecode(file))
            if path in wanted:
                if path not in copies:
                    copies[path] = _copy(path, wanted[path]) or path
                file = copies[path]
        return _original_open(file, mode, *arguments, **named)

    def opened_code(path: str) -> Any:
        return opened(path, "rb") if os.path.realpath(path) in wanted else original_code(path)

    original_code = io.open_code
    builtins.open = io.open = opened
    io.open_code = sys.modules["_io"].open_code = opened_code  # type: ignore[attr-defined] # what runs a file reads it with that


def by_file(values: Mapping[str, Any], folder: str) -> dict[str, dict[str, str]]:
    """The full path of each file that values are for, with key -> name of the value."""
    found: dict[str, dict[str, str]] = {}
    for name in values:
        file, colon, key = name.partition(":")
        if colon and key and file.lower().endswith(SUFFIXES):
            found.setdefault(os.path.realpath(os.path.join(folder, file)), {})[key] = name
    return found


@guarded("opened")
def _copy(path: str, names: Mapping[str, str]) -> str:
    """Write the file with its values into a temporary folder; where."""
    global _room
    with _original_open(path, encoding="utf-8") as file:
        text = file.read()
    change = {".json": _json, ".toml": _toml, ".yaml": _yaml, ".yml": _yaml, ".py": _python}.get(os.path.splitext(path)[1].lower(), _ini)
    changed = change(text, names)
    if _room is None:
        _room = tempfile.TemporaryDirectory(prefix="narf-values-")
    where = os.path.join(_room.name, f"{abs(hash(path)):x}")
    os.makedirs(where, exist_ok=True)
    copy = os.path.join(where, os.path.basename(path))
    with _original_open(copy, "w", encoding="utf-8") as file:
        file.write(changed)
    return copy


def _placed(name: str, original: Any) -> Any:
    """The value of `name`, as what it replaces; recorded under its key."""
    return parameters.placed(name, original, shown=name.partition(":")[2])


def _change(body: Any, names: Mapping[str, str]) -> Any:
    """Put the values into nested mappings, where their keys are."""
    for key, name in names.items():
        place, rest = body, key
        while isinstance(place, dict):
            if rest in place:
                place[rest] = _placed(name, place[rest])
                break
            head, dot, rest = rest.partition(".")
            if not dot:
                break
            place = place.get(head)
    return body


def _json(text: str, names: Mapping[str, str]) -> str:
    return json.dumps(_change(json.loads(text), names), indent=2)


def _yaml(text: str, names: Mapping[str, str]) -> str:
    import importlib

    yaml = importlib.import_module("yaml")  # the script that reads YAML has it
    changed: str = yaml.safe_dump(_change(yaml.safe_load(text), names), sort_keys=False, allow_unicode=True)
    return changed


def _toml(text: str, names: Mapping[str, str]) -> str:
    """There is no writer of TOML in Python's library: the lines are changed in place."""
    import importlib
    import importlib.util

    tomllib: Any = importlib.import_module("tomllib" if importlib.util.find_spec("tomllib") else "tomli")
    values: dict[str, Any] = {}
    body = tomllib.loads(text)
    for key, name in names.items():
        place = body
        for part in key.split(".")[:-1]:
            place = place.get(part, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict) and key.rpartition(".")[2] in place:
            values[key] = (name, place[key.rpartition(".")[2]])
    section, lines = "", []
    for line in text.splitlines():
        header = re.match(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(#.*)?$", line)
        entry = re.match(r"(\s*)([\w.\"'-]+)(\s*=\s*)(?:\"[^\"]*\"|'[^']*'|[^#\"'\[{]*?)(\s*(?:#.*)?)$", line)
        if header:
            section = ".".join(part.strip().strip("\"'") for part in header[1].split(".")) + "."
        elif entry and (key := section + entry[2].strip("\"'")) in values:
            name, original = values[key]
            line = f"{entry[1]}{entry[2]}{entry[3]}{json.dumps(_placed(name, original))}{entry[4]}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def _python(text: str, names: Mapping[str, str]) -> str:
    """A file that is run, not imported: the constants are changed where they stand."""
    lines = text.encode().split(b"\n")
    found = [place for place in places(ast.parse(text)) if place.names[0] in names]
    for place in sorted(found, key=lambda place: (place.value.lineno, place.value.col_offset), reverse=True):
        value = _placed(names[place.names[0]], worked_out(place.value)[0])
        first, last = place.value.lineno - 1, (place.value.end_lineno or place.value.lineno) - 1
        after = lines[last][place.value.end_col_offset or 0 :]
        lines[first : last + 1] = [lines[first][: place.value.col_offset] + repr(value).encode() + after]
    return b"\n".join(lines).decode()


_TRUTHS = {"true": "false", "1": "0", "yes": "no", "on": "off"}


def _ini(text: str, names: Mapping[str, str]) -> str:
    """The lines are changed in place; a truth is written in the words of the one before: yes or no, on or off."""
    section, lines = "", []
    for line in text.splitlines():
        header = re.match(r"\s*\[([^\]]+)\]", line)
        entry = re.match(r"([^#;=:\s][^=:]*?)(\s*[=:]\s*)(.*?)\s*$", line)
        if header:
            section = header[1]
        elif entry and (name := names.get(f"{section}.{entry[1]}")) is not None:
            value = _placed(name, number_or_text(entry[3]))
            if isinstance(value, bool):
                value = _truth(value, entry[3])
            line = f"{entry[1]}{entry[2]}{value!r}" if isinstance(value, float) else f"{entry[1]}{entry[2]}{value}"
        lines.append(line)
    return "\n".join(lines) + "\n"


def number_or_text(text: str) -> Any:
    """A text of a file or a variable as the number that it looks like, else as it is."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _truth(value: bool, original: str) -> str:
    for yes, no in _TRUTHS.items():
        if original.lower() in (yes, no):
            word = yes if value else no
            return word.capitalize() if original[:1].isupper() else word
    return str(value)
