"""A search space: typed parameters with ranges, scales and conditions, and its forms as text and as JSON.

Text, as on the command line and in narf.toml: `1e-4..0.1 log`, `16..256 pow2`, `1..5`, `0..1 step 0.1`,
`adam, sgd`, `bool`; a condition follows `if`: `0..0.99 if optimizer=sgd`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from narf.domain.errors import BadInput

Value = bool | int | float | str | None
Values = dict[str, Value]


_FARTHEST = 1e300  # a range from end to end still has a length that is a number
_LAST_EXACT = 2**53  # the last whole number that a float holds, and all before it


class Kind(StrEnum):
    FLOAT = "float"
    INT = "int"
    CATEGORICAL = "categorical"
    BOOL = "bool"


class Scale(StrEnum):
    LINEAR = "linear"
    LOG = "log"
    POWER_OF_TWO = "pow2"  # whole powers of two, each as likely as the next


@dataclass(frozen=True, slots=True)
class Condition:
    """The parameter exists only where `parent` has one of `values`."""

    parent: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One dimension of a space. `low` and `high` are both included; `step` counts from `low`."""

    name: str
    kind: Kind
    low: float | None = None
    high: float | None = None
    step: float | None = None
    scale: Scale = Scale.LINEAR
    choices: tuple[Value, ...] = ()
    when: tuple[Condition, ...] = ()

    def __post_init__(self) -> None:
        _check(self)

    @property
    def is_numeric(self) -> bool:
        return self.kind in (Kind.FLOAT, Kind.INT)

    @property
    def size(self) -> int | None:
        """How many values it has; None where they are not counted."""
        if self.kind is Kind.BOOL:
            return 2
        if self.kind is Kind.CATEGORICAL:
            return len(self.choices)
        assert self.low is not None and self.high is not None
        if self.scale is Scale.POWER_OF_TWO:
            return int(math.log2(self.high) - math.log2(self.low)) + 1
        if self.kind is Kind.INT and self.scale is Scale.LINEAR:
            return int((self.high - self.low) // (self.step or 1)) + 1
        if self.step is not None:
            return int((self.high - self.low) / self.step + 1e-9) + 1
        return None

    def contains(self, value: Value) -> bool:
        if self.kind is Kind.BOOL:
            return isinstance(value, bool)
        if self.kind is Kind.CATEGORICAL:
            return any(value == choice and isinstance(value, bool) == isinstance(choice, bool) for choice in self.choices)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return False
        assert self.low is not None and self.high is not None
        if not self.low <= value <= self.high or (self.kind is Kind.INT and value != int(value)):
            return False
        if self.scale is Scale.POWER_OF_TWO:
            return math.log2(value).is_integer()
        if self.step is not None:
            steps = (value - self.low) / self.step
            return math.isclose(steps, round(steps), abs_tol=1e-6)
        return True

    def _number(self, value: float) -> str:
        return str(int(value)) if self.kind is Kind.INT else repr(float(value))

    def is_active(self, values: Mapping[str, Value]) -> bool:
        return all(condition.parent in values and values[condition.parent] in condition.values for condition in self.when)

    def to_json(self) -> dict[str, Any]:
        body: dict[str, Any] = {"name": self.name, "type": self.kind.value}
        if self.is_numeric:
            as_number = int if self.kind is Kind.INT else float
            assert self.low is not None and self.high is not None
            body |= {"low": as_number(self.low), "high": as_number(self.high), "scale": self.scale.value}
            if self.step is not None:
                body["step"] = as_number(self.step)
        if self.kind is Kind.CATEGORICAL:
            body["choices"] = list(self.choices)
        if self.when:
            body["when"] = {condition.parent: list(condition.values) for condition in self.when}
        return body

    def to_text(self) -> str:
        """The form that `parameter_from_text` reads."""
        if self.kind is Kind.BOOL:
            text = "bool"
        elif self.kind is Kind.CATEGORICAL:
            text = ", ".join(_value_text(choice) for choice in self.choices)
        else:
            assert self.low is not None and self.high is not None
            text = f"{self._number(self.low)}..{self._number(self.high)}"
            if self.scale is not Scale.LINEAR:
                text += f" {self.scale.value}"
            if self.step is not None:
                text += f" step {self._number(self.step)}"
        for condition in self.when:
            text += f" if {condition.parent}=" + "|".join(_value_text(value) for value in condition.values)
        return text


@dataclass(frozen=True, slots=True)
class Space:
    """Parameters in the order in which they are proposed: what a condition names stands before it."""

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Parameter] = {}
        for parameter in self.parameters:
            if parameter.name in seen:
                raise BadInput(
                    f"Two parameters are named {parameter.name!r}.", remedy="Name each parameter once.", field="space", code="bad_space"
                )
            for condition in parameter.when:
                parent = seen.get(condition.parent)
                if parent is None:
                    raise _refusal(parameter.name, f"depends on {condition.parent!r}, which is not a parameter before it")
                for value in condition.values:
                    if not parent.contains(value):
                        raise _refusal(parameter.name, f"depends on {condition.parent}={value!r}, a value it never has")
            seen[parameter.name] = parameter

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def size(self) -> int | None:
        """Points of the grid when nothing is conditional; None where a range is continuous."""
        product = 1
        for parameter in self.parameters:
            if parameter.size is None:
                return None
            product *= parameter.size
        return product

    def check(self, values: Mapping[str, Value], *, field: str = "initial") -> Values:
        """`values` as a point of this space; parameters left out are left to the sampler.

        Raises:
            BadInput: a name is unknown, or a value lies outside its range.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        for name, value in values.items():
            if name not in known:
                raise BadInput(f"{name!r} is not a parameter of this space.", remedy=f"It has {', '.join(known)}.", field=field)
            if not known[name].contains(value):
                raise BadInput(f"{name}={value!r} lies outside {known[name].to_text()}.", field=field, code="out_of_range")
        return dict(values)

    def to_json(self) -> list[dict[str, Any]]:
        return [parameter.to_json() for parameter in self.parameters]


def read_space(form: Mapping[str, Any] | Sequence[Any]) -> Space:
    """A space from JSON or TOML: a list of `{"name", "type", "low", ...}`, or a table from names to such, or to text.

    Raises:
        BadInput: with a sentence that names the parameter.
    """
    if isinstance(form, Mapping):
        items: list[tuple[Any, Any]] = list(form.items())
    elif isinstance(form, Sequence) and not isinstance(form, str):
        items = [(item.get("name") if isinstance(item, Mapping) else None, item) for item in form]
    else:
        raise BadInput("A space is a list or a table of parameters.", field="space", code="bad_space")
    return in_order([read_parameter(name, value) for name, value in items])


def check_drawable(space: Space) -> None:
    """Whether values can be drawn from its ranges as they are written. Asked when a study begins, not of what is on record.

    Raises:
        BadInput: a range is too wide for the numbers that a computer has.
    """
    for parameter in space:
        if parameter.low is None or parameter.high is None:
            continue
        farthest = max(abs(parameter.low), abs(parameter.high))
        if farthest > _FARTHEST:
            raise _refusal(parameter.name, "has an end beyond 1e300, from where no range can be drawn")
        if parameter.kind is Kind.INT and farthest > _LAST_EXACT:
            raise _refusal(parameter.name, "goes beyond 2**53, where whole numbers are no longer exact; take a smaller range")
        if parameter.step is not None and (parameter.high - parameter.low) / parameter.step > _LAST_EXACT:
            raise _refusal(parameter.name, f"has the step {parameter.step:g}, which is lost in its range; leave it out")


def in_order(parameters: Sequence[Parameter]) -> Space:
    """The space of these parameters, each after what its conditions name."""
    return Space(_parents_first(list(parameters)))


def read_parameter(name: Any, form: Any) -> Parameter:
    if not isinstance(name, str) or not name.strip():
        raise BadInput("A parameter of the space has no name.", remedy='Give each a "name".', field="space", code="bad_space")
    if isinstance(form, str):
        return parameter_from_text(name, form)
    if isinstance(form, Sequence):
        return _categorical(name, tuple(form))
    if not isinstance(form, Mapping):
        raise _refusal(name, "is neither text nor a table")
    unknown = set(form) - {"name", "type", "low", "high", "step", "scale", "choices", "when"}
    if unknown:
        raise _refusal(name, f"has unknown fields: {', '.join(sorted(map(str, unknown)))}")
    when = tuple(
        Condition(str(parent), tuple(values) if isinstance(values, Sequence) and not isinstance(values, str) else (values,))
        for parent, values in (form.get("when") or {}).items()
    )
    kind = _kind(name, form)
    if kind in (Kind.BOOL, Kind.CATEGORICAL):
        return Parameter(name=name, kind=kind, choices=tuple(form.get("choices") or ()) if kind is Kind.CATEGORICAL else (), when=when)
    try:
        scale = Scale(form.get("scale") or Scale.LINEAR)
    except ValueError:
        raise _refusal(name, f"has scale {form.get('scale')!r}; it can be linear, log or pow2") from None
    return Parameter(name=name, kind=kind, low=form.get("low"), high=form.get("high"), step=form.get("step"), scale=scale, when=when)


def parameter_from_text(name: str, text: str) -> Parameter:
    """Read the short form, such as `1e-4..0.1 log`.

    Raises:
        BadInput: it cannot be read, or makes no range.
    """
    body, *conditions = text.split(" if ")
    when = []
    for condition in conditions:
        parent, equals, values = condition.partition("=")
        if not equals or not parent.strip() or not values.strip():
            raise _refusal(name, f"has the condition {condition.strip()!r}; write it as: if optimizer=sgd|adam")
        when.append(Condition(parent.strip(), tuple(read_value(value) for value in values.split("|"))))
    body = body.strip()
    if not body:
        raise _refusal(name, "has no range; write one such as 1e-4..0.1 log")
    if body == "bool":
        return Parameter(name=name, kind=Kind.BOOL, when=tuple(when))
    if ".." in body:
        return _range_from_text(name, body, tuple(when))
    return _categorical(name, tuple(read_value(choice) for choice in body.split(",")), tuple(when))


def read_value(text: str) -> Value:
    """`3`, `0.5`, `true`, `none` or, failing these, the text itself; quotes keep text as text."""
    text = text.strip()
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if text.lower() in ("none", "null"):
        return None
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def _range_from_text(name: str, body: str, when: tuple[Condition, ...]) -> Parameter:
    low_text, _, rest = body.partition("..")
    high_text, *words = rest.replace(":", " ").split() or [""]
    low, high = read_value(low_text), read_value(high_text)
    if isinstance(low, bool) or isinstance(high, bool) or not isinstance(low, int | float) or not isinstance(high, int | float):
        raise _refusal(name, f"has the range {body!r}; its ends must be numbers")
    is_int = isinstance(low, int) and isinstance(high, int)
    scale, step = Scale.LINEAR, None
    while words:
        word = words.pop(0)
        if word in ("log", "pow2", "linear"):
            scale = Scale(word)
        elif word in ("int", "float"):
            is_int = word == "int"
        elif word == "step" and words:
            value = read_value(words.pop(0))
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _refusal(name, "has a step that is not a number")
            step = value
            is_int = is_int and isinstance(value, int)
        else:
            raise _refusal(name, f"has {word!r} after its range; known are log, pow2, int, float and step NUMBER")
    kind = Kind.INT if is_int or scale is Scale.POWER_OF_TWO else Kind.FLOAT
    return Parameter(name=name, kind=kind, low=low, high=high, step=step, scale=scale, when=when)


def _categorical(name: str, choices: tuple[Value, ...], when: tuple[Condition, ...] = ()) -> Parameter:
    if len(choices) == 2 and all(isinstance(choice, bool) for choice in choices) and choices[0] != choices[1]:
        return Parameter(name=name, kind=Kind.BOOL, when=when)
    return Parameter(name=name, kind=Kind.CATEGORICAL, choices=choices, when=when)


def _kind(name: str, form: Mapping[str, Any]) -> Kind:
    given = form.get("type")
    if given is None:
        if form.get("choices") is not None:
            return Kind.CATEGORICAL
        low, high, step = form.get("low"), form.get("high"), form.get("step")
        whole = all(isinstance(end, int) for end in (low, high)) and (step is None or isinstance(step, int))
        return Kind.INT if whole or form.get("scale") == "pow2" else Kind.FLOAT
    try:
        return Kind(given)
    except ValueError:
        raise _refusal(name, f"has type {given!r}; it can be float, int, categorical or bool") from None


def _check(parameter: Parameter) -> None:
    name = parameter.name
    if parameter.kind is Kind.BOOL:
        return
    if parameter.kind is Kind.CATEGORICAL:
        if len(parameter.choices) < 2:
            raise _refusal(name, "needs at least two choices")
        if not all(choice is None or isinstance(choice, bool | int | float | str) for choice in parameter.choices):
            raise _refusal(name, "has a choice that is neither text, number, bool nor none")
        if len({(type(choice), choice) for choice in parameter.choices}) != len(parameter.choices):
            raise _refusal(name, "lists a choice twice")
        return
    for end in (parameter.low, parameter.high, parameter.step):
        if end is not None and (isinstance(end, bool) or not isinstance(end, int | float) or not abs(end) < math.inf):
            raise _refusal(name, f"has an end or step that is not a finite number ({end!r})")
    if parameter.low is None or parameter.high is None:
        raise _refusal(name, "needs both ends of its range")
    if parameter.low >= parameter.high:
        raise _refusal(name, f"has an empty range: {parameter.low:g} is not below {parameter.high:g}")
    if parameter.kind is Kind.INT and any(end is not None and end != int(end) for end in (parameter.low, parameter.high, parameter.step)):
        raise _refusal(name, "is int, but its range is not in whole numbers")
    if parameter.scale is not Scale.LINEAR and parameter.low <= 0:
        raise _refusal(name, f"has scale {parameter.scale.value}, so its range must begin above 0")
    if parameter.scale is not Scale.LINEAR and parameter.step is not None:
        raise _refusal(name, f"cannot have both a step and scale {parameter.scale.value}")
    if parameter.step is not None and not 0 < parameter.step <= parameter.high - parameter.low:
        raise _refusal(name, "needs a step above 0 and no longer than its range")
    if parameter.scale is Scale.POWER_OF_TWO:
        ends = (parameter.low, parameter.high)
        if parameter.kind is not Kind.INT or not all(math.log2(end).is_integer() for end in ends):
            raise _refusal(name, f"has scale pow2, so both ends must be powers of two, not {ends[0]:g} and {ends[1]:g}")


def _parents_first(parameters: list[Parameter]) -> tuple[Parameter, ...]:
    """In the given order, but each after what its conditions name (a cycle is left for `Space` to refuse)."""
    ordered: list[Parameter] = []
    waiting = list(parameters)
    while waiting:
        done = {parameter.name for parameter in ordered}
        ready = [p for p in waiting if all(c.parent in done or all(w.name != c.parent for w in waiting) for c in p.when)]
        if not ready:
            return (*ordered, *waiting)
        ordered.append(ready[0])
        waiting.remove(ready[0])
    return tuple(ordered)


def _value_text(value: Value) -> str:
    if isinstance(value, str):
        return f'"{value}"' if read_value(value) != value else value
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _refusal(name: str, what: str) -> BadInput:
    return BadInput(f"Parameter {name!r} {what}.", field=f"space.{name}", code="bad_space")
