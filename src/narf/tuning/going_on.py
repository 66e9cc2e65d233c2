"""Whether a study that is there can go on as it is asked to. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from narf.domain.errors import BadInput
from narf.tuning.planning import SearchPlan
from narf.tuning.space import Space
from narf.tuning.study import Study, StudyEnd, Trial


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
