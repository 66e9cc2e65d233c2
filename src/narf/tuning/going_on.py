"""Whether a study that is there can go on as it is asked to, or another can start from it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from narf.domain.errors import BadInput
from narf.tuning.planning import SearchPlan
from narf.tuning.proposer import usable
from narf.tuning.space import Space
from narf.tuning.study import Study, StudyEnd, Trial, TrialState

_LEARN = ("tpe", "gp", "pbt")  # samplers that make something of trials which they have not proposed


def used_up(study: Study, limit: StudyEnd, trials: Sequence[Trial], now: datetime) -> BadInput:
    """The refusal of a budget of which `limit` is reached."""
    field, flag, what = {
        StudyEnd.TRIALS: ("trials", "--trials", f"has {len(trials)} trials already"),
        StudyEnd.TIME: ("seconds", "--time", f"has run for {study.spent_seconds(now):.0f} s already"),
        StudyEnd.GPU_HOURS: (
            "gpu_hours",
            "--gpu-hours",
            f"has used {sum(trial.gpu_seconds for trial in trials) / 3600:.3g} GPU-hours already",
        ),
        StudyEnd.PLATEAU: ("least_gain", "--least-gain", "is expected to gain less than that"),
    }[limit]
    return BadInput(
        f"Study {study.name} {what}, so with a limit of {getattr(study.budget, field):g} it would end at once.",
        remedy=f"Set {'a smaller' if limit is StudyEnd.PLATEAU else 'a larger'} one: narf tune --extend {study.name} {flag} ...",
        field=f"budget.{field}",
        code="bad_budget",
    )


def check_start(plan: SearchPlan, earlier: Study, trials: Sequence[Trial]) -> None:
    """Whether a new study has something to learn from an earlier one.

    Raises:
        BadInput: its sampler does not learn, the earlier study sought something else, or nothing of it lies in the new space.
    """
    if plan.search.sampler not in _LEARN:
        raise _no_start(f"The sampler {plan.search.sampler} does not learn from earlier trials", f"Use one that does: {', '.join(_LEARN)}.")
    if (plan.metric, plan.direction) != (earlier.metric, earlier.direction):
        raise _no_start(
            f"Study {earlier.name} was to {earlier.direction} {earlier.metric} and this one is to {plan.direction} {plan.metric}; "
            "their values cannot be compared",
            f"Leave out {earlier.name}, or search for the same metric.",
        )
    done = [trial for trial in trials if trial.state is TrialState.SUCCEEDED and trial.value is not None]
    if not done:
        raise _no_start(f"No trial of study {earlier.name} has succeeded, so it tells nothing", f"Leave out {earlier.name}.")
    if not any(usable(trial.values, plan.space, plan.search) for trial in done):
        searched = "; ".join(f"{parameter.name} {parameter.to_text()}" for parameter in earlier.space)
        raise _no_start(
            f"None of the {len(done)} trials of study {earlier.name} lies in this space; it searched {searched}", "Leave it out."
        )


def _no_start(what: str, remedy: str) -> BadInput:
    return BadInput(f"{what}.", remedy=remedy, field="warm_from", code="no_start")


def what_differs(known: Study, plan: SearchPlan) -> list[str]:
    """What of a study that is to go on is asked for in another way: parameters by name, then the rest."""
    others = {
        f"the metric ({plan.metric}, not {known.metric})": plan.metric != known.metric,
        f"the direction ({plan.direction}, not {known.direction})": plan.direction is not known.direction,
        "the arguments of the script": plan.arguments != known.program.arguments,
    }
    return [*sorted(_names_that_differ(plan.space, known.space)), *(what for what, is_other in others.items() if is_other)]


def _names_that_differ(one: Space, other: Space) -> set[str]:
    first, second = ({parameter.name: parameter for parameter in space} for space in (one, other))
    return {name for name in first.keys() | second.keys() if first.get(name) != second.get(name)}
