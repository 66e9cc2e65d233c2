"""Parameters declared as flags of absl: `flags.DEFINE_float("lr", 1e-3, "...")`."""

from __future__ import annotations

import ast

from narf.tuning.discovery.found import FoundParameter, How, Passing, Style
from narf.tuning.discovery.source import UNKNOWN, Module, Source, argument, keyword

_KINDS = {
    "DEFINE_float": "float",
    "DEFINE_integer": "int",
    "DEFINE_bool": "bool",
    "DEFINE_boolean": "bool",
    "DEFINE_enum": "choice",
    "DEFINE_string": "str",
}


def find_absl(source: Source) -> list[FoundParameter]:
    """Every flag that the script and its modules define."""
    found = []
    for module in source.modules:
        for call in module.calls():
            package, _, last = module.dotted(call.func).rpartition(".")
            if package == "absl.flags" and last in _KINDS and (flag := _read(module, call, _KINDS[last])) is not None:
                found.append(flag)
    return found


def _read(module: Module, call: ast.Call, kind: str) -> FoundParameter | None:
    name, default = module.literal(argument(call, 0, "name")), module.literal(argument(call, 1, "default"))
    if not isinstance(name, str):
        return None
    choices = module.literal(argument(call, 2, "enum_values")) if kind == "choice" else ()
    text = module.literal(argument(call, 3 if kind == "choice" else 2, "help"))
    least, most = (module.literal(keyword(call, word)) for word in ("lower_bound", "upper_bound"))
    switch = Passing(How.ON_OFF, f"--{name}", off_flag=f"--no{name}")
    return FoundParameter(
        name=name,
        type=kind,
        style=Style.ABSL,
        passing=switch if kind == "bool" else Passing(How.OPTION, f"--{name}"),
        default=None if default is UNKNOWN else default,
        choices=tuple(choices) if isinstance(choices, list | tuple) else (),
        help=text if isinstance(text, str) else "",
        least=least if isinstance(least, int | float) else None,
        most=most if isinstance(most, int | float) else None,
        line=call.lineno,
        file=module.file,
    )
