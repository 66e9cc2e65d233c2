"""Optuna's samplers and pruners, asked and told from our own record of trials; nothing of it is stored but that record.

The same calls in the same order give the same trials as Optuna alone with the same sampler and seed. So a proposer that was
lost is built again by replaying the asks and tells of the record in their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from narf.domain.errors import BadInput, MissingExtra, NarfError
from narf.tuning.space import Kind, Parameter, Scale, Space, Value, Values
from narf.tuning.study import Direction, Search, Trial, TrialState

REPLAY_LIMIT = 400  # beyond this many trials the record is fed in at once, and the sampler's random numbers begin anew

_Options = Mapping[str, tuple[type, ...]]
_COUNT, _NUMBER, _SWITCH = (int,), (int, float), (bool,)
SAMPLERS: dict[str, _Options] = {
    "tpe": {"n_startup_trials": _COUNT, "n_ei_candidates": _COUNT, "multivariate": _SWITCH, "group": _SWITCH, "constant_liar": _SWITCH},
    "random": {},
    "grid": {},
    "qmc": {"qmc_type": (str,), "scramble": _SWITCH},
    "gp": {"n_startup_trials": _COUNT, "deterministic_objective": _SWITCH},
    "cmaes": {"n_startup_trials": _COUNT, "sigma0": _NUMBER, "restart_strategy": (str,), "popsize": _COUNT},
    "nsga2": {"population_size": _COUNT, "mutation_prob": _NUMBER, "crossover_prob": _NUMBER},
    "exhaustive": {},
    "pbt": {"population": _COUNT, "reports": _COUNT, "share": _NUMBER, "resample": _NUMBER, "factor": _NUMBER},
}
PRUNERS: dict[str, _Options] = {
    "none": {},
    "median": {"n_startup_trials": _COUNT, "n_warmup_steps": _COUNT, "interval_steps": _COUNT, "n_min_trials": _COUNT},
    "percentile": {"percentile": _NUMBER, "n_startup_trials": _COUNT, "n_warmup_steps": _COUNT, "interval_steps": _COUNT},
    "asha": {"min_resource": (int, str), "reduction_factor": _COUNT, "min_early_stopping_rate": _COUNT, "bootstrap_count": _COUNT},
    "hyperband": {"min_resource": _COUNT, "max_resource": (int, str), "reduction_factor": _COUNT, "bootstrap_count": _COUNT},
    "patient": {"patience": _COUNT, "min_delta": _NUMBER},
    "threshold": {"lower": _NUMBER, "upper": _NUMBER, "n_warmup_steps": _COUNT, "interval_steps": _COUNT},
    "wilcoxon": {"p_threshold": _NUMBER, "n_startup_steps": _COUNT},
}


class SearchBroken(NarfError):
    """A sampler or pruner stumbled. It would again: the search cannot go on, and other studies are not concerned."""

    code = "search_broken"


@dataclass(frozen=True, slots=True)
class Earlier:
    """A finished trial of another study, to start from."""

    values: Values
    value: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A point to try. member, generation, source: of a population's segment (see `narf.tuning.pbt`)."""

    values: Values
    member: int | None = None
    generation: int = 0
    source: int | None = None


class Proposer:
    """A sampler and a pruner with the trials they know. One object serves one study, from one thread at a time."""

    def __init__(
        self, space: Space, direction: Direction, search: Search, initial: Sequence[Values] = (), earlier: Iterable[Earlier] = ()
    ) -> None:
        """Raises:
        BadInput: an unknown sampler, pruner or option, or a space that the sampler cannot search.
        MissingExtra: Optuna, or a package that the sampler needs, is not installed.
        """
        optuna = import_optuna()
        self._optuna, self._space, self._is_exhausted = optuna, space, False
        self._distributions = {parameter.name: _distribution(optuna, parameter) for parameter in space}
        # The name is part of Hyperband's choice of a bracket, so it must not be random.
        self._study = optuna.create_study(
            study_name="study",
            direction=direction.value,
            sampler=_sampler(optuna, search, space, self._distributions),
            pruner=_pruner(optuna, search),
        )
        self._study.stop = self._stop  # samplers that have tried everything call this
        self._search = search
        for trial in earlier:
            self._add_earlier(trial)
        for values in initial:
            self._study.enqueue_trial({name: self._internal(name, value) for name, value in values.items()})
        self._live: dict[int, Any] = {}
        self._reports: dict[int, int] = {}

    @property
    def is_exhausted(self) -> bool:
        """Whether every point has been proposed and told."""
        return self._is_exhausted

    @property
    def running(self) -> frozenset[int]:
        return frozenset(self._live)

    @property
    def ready(self) -> int | None:
        """How many trials it could propose now; None: as many as are wanted."""
        return None

    def know(self, trials: Iterable[Trial]) -> None:
        """What it knows it was told."""

    def propose(self, number: int) -> Proposal:
        return Proposal(self.ask(number))

    def ask(self, number: int) -> Values:
        """The values of trial `number`, the next.

        Raises:
            SearchBroken: the sampler stumbled.
        """
        with _answering(f"sampler {self._search.sampler}"):
            trial = self._study.ask()
            self._live[number] = trial
            self._reports[number] = 0
            return self._suggest(trial)

    def report(self, number: int, value: float) -> bool:
        """Take the next intermediate value of a running trial. True: it should be stopped.

        Steps are counted, not taken from the script: with another batch size an epoch has another number of steps.
        """
        trial = self._live[number]
        if not math.isfinite(value):
            return False
        with _answering(f"pruner {self._search.pruner}"):
            trial.report(value, self._reports[number])
            self._reports[number] += 1
            return bool(trial.should_prune())

    def reports_seen(self, number: int) -> int:
        return self._reports.get(number, 0)

    def tell(self, number: int, state: TrialState, value: float | None) -> None:
        """The end of a trial. Anything that gave no number counts as failed."""
        trial = self._live.pop(number)
        self._reports.pop(number, None)
        states = self._optuna.trial.TrialState
        with _answering(f"sampler {self._search.sampler}"):
            if state is TrialState.SUCCEEDED and value is not None and math.isfinite(value):
                self._study.tell(trial, value)
            elif state is TrialState.PRUNED:
                self._study.tell(trial, state=states.PRUNED)
            else:
                self._study.tell(trial, state=states.FAIL)

    def replay(self, trials: Sequence[Trial]) -> None:
        """Bring a new proposer to where the one that made `trials` was. Values on record win over those proposed again."""
        if len(trials) > REPLAY_LIMIT:
            self.feed(trials)
            return
        events = [(trial.asked_at, 0, trial) for trial in trials]
        events += [(trial.told_at, 1, trial) for trial in trials if trial.told_at is not None]
        for _, kind, trial in sorted(events, key=lambda event: event[:2]):
            if kind == 0:
                self._ask_again(trial)
            else:
                self._report_again(trial)
                self.tell(trial.number, trial.state, trial.value)
        for trial in trials:
            if trial.told_at is None:
                self._report_again(trial)

    def importance(self) -> dict[str, float]:
        """How much of the variation of the result each parameter explains; empty while there are too few trials."""
        import warnings

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # PED-ANOVA: milliseconds, and needs no scikit-learn as fANOVA does.
                evaluator = self._optuna.importance.PedAnovaImportanceEvaluator()
                found = self._optuna.importance.get_param_importances(self._study, evaluator=evaluator)
        except (ValueError, RuntimeError):
            return {}
        return {name: float(value) for name, value in found.items()}

    def _ask_again(self, trial: Trial) -> None:
        proposed = self.ask(trial.number)
        if proposed != trial.values:
            self._force(self._live[trial.number], trial.values)

    def _force(self, live: Any, values: Values) -> None:
        storage, number = self._study._storage, live._trial_id
        frozen = storage._get_trial(number)
        frozen.params = {name: self._internal(name, value) for name, value in values.items()}
        frozen.distributions = {name: self._distributions[name] for name in values}

    def _report_again(self, trial: Trial) -> None:
        for _, value in trial.reports:
            self.report(trial.number, value)

    def feed(self, trials: Sequence[Trial]) -> None:
        """Take in a record at once: what the sampler knows is the same, its random numbers are not."""
        optuna, states = self._optuna, self._optuna.trial.TrialState
        kinds = {TrialState.SUCCEEDED: states.COMPLETE, TrialState.PRUNED: states.PRUNED}
        for trial in sorted(trials, key=lambda trial: trial.number):
            if trial.state is TrialState.RUNNING:
                self._study.enqueue_trial({name: self._internal(name, value) for name, value in trial.values.items()})
                self.ask(trial.number)
                self._report_again(trial)
                continue
            state = kinds.get(trial.state, states.FAIL)
            if state is states.COMPLETE and trial.value is None:
                state = states.FAIL
            reports = {index: value for index, (_, value) in enumerate(trial.reports) if math.isfinite(value)}
            if state is states.PRUNED and not reports:
                state = states.FAIL
            self._study.add_trial(
                optuna.trial.create_trial(
                    params={name: self._internal(name, value) for name, value in trial.values.items()},
                    distributions={name: self._distributions[name] for name in trial.values},
                    value=trial.value if state is states.COMPLETE else None,
                    state=state,
                    intermediate_values=reports,
                )
            )

    def _suggest(self, trial: Any) -> Values:
        values: Values = {}
        for parameter in self._space:
            if parameter.is_active(values):
                drawn = trial._suggest(parameter.name, self._distributions[parameter.name])
                values[parameter.name] = _external(parameter, drawn)
        return values

    def _internal(self, name: str, value: Value) -> Any:
        parameter = next(item for item in self._space if item.name == name)
        return int(math.log2(value)) if parameter.scale is Scale.POWER_OF_TWO and isinstance(value, int | float) else value

    def _add_earlier(self, trial: Earlier) -> None:
        values = usable(trial.values, self._space, self._search)
        if not values or not math.isfinite(trial.value):
            return
        self._study.add_trial(
            self._optuna.trial.create_trial(
                params={name: self._internal(name, value) for name, value in values.items()},
                distributions={name: self._distributions[name] for name in values},
                value=trial.value,
            )
        )

    def _stop(self) -> None:
        self._is_exhausted = True


def usable(values: Values, space: Space, search: Search) -> Values:
    """What of an earlier trial's values a search can learn from; empty if nothing.

    TPE looks at each parameter by itself, so those that are in both spaces count. Others need the whole point.
    """
    known = {parameter.name: parameter for parameter in space}
    kept = {name: value for name, value in values.items() if name in known and known[name].contains(value)}
    options = dict(search.sampler_options)
    if search.sampler == "tpe" and not options.get("multivariate"):
        return kept
    wanted = {parameter.name for parameter in space if parameter.is_active(kept)}
    return kept if set(kept) == wanted else {}


@contextmanager
def _answering(part: str) -> Iterator[None]:
    """Raises SearchBroken where Optuna raises."""
    try:
        yield
    except Exception as error:
        # Broad on purpose: numerics, memory, a bug of a library; each ends this search and no other.
        what = f"the {part} stumbled ({type(error).__name__}: {str(error)[:200]})"
        raise SearchBroken(f"{what}.", remedy="Begin another study with another sampler or pruner, and start it from this one.") from error


def import_optuna() -> Any:
    """Optuna, quiet.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import optuna
    except ImportError as problem:
        if (problem.name or "").partition(".")[0] == "optuna":
            raise MissingExtra("Tuning", "tuning") from None
        raise
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def _distribution(optuna: Any, parameter: Parameter) -> Any:
    make = optuna.distributions
    if parameter.kind is Kind.BOOL:
        return make.CategoricalDistribution((True, False))
    if parameter.kind is Kind.CATEGORICAL:
        return make.CategoricalDistribution(parameter.choices)
    assert parameter.low is not None and parameter.high is not None
    if parameter.scale is Scale.POWER_OF_TWO:
        return make.IntDistribution(int(math.log2(parameter.low)), int(math.log2(parameter.high)))
    is_log = parameter.scale is Scale.LOG
    if parameter.kind is Kind.INT:
        return make.IntDistribution(int(parameter.low), int(parameter.high), log=is_log, step=int(parameter.step or 1))
    return make.FloatDistribution(float(parameter.low), float(parameter.high), log=is_log, step=parameter.step)


def _external(parameter: Parameter, drawn: Any) -> Value:
    if parameter.scale is Scale.POWER_OF_TWO:
        return int(2**drawn)
    value: Value = drawn
    return value


def _sampler(optuna: Any, search: Search, space: Space, distributions: Mapping[str, Any]) -> Any:
    options = _checked(search.sampler, search.sampler_options, SAMPLERS, "sampler")
    samplers, seed = optuna.samplers, search.seed
    makers: dict[str, Callable[[], Any]] = {
        "tpe": lambda: samplers.TPESampler(seed=seed, **options),
        "random": lambda: samplers.RandomSampler(seed=seed),
        "grid": lambda: _grid(samplers, space, distributions, seed),
        "exhaustive": lambda: samplers.BruteForceSampler(seed=seed),
        "qmc": lambda: samplers.QMCSampler(seed=seed, warn_independent_sampling=False, warn_asynchronous_seeding=False, **options),
        "gp": lambda: samplers.GPSampler(seed=seed, **options),
        "cmaes": lambda: samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, **options),
        "nsga2": lambda: samplers.NSGAIISampler(seed=seed, **options),
    }
    return _made(makers[search.sampler], "sampler", search.sampler)


def _grid(samplers: Any, space: Space, distributions: Mapping[str, Any], seed: int) -> Any:
    if space.size is None:
        open_ended = next(parameter.name for parameter in space if parameter.size is None)
        raise BadInput(
            f"A grid needs a countable space, and {open_ended!r} is continuous.",
            remedy=f"Give it a step or choices, such as: {open_ended}=0..1 step 0.1",
            field="sampler",
            code="bad_sampler",
        )
    if space.size > 1_000_000:
        raise BadInput(f"The grid has {space.size:,} points.", remedy="Use fewer values, or another sampler.", field="sampler")
    if any(parameter.when for parameter in space):
        return samplers.BruteForceSampler(seed=seed)
    return samplers.GridSampler({parameter.name: _points(parameter, distributions[parameter.name]) for parameter in space}, seed=seed)


def _points(parameter: Parameter, distribution: Any) -> list[Any]:
    if hasattr(distribution, "choices"):
        return list(distribution.choices)
    size = parameter.size or 0
    if parameter.scale is Scale.LOG:
        return list(range(distribution.low, distribution.high + 1))
    return [distribution.low + index * (distribution.step or 1) for index in range(size)]


def _pruner(optuna: Any, search: Search) -> Any:
    options = _checked(search.pruner, search.pruner_options, PRUNERS, "pruner")
    pruners = optuna.pruners
    makers: dict[str, Callable[[], Any]] = {
        "none": lambda: pruners.NopPruner(),
        "median": lambda: pruners.MedianPruner(**options),
        "percentile": lambda: pruners.PercentilePruner(**{"percentile": 50.0, **options}),
        "asha": lambda: pruners.SuccessiveHalvingPruner(**options),
        "hyperband": lambda: pruners.HyperbandPruner(**options),
        "patient": lambda: pruners.PatientPruner(pruners.MedianPruner(), **{"patience": 3, **options}),
        "threshold": lambda: pruners.ThresholdPruner(**options),
        "wilcoxon": lambda: pruners.WilcoxonPruner(**options),
    }
    return _made(makers[search.pruner], "pruner", search.pruner)


def _checked(name: str, options: Sequence[tuple[str, Any]], known: Mapping[str, _Options], noun: str) -> dict[str, Any]:
    if name not in known:
        raise BadInput(f"There is no {noun} {name[:60]!r}.", remedy=f"Choose one of {', '.join(known)}.", field=noun, code=f"bad_{noun}")
    for option, value in options:
        kinds = known[name].get(option)
        if kinds is None:
            listed = ", ".join(known[name]) or "none"
            raise BadInput(
                f"The {noun} {name} has no option {option[:60]!r}; it has {listed}.", field=f"{noun}_options", code=f"bad_{noun}"
            )
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            words = " or ".join(kind.__name__ for kind in kinds)
            raise BadInput(f"Option {option} of the {noun} {name} is of type {words}, not {value!r}.", field=f"{noun}_options")
        if kinds == _COUNT and isinstance(value, int) and value < 0:
            raise BadInput(f"Option {option} of the {noun} {name} is 0 or more, not {value}.", field=f"{noun}_options")
    return dict(options)


def _made(make: Callable[[], Any], noun: str, name: str) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()
    except ImportError as problem:
        raise BadInput(
            f"The {noun} {name} needs the package {problem.name}.", remedy=f"Install it: pip install {problem.name}", field=noun
        ) from None
    except (ValueError, TypeError) as problem:
        raise BadInput(f"The {noun} {name} does not accept these options: {problem}", field=f"{noun}_options") from None
