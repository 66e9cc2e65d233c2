"""From a trial's values to what its script is given: arguments, and values that the hooks put in place."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from narf.tuning.discovery.found import How, Passing
from narf.tuning.space import Value

Bindings = Mapping[str, Passing]


def bind(bindings: Bindings, values: Mapping[str, Value]) -> tuple[list[str], dict[str, Value]]:
    """(arguments, values to inject) for one trial. A value without a binding is injected under its own name."""
    arguments: list[str] = []
    injected: dict[str, Value] = {}
    for name, value in values.items():
        passing = bindings.get(name, Passing(How.INJECT, name))
        if passing.how is How.INJECT:
            injected[passing.flag or name] = value
        else:
            arguments += _arguments(passing, value)
    return arguments, injected


def command_line(script: str, arguments: Sequence[str], bindings: Bindings, values: Mapping[str, Value]) -> str:
    """The exact command that repeats a trial, ready for a shell."""
    own, injected = bind(bindings, values)
    parts = ["narf", "run"]
    if injected:
        parts += ["--env", "NARF_PARAMS=" + json.dumps(injected)]
    parts.append(script)
    if arguments or own:
        parts += ["--", *arguments, *own]
    return shlex.join(parts)


def text(value: Value) -> str:
    """A value as text on a command line; floats keep all their digits."""
    if isinstance(value, float):
        return repr(value)
    return "null" if value is None else str(value)


def _arguments(passing: Passing, value: Value) -> list[str]:
    match passing.how:
        case How.SWITCH:
            return [passing.flag] if bool(value) == passing.on_value else []
        case How.ON_OFF:
            return [passing.flag if value else passing.off_flag]
        case How.TRUTHY:
            return [f"{passing.flag}=1" if value else f"{passing.flag}="]
        case How.OVERRIDE:
            return [f"{passing.flag}={_override_text(value)}"]
    if not passing.flag.startswith("--"):
        return [passing.flag, text(value)]
    return [f"{passing.flag}={text(value)}"]


def _override_text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not all(letter.isalnum() or letter in "_-./" for letter in value):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return text(value)


def read_bindings(form: Mapping[str, Any]) -> dict[str, Passing]:
    from narf.tuning.discovery.found import read_passing

    return {name: read_passing(item) for name, item in form.items()}
