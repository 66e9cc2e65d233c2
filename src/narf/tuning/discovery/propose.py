"""A range and a scale for each parameter found, from its name, type, default and the limits it states."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from narf.domain.errors import BadInput
from narf.tuning.discovery.found import FoundParameter, Style
from narf.tuning.discovery.names import SETS_LENGTH, is_of_trees, is_size, last_of, reason_to_leave, words_of
from narf.tuning.space import Condition, Kind, Parameter, Scale

_AT_LEAST_TWO = {"min_samples_split", "max_leaf_nodes", "num_leaves", "n_splits", "n_bins"}


_OF_THE_WHOLE = {"episodes", "timesteps", "total", "max", "train", "training", "updates"}  # where one learns in rollouts


def propose(parameter: FoundParameter) -> FoundParameter:
    """The parameter with its `proposal`, or with the reason why there is none in `left_alone`."""
    if parameter.left_alone:
        return parameter
    if reason := reason_to_leave(parameter):
        return replace(parameter, left_alone=reason)
    return _with_proposal(parameter)


def _with_proposal(parameter: FoundParameter) -> FoundParameter:
    try:
        proposal = _proposal(parameter)
    except (BadInput, OverflowError, ValueError):
        proposal = None
    if proposal is None:
        return replace(parameter, left_alone="No range can be guessed; give one with --param.")
    return replace(parameter, proposal=proposal)


def propose_all(parameters: Iterable[FoundParameter]) -> tuple[FoundParameter, ...]:
    """Each with its proposal. Beside the words of boosted trees, rounds and iterations are trees, which a search may count; beside
    episodes or timesteps, steps are how far one looks ahead and epochs how often one learns from what was seen; beside the ends of a
    noise schedule, timesteps are its length."""
    found = tuple(propose(parameter) for parameter in parameters)
    words = {word for parameter in found for word in words_of(parameter.name)}
    names = {last_of(parameter.name).lower() for parameter in found}

    def is_of_the_model(item: FoundParameter) -> bool:
        if item.left_alone != SETS_LENGTH or item.type != "int":
            return False
        own, last = set(words_of(item.name)), last_of(item.name).lower()
        is_of_a_rollout = bool(words & {"episodes", "timesteps"}) and not own & _OF_THE_WHOLE
        if names & {"beta_start", "beta_schedule", "noise_schedule", "beta_end"}:
            return "timesteps" in own
        return (is_of_trees(words, names) and "iter" not in own) or (is_of_a_rollout and last not in ("steps", "epochs", "iterations"))

    return _grouped(_divisible(tuple(_with_proposal(replace(item, left_alone="")) if is_of_the_model(item) else item for item in found)))


def _grouped(found: tuple[FoundParameter, ...]) -> tuple[FoundParameter, ...]:
    """What stands in the chosen file of a config group, `model.width` of `model=mlp`, is there only with that choice."""
    groups = {item.name: item for item in found if item.type == "choice" and item.style is Style.HYDRA and item.proposal is not None}
    result = []
    for item in found:
        group = next((groups[name] for name in groups if item.name.startswith(f"{name}.")), None)
        if group is not None and item.proposal is not None:
            item = replace(item, proposal=replace(item.proposal, when=(Condition(group.name, (str(group.default),)),)))
        result.append(item)
    return tuple(result)


def _divisible(found: tuple[FoundParameter, ...]) -> tuple[FoundParameter, ...]:
    """The width of a transformer is a multiple of its heads: ranges under which every trial is."""
    heads = [item for item in found if {"heads", "head"} & set(words_of(item.name)) and item.type == "int" and item.proposal is not None]
    if len(heads) != 1 or not isinstance(count := heads[0].default, int) or count < 1:
        return found

    def is_width(item: FoundParameter) -> bool:
        named = {"embd", "embed", "embedding", "model"} & set(words_of(item.name)) or last_of(item.name).lower() in ("hidden_size", "dim")
        return (
            bool(named)
            and item is not heads[0]
            and item.proposal is not None
            and isinstance(item.default, int)
            and item.default % count == 0
        )

    widths = [item for item in found if is_width(item)]
    changed: dict[str, FoundParameter] = {}
    scales = {item.proposal.scale for item in [*widths, heads[0]] if item.proposal is not None}
    if scales == {Scale.POWER_OF_TWO} and widths:
        most = min(count * 4, *(int(item.default) for item in widths))  # type: ignore[arg-type] # looked at above
        changed[heads[0].name] = replace(
            heads[0], proposal=replace(heads[0].proposal, high=most) if heads[0].proposal and most > 1 else None
        )
        for item in widths:
            if item.proposal is not None and item.proposal.low is not None and item.proposal.low < most:
                changed[item.name] = replace(item, proposal=replace(item.proposal, low=most))
    elif widths:
        step = count * 2 if all(isinstance(item.default, int) and item.default % (count * 2) == 0 for item in widths) else count
        divisors = tuple(number for number in range(1, step + 1) if step % number == 0)
        if len(divisors) > 1:
            changed[heads[0].name] = replace(heads[0], proposal=Parameter(name=heads[0].name, kind=Kind.CATEGORICAL, choices=divisors))
        for item in widths:
            assert isinstance(item.default, int)
            low, high = max(1, item.default // 4 // step) * step, max(2, item.default * 4 // step) * step
            changed[item.name] = replace(item, proposal=Parameter(name=item.name, kind=Kind.INT, low=low, high=high, step=step))
    return tuple(changed.get(item.name, item) for item in found)


def _proposal(parameter: FoundParameter) -> Parameter | None:
    name, default = parameter.name, parameter.default
    if parameter.type == "bool":
        return Parameter(name=name, kind=Kind.BOOL)
    if parameter.type == "choice":
        return Parameter(name=name, kind=Kind.CATEGORICAL, choices=tuple(dict.fromkeys(parameter.choices)))
    number = default if isinstance(default, int | float) and not isinstance(default, bool) and math.isfinite(default) else None
    if parameter.type == "float":
        return _float(parameter, None if number is None else float(number))
    if parameter.type == "int":
        return _int(parameter, None if number is None else int(number))
    return None


def _float(parameter: FoundParameter, default: float | None) -> Parameter:
    words, last = words_of(parameter.name), last_of(parameter.name).lower()
    is_rate = "lr" in words or ("learning" in words and "rate" in words) or last in ("eta", "eta0", "step_size")
    is_decay = last in ("weight_decay", "wd", "l1", "l2", "reg", "lambda", "lam", "eps", "epsilon", "reg_alpha", "reg_lambda") or {
        "weight",
        "decay",
    } <= set(words)
    if "dropout" in words or "drop" in words or last == "p":
        return _range(parameter, 0.0, 0.9)
    if last in ("gamma", "discount", "gae_lambda") and default is not None and 0.9 <= default <= 1:  # how far ahead one looks
        return _range(parameter, 0.8, 1.0 if last == "gae_lambda" else 0.9999)
    if "momentum" in words:
        return _range(parameter, 0.0, 0.99)
    if "beta1" in last or "beta2" in last or last in ("betas", "ema", "ema_decay", "rho"):
        return _range(parameter, 0.8, 0.999) if default is None or 0.8 <= default <= 0.999 else _range(parameter, 0.0, 0.999)
    if is_rate:
        base = default if default is not None and default > 0 else 1e-3
        return _range(parameter, _round(base / 30), min(_round(base * 30), max(1.0, base)), Scale.LOG)
    if is_decay or ("decay" in words and (default is None or default < 0.5)):
        base = default if default is not None and default > 0 else 1e-4
        return _range(parameter, _round(base / 100), min(_round(base * 100), max(1.0, base)), Scale.LOG)
    if default is None:
        return _range(parameter, 0.0, 1.0)
    if last == "c" and default > 0:  # the inverse regularisation of a support vector machine or logistic regression
        return _range(parameter, _round(default / 100), _round(default * 100), Scale.LOG)
    if last in ("contamination", "nu") and default < 0.5:
        return _range(parameter, 0.001, 0.5)
    is_share = bool(set(words) & {"fraction", "share", "subsample", "colsample", "quantile"}) or last in ("max_features", "max_samples")
    if is_share and 0.2 <= default <= 1:
        return _range(parameter, min(0.05, _round(default / 2)), 0.95 if "quantile" in words and default < 1 else 1.0)
    if default < 0:
        return _range(parameter, default * 2, 0.0)
    if default == 0:
        return _range(parameter, 0.0, 1.0)
    if default <= 0.01:
        return _range(parameter, _round(default / 100), _round(default * 100), Scale.LOG)
    if default < 0.2:
        return _range(parameter, 0.0, _round(5 * default))
    if default <= 1:
        return _range(parameter, 0.0, 1.0)
    return _range(parameter, _round(default / 5), _round(default * 5), Scale.LOG)


def _int(parameter: FoundParameter, default: int | None) -> Parameter:
    words = set(words_of(parameter.name))
    if is_size(words) and (default is None or default >= 4):
        base = 32 if default is None else default
        if base & (base - 1) == 0:
            return _range(parameter, max(1, base // 4), base * 4, Scale.POWER_OF_TWO)
        return _range(parameter, max(1, base // 4), base * 4, Scale.LOG)
    if default is None:
        return _range(parameter, 1, 8)
    if default <= 0:
        return _range(parameter, default, default + 10)
    if words & {"heads", "head"} and default & (default - 1) == 0:
        return _range(parameter, 1, default * 4, Scale.POWER_OF_TWO)
    if default >= 32:
        is_power = default & (default - 1) == 0
        return _range(parameter, max(1, default // 4), default * 4, Scale.POWER_OF_TWO if is_power else Scale.LOG)
    return _range(parameter, 1, max(2 * default, default + 2))


def _range(parameter: FoundParameter, low: float, high: float, scale: Scale = Scale.LINEAR) -> Parameter:
    """The range, inside the limits that the script enforces."""
    kind = Kind.INT if parameter.type == "int" else Kind.FLOAT
    low, high = _inside(low, parameter), _inside(high, parameter)
    if kind is Kind.INT and last_of(parameter.name).lower() in _AT_LEAST_TWO:
        low, high = max(low, 2), max(high, 3)
    if scale is not Scale.LINEAR and low <= 0:
        low = min(1e-5, high / 1000) if kind is Kind.FLOAT else 1
    if scale is Scale.POWER_OF_TWO:
        low, high = 2 ** math.ceil(math.log2(low)), 2 ** math.floor(math.log2(high))
    if low >= high and parameter.least is not None and parameter.most is not None:
        low, high, scale = parameter.least, parameter.most, Scale.LINEAR
    return Parameter(name=parameter.name, kind=kind, low=low, high=high, scale=scale)


def _inside(value: float, parameter: FoundParameter) -> float:
    if parameter.least is not None:
        value = max(value, parameter.least)
    return value if parameter.most is None else min(value, parameter.most)


def _round(value: float) -> float:
    """To two significant digits: 0.0333 becomes 0.033."""
    return float(f"{value:.2g}")
