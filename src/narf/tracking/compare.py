"""What differs between runs: code, parameters, environment, data, metrics. A pure function of what was recorded."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

SECTIONS = ("code", "params", "environment", "data", "metrics")
_CODE = ("mlflow.source.", "git.", "command", "narf.code.", "narf.snapshot", "narf.arguments")
_ENVIRONMENT = ("python.", "os", "machine.", "gpu.", "seed")
_DATA = ("narf.data",)
_WATCHED = "system/"  # the load of the machine over time says nothing about the result


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is compared of one run. `datasets` maps a name (with its context) to what identifies the version; `code` and
    `environment` are what is known of these besides tags."""

    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    code: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """By section: name -> the values in the order of the runs, None where a run has none; and how many were the same."""

    different: Mapping[str, Mapping[str, tuple[Any, ...]]]
    same: Mapping[str, int]


def compare(runs: Sequence[Recorded]) -> Differences:
    different: dict[str, dict[str, tuple[Any, ...]]] = {}
    same: dict[str, int] = {}
    for section in SECTIONS:
        columns = [_section(section, run) for run in runs]
        different[section], same[section] = {}, 0
        for name in sorted({name for column in columns for name in column}):
            values = tuple(column.get(name) for column in columns)
            if all(_alike(values[0], value) for value in values[1:]):
                same[section] += 1
            else:
                different[section][name] = values
    return Differences(different=different, same=same)


def _section(section: str, run: Recorded) -> Mapping[str, Any]:
    if section == "params":
        return run.params
    if section == "metrics":
        return {key: value for key, value in run.metrics.items() if not key.startswith(_WATCHED)}
    if section == "data":
        return {**_tags(run, _DATA), **run.datasets}
    if section == "code":
        return {**_tags(run, _CODE), **run.code}
    return {**_tags(run, _ENVIRONMENT), **run.environment}


def _tags(run: Recorded, prefixes: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, value in run.tags.items() if key.startswith(prefixes)}


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    return bool(one == other)
