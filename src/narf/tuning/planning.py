"""Settles what a study searches, from what somebody wishes and what discovery finds in the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from narf.domain.errors import BadInput
from narf.training.metric_names import direction_of
from narf.tuning.discovery.found import Discovery, FoundParameter, Passing
from narf.tuning.discovery.static import refuse_without_arguments
from narf.tuning.space import Space, Values, check_drawable, in_order, read_space
from narf.tuning.study import Direction, Search


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What was asked for; empty means: as discovery finds it.

    space: JSON or text forms (see `narf.tuning.space`). only_space: it is the whole space, not a change to what is proposed.
    """

    arguments: tuple[str, ...] = ()
    space: Mapping[str, Any] | Sequence[Any] = ()
    only_space: bool = True
    skip: tuple[str, ...] = ()
    bindings: Mapping[str, Passing] = field(default_factory=dict)
    metric: str = ""
    direction: str = ""
    value_from: str = "last"
    search: Search = field(default_factory=Search)
    initial: tuple[Values, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchPlan:
    space: Space
    bindings: Mapping[str, Passing]
    arguments: tuple[str, ...]
    metric: str
    direction: Direction
    value_from: str
    search: Search
    initial: tuple[Values, ...]


def settle(wishes: Wishes, discover: Callable[[], Discovery], script: str) -> SearchPlan:
    """The search that will be made. `discover` is called once.

    Raises:
        BadInput: nothing to search, an unknown parameter, no metric, no direction, a range without sense.
    """
    found = discover()
    space = _space(wishes, found, script)
    check_drawable(space)
    refuse_without_arguments(found, wishes.arguments, space.names, script)
    metric = wishes.metric or (found.metrics[0].name if found.metrics else "")
    if not metric:
        raise BadInput(
            f"No metric was found in {script}, so nothing says which trial is best.",
            remedy="Name one that it logs: --metric val_loss --minimize",
            field="metric",
            code="no_metric",
        )
    return SearchPlan(
        space=space,
        bindings=_bindings(wishes, found, space, script),
        arguments=(*found.prefix, *wishes.arguments),
        metric=metric,
        direction=_direction(wishes, found, metric),
        value_from=wishes.value_from,
        search=wishes.search,
        initial=tuple(space.check(values, field=f"initial.{index}") for index, values in enumerate(wishes.initial)),
    )


def _space(wishes: Wishes, found: Discovery, script: str) -> Space:
    given = {parameter.name: parameter for parameter in read_space(wishes.space)} if wishes.space else {}
    proposed = {item.name: item.proposal for item in found.parameters if item.proposal is not None}
    parameters = given if given and wishes.only_space else {**proposed, **given}
    for name in wishes.skip:
        if name not in parameters and name not in {item.name for item in found.parameters}:
            raise _unknown(name, found, script, "skip")
    searched = [parameter for parameter in parameters.values() if parameter.name not in wishes.skip]
    if parameters and not searched:
        raise BadInput(
            f"Nothing is left to search: of {', '.join(parameters)} all are skipped.",
            remedy="Skip fewer.",
            field="skip",
            code="bad_space",
        )
    if not searched:
        raise _nothing(found, script)
    return in_order(searched)


def _nothing(found: Discovery, script: str) -> BadInput:
    if not found.parameters:
        return BadInput(
            f"No parameter was found in {script}.",
            remedy="Give it arguments (argparse, click, ...), or module-level constants; then: narf tune SCRIPT --discover",
            field="space",
            code="no_parameters",
        )
    reasons = "; ".join(f"{item.name}: {item.left_alone}" for item in found.parameters[:6])
    return BadInput(
        f"No parameter of {script} can be searched by itself. {reasons}",
        remedy="Give a range: --param lr='1e-4..0.1 log'",
        field="space",
        code="no_parameters",
    )


def _bindings(wishes: Wishes, found: Discovery, space: Space, script: str) -> dict[str, Passing]:
    known = {item.name: item for item in found.parameters}
    bindings = {}
    for name in space.names:
        if name in wishes.bindings:
            bindings[name] = wishes.bindings[name]
        elif name in known:
            _check_type(known[name], space)
            bindings[name] = known[name].passing
        else:
            raise _unknown(name, found, script, f"space.{name}")
    return bindings


def _check_type(item: FoundParameter, space: Space) -> None:
    """A range that the script would reject, where that can be seen without running it."""
    parameter = next(parameter for parameter in space if parameter.name == item.name)
    if item.left_alone.startswith("A positional"):
        raise BadInput(
            f"{item.name!r} is a positional argument, which cannot be searched.", remedy="Make it an option.", field=f"space.{item.name}"
        )
    if item.type in ("int", "bool") and parameter.kind.value == "float":
        raise BadInput(
            f"{item.name!r} is {'a whole number' if item.type == 'int' else 'true or false'} in the script; the range {parameter.to_text()} is not.",
            remedy=f"Write it as {'1..10' if item.type == 'int' else 'bool'}.",
            field=f"space.{item.name}",
            code="range_rejected",
        )
    low, high = parameter.low, parameter.high
    below = item.least is not None and low is not None and low < item.least
    above = item.most is not None and high is not None and high > item.most
    if below or above:
        raise BadInput(
            f"The script accepts {item.name!r} from {_end(item.least)} to {_end(item.most)}; the range {parameter.to_text()} goes beyond.",
            field=f"space.{item.name}",
            code="range_rejected",
        )
    if item.choices and (odd := [choice for choice in parameter.choices if choice not in item.choices]):
        raise BadInput(
            f"The script does not accept {item.name}={odd[0]!r}; its choices are {', '.join(map(str, item.choices))}.",
            field=f"space.{item.name}",
            code="range_rejected",
        )


def _end(limit: float | None) -> str:
    return "any" if limit is None else f"{limit:g}"


def _unknown(name: str, found: Discovery, script: str, field: str) -> BadInput:
    names = [item.name for item in found.parameters]
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names[:12]) or "none"
    return BadInput(
        f"{script} has no parameter {name[:60]!r}.",
        remedy=f"Did you mean {near[0]!r}?" if near else f"Found were: {listed}. narf tune SCRIPT --discover shows them.",
        field=field,
        code="unknown_parameter",
    )


def _direction(wishes: Wishes, found: Discovery, metric: str) -> Direction:
    if wishes.direction:
        return Direction(wishes.direction)
    known = next((item.direction for item in found.metrics if item.name == metric), "")
    direction = known or direction_of(metric)
    if not direction:
        near = get_close_matches(metric, [item.name for item in found.metrics], n=1, cutoff=0.5)
        meant = f"Did you mean {near[0]!r}? If not, say" if near and near[0] != metric else "Say"
        raise BadInput(
            f"The name {metric!r} does not say whether less or more is better.",
            remedy=f"{meant} --minimize or --maximize.",
            field="direction",
        )
    return Direction(direction)
