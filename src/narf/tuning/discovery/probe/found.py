"""What the probe has found, written down as it is found: the time limit may end the process at any moment."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import contextlib
import enum
import json
import os
import sys
import typing

# parameters: what is declared. prefix: the sub-command that declares it, where none was given. later: names that a first reading of the
# command line did not know. held: [path, class, value] of what configurations hold where training begins. words: keys of tables of functions.
# options: [name, words, whether there may be none] of what models of scikit-learn take as text. made: classes of the script's own of which there
# are objects. imported: files of modules. environment: variables that the script's own code asked for.
FOUND: dict[str, typing.Any] = {
    "parameters": [],
    "prefix": [],
    "later": [],
    "metrics": [],
    "modules": {},
    "files": [],
    "excluded": {},
    "limits": [],
    "held": [],
    "words": [],
    "options": [],
    "imported": [],
    "environment": {},
    "made": [],
    "stopped": "",
    "problem": "",
}
FILES = []  # options that name a configuration file, which may say more than the options do
CONFIGURATION = (".yaml", ".yml", ".json", ".toml", ".ini", ".cfg", ".conf")
_TYPES = {float: "float", int: "int", bool: "bool", str: "str"}
_result = ""
_ALWAYS = ("seed", "verbose", "debug", "quiet", "epochs", "num_workers", "workers", "gpus", "device", "random_state")


def begin(result):
    """Write to this file."""
    global _result
    _result = result


def save():
    """Write down what is known so far: the time limit may end the process at any moment."""
    with open(_result + ".new", "w") as file:
        json.dump(FOUND, file, default=str)
    os.replace(_result + ".new", _result)


def stop(where):
    from narf.tuning.discovery.probe.folder import tell_modules

    FOUND["stopped"] = where
    tell_modules()
    save()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(0)


def add(name, type_name, default, choices, help_text, style, how, flag, off="", on_value=True, required=False, least=None, most=None):
    if isinstance(default, enum.Enum):
        default = default.name
    if default is not None and not isinstance(default, (int, float, str, bool, list)):
        default = None
    FOUND["parameters"][:] = [item for item in FOUND["parameters"] if (item["name"], item["style"]) != (name, style)]  # declared anew
    FOUND["parameters"].append(
        {
            "name": name, "type": type_name, "default": default, "choices": [getattr(c, "value", c) if not isinstance(c, (int, float, str)) else c for c in choices],
            "help": "" if help_text in (None, "==SUPPRESS==") else str(help_text), "style": style,
            "passing": {"how": how, "flag": name if how == "inject" else flag, "off_flag": off or "", "on_value": on_value}, "required": required, "least": least, "most": most,
        }
    )  # fmt: skip


def tells_all():
    """Whether what was declared so far is what the script takes: something to tune, and no configuration file that says more."""
    declared = FOUND["parameters"]
    files = [item for item in declared if str(item["default"] or item["name"]).lower().endswith((*CONFIGURATION, "config", "cfg"))]
    return (
        not files
        and not FILES
        and any(item["type"] in ("int", "float", "bool", "choice") and item["name"] not in _ALWAYS for item in declared)
    )


def type_of(hint, default):
    """(type, choices) of a type, a callable or a type hint."""
    if hint in _TYPES:
        return _TYPES[hint], []
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return "choice", list(typing.get_args(hint))
    if origin is not None:
        inner = [item for item in typing.get_args(hint) if item is not type(None)]
        if (len(inner) == 1 and str(origin).endswith("Union'>")) or (len(inner) == 1 and origin is typing.Union):
            return type_of(inner[0], default)
        if set(inner) == {int, float}:
            return "float", []
        plain = [item for item in inner if item in _TYPES]
        if len(plain) == 1 and str(origin).endswith(("Union", "UnionType'>")):  # a number or a tensor
            return _TYPES[plain[0]], []
        return "list", []
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "choice", [member.name for member in hint]
    for base, name in ((bool, "bool"), (int, "int"), (float, "float")):
        if (
            (isinstance(hint, type) and issubclass(hint, base))
            or (hint is not None and isinstance(default, base))
            or (hint is None and isinstance(default, base))
        ):
            return name, []
    return "str", []
