"""What a search is asked to be, in the words that the command line, narf.toml and `narf.tune` share, and its HTTP body."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from narf.client.amounts import parse_size, parse_time
from narf.client.project_file import read_requirements, read_table
from narf.domain.errors import BadInput

LISTS = ("skip", "initial", "warm_from", "data", "arguments")
_TABLES = ("space", "sampler_options", "pruner_options")
_NUMBERS = ("gpu_hours", "least_gain", "gpu", "cpu")
_WHOLE = ("trials", "parallel", "seed", "priority")
_AMOUNTS = ("time", "trial_time_limit", "memory")  # text such as 90m or 4Gi; a plain number is seconds or bytes
_TEXTS = ("project", "name", "metric", "direction", "value_from", "sampler", "pruner", "engine", "experiment", "flavor", "requirements")
_TRUTHS = ("only",)
# Fields of a study that only Python and HTTP have a word for.
FIELDS = ("resources", "environment", "secrets", "bindings", "budget", "only_space", "go_on", "trial_time_limit_seconds")
SETTINGS = (*LISTS, *_TABLES, *_NUMBERS, *_WHOLE, *_AMOUNTS, *_TEXTS, *_TRUTHS)


def read_settings(folder: Path) -> dict[str, Any]:
    """[tune] of the narf.toml beside the code; empty without one.

    Raises:
        BadInput: it is not TOML, names something unknown, or a setting is of another kind.
    """
    table = read_table(folder, "tune", SETTINGS)
    for name, value in table.items():
        _check_kind(name, value)
    return table


def _check_kind(name: str, value: Any) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    kinds = (
        (LISTS, isinstance(value, list), "a list"),
        (_TABLES, isinstance(value, dict) or (name == "space" and isinstance(value, list)), "a table"),
        (_NUMBERS, is_number, "a number"),
        (_WHOLE, is_number and isinstance(value, int), "a whole number"),
        (_AMOUNTS, is_number or isinstance(value, str), 'a text such as "90m" or "4Gi"'),
        (_TEXTS, isinstance(value, str), "a text"),
        (_TRUTHS, isinstance(value, bool), "true or false"),
    )
    for names, is_right, meant in kinds:
        if name in names and not is_right:
            raise BadInput(
                f"narf.toml says {name} = {str(value)[:60]!r} under [tune]; it is {meant}.", remedy="Correct it.", field=f"tune.{name}"
            )


def check_words(words: Iterable[str]) -> None:
    """Whether each is a word of narf.toml or a field of a study.

    Raises:
        BadInput: one is neither; it says what is near.
    """
    for word in words:
        if word not in SETTINGS and word not in FIELDS:
            near = get_close_matches(word, (*SETTINGS, *FIELDS, "wait", "connection", "seconds"), n=1)
            remedy = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(sorted((*SETTINGS, *FIELDS)))}."
            raise BadInput(f"A study has no {word[:60]!r}.", remedy=remedy, field=word[:60])


def over(settings: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` with what is asked for in their place; of ranges, those that are named."""
    merged = {**settings, **asked}
    if isinstance(settings.get("space"), dict) and isinstance(asked.get("space"), dict):
        merged["space"] = {**settings["space"], **asked["space"]}
    return merged


def study_body(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The HTTP body of a study. `folder`: what the path of a requirements file is relative to.

    Raises:
        BadInput: an amount cannot be read, there is no such requirements file, or only what is named is to be searched and nothing is.
    """
    if settings.get("only") and not settings.get("space"):
        raise BadInput(
            "Only what is named is to be searched, and nothing is named.", remedy="Give a range: --param lr='1e-4..0.1 log'", field="space"
        )
    budget = budget_of(
        trials=settings.get("trials"),
        seconds=_seconds(settings.get("time"), "time"),
        gpu_hours=settings.get("gpu_hours"),
        least_gain=settings.get("least_gain"),
    )
    resources: dict[str, Any] = {name: settings[name] for name in ("gpu", "cpu", "flavor") if name in settings}
    if settings.get("memory"):
        resources["memory_bytes"] = parse_size(str(settings["memory"]))
    body = {
        "space": settings.get("space", {}),
        "only_space": bool(settings.get("only", False)),
        "budget": budget,
        "resources": resources,
        "trial_time_limit_seconds": _seconds(settings.get("trial_time_limit"), "trial_time_limit"),
        "requirements": read_requirements(folder / settings["requirements"]) if settings.get("requirements") else "",
    }
    same = ("name", "metric", "direction", "value_from", "parallel", "sampler", "sampler_options", "pruner", "pruner_options", "seed")
    more = ("engine", "skip", "initial", "warm_from", "experiment", "data", "priority", "arguments")
    body |= {key: settings[key] for key in (*same, *more) if key in settings}
    return {key: value for key, value in body.items() if value is not None}


def budget_of(**limits: float | None) -> dict[str, Any] | None:
    """The limits that were given; None, which is the default of 20 trials, when there are none."""
    given = {name: value for name, value in limits.items() if value is not None}
    if given and set(given) == {"least_gain"}:
        given["trials"] = 1000
    return given or None


def _seconds(given: Any, field: str) -> float | None:
    return parse_time(str(given), field) if given else None
