"""Ray Tune's boundaries to the search: our proposer as its searcher, our pruners as its schedulers, our space as its distributions."""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

from ray import tune
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, MedianStoppingRule, PopulationBasedTraining
from ray.tune.search import Searcher

from narf.tuning.decisions import expected_gain, fail_alike
from narf.tuning.proposer import Proposer
from narf.tuning.space import Kind, Scale, read_space
from narf.tuning.study import Direction, Fault, Search, Trial, TrialState


class RecordedSearch(Searcher):  # type: ignore[misc]
    """Asks our proposer; what it was asked and told before comes from the platform's record."""

    def __init__(self, spec: dict[str, Any], *, metric: str, mode: str) -> None:
        super().__init__(metric=metric, mode=mode)
        self._spec, self._metric_name = spec, metric
        self._direction = Direction(spec["direction"])
        search = Search(
            sampler=spec["sampler"], sampler_options=tuple(sorted(spec["sampler_options"].items())), pruner="none", seed=spec["seed"]
        )
        self._proposer = Proposer(read_space(spec["space"]), self._direction, search, spec["initial"])
        self._trials = [_trial(spec["id"], item) for item in spec["trials"]]
        self._proposer.feed(self._trials)
        self._numbers: dict[str, int] = {}
        self._next = len(self._trials)
        self._failures = 0

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        if self._proposer.is_exhausted or self._is_over():
            finished: str = Searcher.FINISHED
            return finished
        number, self._next = self._next, self._next + 1
        self._numbers[trial_id] = number
        return dict(self._proposer.ask(number))

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        number = self._numbers.pop(trial_id, None)
        if number is None:
            return
        value = None if result is None else result.get(self._metric_name)
        told = result or {}
        worked = not error and not told.get("narf_fault") and value is not None and value == value
        state = TrialState.SUCCEEDED if worked else TrialState.FAILED
        self._proposer.tell(number, state, value if worked else None)
        fault = None if worked else Fault(told.get("narf_fault") or Fault.CRASHED)
        now = datetime.now(UTC)
        self._trials.append(
            Trial(
                study_id=self._spec["id"],
                number=number,
                values={},
                created_at=now,
                state=state,
                value=value if worked else None,
                fault=fault,
                detail=str(told.get("narf_detail", "")),
                told_at=len(self._trials),
            )
        )

    def save(self, checkpoint_path: str) -> None:
        """The platform has the record."""

    def restore(self, checkpoint_path: str) -> None:
        """The platform has the record."""

    def _is_over(self) -> bool:
        gain = self._spec["budget"]["least_gain"]
        if gain is not None:
            expected = expected_gain(self._direction, self._trials)
            if expected is not None and expected < gain:
                return True
        return fail_alike(self._trials, self._spec["budget"]["trials"])


def scheduler_of(spec: dict[str, Any]) -> Any:
    """Ray's scheduler for a pruner of ours; metric and mode are the Tuner's."""
    options = dict(spec["pruner_options"])
    if spec["sampler"] == "pbt":
        given = dict(spec["sampler_options"])
        return PopulationBasedTraining(
            time_attr="training_iteration",
            perturbation_interval=1,
            hyperparam_mutations={
                parameter["name"]: mutations([parameter])[parameter["name"]] for parameter in spec["space"] if parameter["type"] == "float"
            },
            quantile_fraction=float(given.get("share", 0.25)),
            resample_probability=float(given.get("resample", 0.25)),
            perturbation_factors=(float(given.get("factor", 1.25)), 1 / float(given.get("factor", 1.25))),
            custom_explore_fn=functools.partial(within, spec["space"]),
            synch=False,
        )
    match spec["pruner"]:
        case "none":
            return FIFOScheduler()
        case "asha" | "hyperband":
            resource = options.get("min_resource", 1)
            longest = options.get("max_resource", 100)
            return ASHAScheduler(
                time_attr="training_iteration",
                grace_period=resource if isinstance(resource, int) else 1,
                max_t=longest if isinstance(longest, int) else 100,
                reduction_factor=options.get("reduction_factor", 4 if spec["pruner"] == "asha" else 3),
                brackets=3 if spec["pruner"] == "hyperband" else 1,
            )
        case "median":
            return MedianStoppingRule(
                time_attr="training_iteration",
                grace_period=options.get("n_warmup_steps", 0) or 1,
                min_samples_required=options.get("n_startup_trials", 5),
            )
    raise AssertionError(f"{spec['pruner']} was not refused when the study began: engines.RAY_PRUNERS names others")


def within(space: list[dict[str, Any]], config: dict[str, Any]) -> dict[str, Any]:
    """A perturbed configuration, no value of it outside of its range: Ray multiplies without looking."""
    for parameter in read_space(space):
        value = config.get(parameter.name)
        if isinstance(value, float) and parameter.low is not None and parameter.high is not None:
            config[parameter.name] = min(max(value, parameter.low), parameter.high)
    return config


def mutations(space: list[dict[str, Any]]) -> dict[str, Any]:
    """The space as Ray Tune's distributions."""
    found: dict[str, Any] = {}
    for parameter in read_space(space):
        if parameter.kind is Kind.BOOL:
            found[parameter.name] = tune.choice([True, False])
            continue
        if parameter.kind is Kind.CATEGORICAL:
            found[parameter.name] = tune.choice(list(parameter.choices))
            continue
        assert parameter.low is not None and parameter.high is not None
        low, high = parameter.low, parameter.high
        if parameter.scale is Scale.POWER_OF_TWO:
            found[parameter.name] = tune.choice([2**power for power in range(int(low).bit_length() - 1, int(high).bit_length())])
        elif parameter.kind is Kind.INT:
            make = tune.lograndint if parameter.scale is Scale.LOG else tune.randint
            found[parameter.name] = make(int(low), int(high) + 1)
        else:
            found[parameter.name] = (tune.loguniform if parameter.scale is Scale.LOG else tune.uniform)(low, high)
    return found


def _trial(study_id: str, item: dict[str, Any]) -> Trial:
    return Trial(
        study_id=study_id,
        number=item["number"],
        values=item["values"],
        created_at=datetime.now(UTC),
        state=TrialState(item["state"]),
        value=item["value"],
        fault=Fault(item["fault"]) if item["fault"] else None,
        detail=item["detail"],
        told_at=item["number"],
    )
