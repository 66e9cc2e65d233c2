"""What discovery finds: parameters, metrics, and how a value reaches the script."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from narf.tuning.space import Parameter, Value


class Style(StrEnum):
    """Where a parameter was found, most explicit first."""

    ARGPARSE = "argparse"
    CLICK = "click"
    TYPER = "typer"
    ABSL = "absl"
    LIGHTNING_CLI = "lightning_cli"
    JSONARGPARSE = "jsonargparse"
    HYDRA = "hydra"
    OMEGACONF = "omegaconf"
    CONFIG_FILE = "config_file"
    ENVIRONMENT = "environment"
    DATACLASS = "dataclass"
    LIGHTNING_MODULE = "lightning_module"
    TABLE = "table"  # a dict, a namespace or a class of settings
    CONSTANT = "constant"


class How(StrEnum):
    """The way a value reaches the script."""

    OPTION = "option"  # --lr=0.1
    SWITCH = "switch"  # --nesterov, or nothing
    ON_OFF = "on_off"  # --nesterov or --no-nesterov
    TRUTHY = "truthy"  # --flag=1 or --flag= (argparse's type=bool, for which the text "False" is true)
    OVERRIDE = "override"  # optimizer.lr=0.1
    INJECT = "inject"  # no argument: put in place by the hooks


@dataclass(frozen=True, slots=True)
class Passing:
    """`flag`: the option or key; `off_flag`: what says no (ON_OFF); `on_value`: the value that a SWITCH stands for."""

    how: How
    flag: str = ""
    off_flag: str = ""
    on_value: bool = True

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"how": self.how.value, "flag": self.flag}
        if self.how is How.ON_OFF:
            body["off_flag"] = self.off_flag
        if self.how is How.SWITCH:
            body["on_value"] = self.on_value
        return body


def read_passing(form: dict[str, Any]) -> Passing:
    return Passing(How(form["how"]), form.get("flag", ""), form.get("off_flag", ""), form.get("on_value", True))


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundParameter:
    """One parameter of a script. `proposal` is None where `left_alone` says why it is not searched."""

    name: str
    type: str  # float, int, bool, choice, str or list
    style: Style
    passing: Passing
    default: Value | list[Any] = None
    choices: tuple[Value, ...] = ()
    help: str = ""
    least: float | None = None  # ends that the script itself enforces
    most: float | None = None
    line: int = 0
    file: str = ""
    required: bool = False
    confirmed: bool = False  # seen by the dry run too
    proposal: Parameter | None = None
    left_alone: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "type": self.type,
            "default": None
            if isinstance(self.default, float) and not math.isfinite(self.default)
            else self.default,  # JSON has no infinity
            "choices": list(self.choices),
            "help": self.help,
            "style": self.style.value,
            "passing": self.passing.to_json(),
            "file": self.file,
            "line": self.line,
            "required": self.required,
            "confirmed": self.confirmed,
            "proposal": None if self.proposal is None else self.proposal.to_json(),
            "range": None if self.proposal is None else self.proposal.to_text(),
            "left_alone": self.left_alone,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundMetric:
    """A metric that the script will report. `direction` is "minimize", "maximize" or "" where the name does not tell."""

    name: str
    direction: str = ""
    monitored: bool = False
    line: int = 0
    confirmed: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "direction": self.direction or None,
            "monitored": self.monitored,
            "line": self.line,
            "confirmed": self.confirmed,
        }


_OPEN = (
    "The script declares more by code that reading does not follow; starting it up to where it trains tells it: narf tune SCRIPT --discover"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Discovery:
    """All that was found, metrics with the likeliest objective first.

    prefix: arguments that must come first (a sub-command), unless the user gives arguments of their own. is_open: the script declares
    more than reading could follow, which a dry run would tell.
    """

    script: str
    parameters: tuple[FoundParameter, ...] = ()
    metrics: tuple[FoundMetric, ...] = ()
    prefix: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_open: bool = False

    @property
    def tunable(self) -> tuple[FoundParameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.proposal is not None)

    @property
    def remarks(self) -> tuple[str, ...]:
        """The notes, and that there is more to find where there is."""
        return (*self.notes, _OPEN) if self.is_open else self.notes

    def with_notes(self, *notes: str) -> Discovery:
        return replace(self, notes=(*self.notes, *notes))

    def to_json(self) -> dict[str, Any]:
        return {
            "script": self.script,
            "parameters": [parameter.to_json() for parameter in self.parameters],
            "tunable": [parameter.name for parameter in self.tunable],
            "metrics": [metric.to_json() for metric in self.metrics],
            "prefix": list(self.prefix),
            "notes": list(self.remarks),
            "is_open": self.is_open,
        }
