"""The proposer gives what Optuna alone gives, and gives it again after it was lost."""

import math
from datetime import UTC, datetime

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.domain.errors import BadInput
from narf.tuning.proposer import Earlier, Proposer
from narf.tuning.space import read_space
from narf.tuning.study import Direction, Search, Trial, TrialState

optuna.logging.set_verbosity(optuna.logging.ERROR)
SPACE = read_space({"x": "-5.0..5.0", "y": "1e-3..10.0 log", "n": "1..9", "o": "a, b, c", "momentum": "0.0..1.0 if o=b"})
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def objective(values):
    penalty = {"a": 0.0, "b": values.get("momentum", 0.0) - 0.5, "c": 2.0}[values["o"]]
    return values["x"] ** 2 + math.log10(values["y"]) ** 2 + (values["n"] - 4) ** 2 / 5 + penalty


def by_optuna_alone(sampler, count):
    def run(trial):
        values = {
            "x": trial.suggest_float("x", -5, 5),
            "y": trial.suggest_float("y", 1e-3, 10, log=True),
            "n": trial.suggest_int("n", 1, 9),
            "o": trial.suggest_categorical("o", ("a", "b", "c")),
        }
        if values["o"] == "b":
            values["momentum"] = trial.suggest_float("momentum", 0, 1)
        return objective(values)

    study = optuna.create_study(sampler=sampler)
    study.optimize(run, n_trials=count)
    return [trial.params for trial in study.trials]


def by_us(search, count, space=SPACE):
    proposer, seen = Proposer(space, Direction.MINIMIZE, search), []
    for number in range(count):
        values = proposer.ask(number)
        seen.append(values)
        proposer.tell(number, TrialState.SUCCEEDED, objective(values))
    return seen


@pytest.mark.parametrize(
    ("search", "sampler"),
    [
        (Search(sampler="tpe", seed=7), lambda: optuna.samplers.TPESampler(seed=7)),
        (Search(sampler="random", seed=7), lambda: optuna.samplers.RandomSampler(seed=7)),
        (Search(sampler="qmc", seed=7), lambda: optuna.samplers.QMCSampler(seed=7, warn_independent_sampling=False)),
        (Search(sampler="nsga2", seed=7), lambda: optuna.samplers.NSGAIISampler(seed=7)),
    ],
    ids=lambda value: value.sampler if isinstance(value, Search) else "",
)
def test_one_after_another_the_trials_are_those_of_optuna_alone(search, sampler):
    assert by_us(search, 25) == by_optuna_alone(sampler(), 25)


def test_the_same_seed_gives_the_same_trials_and_another_seed_others():
    assert by_us(Search(seed=3), 12) == by_us(Search(seed=3), 12)
    assert by_us(Search(seed=3), 12) != by_us(Search(seed=4), 12)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_a_proposer_that_was_lost_goes_on_as_if_nothing_had_happened(data):
    """However asks and tells interleave, replaying the record gives the same next trials."""
    search = Search(sampler=data.draw(st.sampled_from(["tpe", "random"])), pruner="median", seed=data.draw(st.integers(0, 99)))
    proposer, trials, live = Proposer(SPACE, Direction.MINIMIZE, search), {}, []
    for events in range(data.draw(st.integers(1, 30))):
        if not live or (len(live) < 3 and data.draw(st.booleans())):
            number = len(trials)
            trials[number] = Trial(study_id="s", number=number, values=proposer.ask(number), created_at=NOW, asked_at=events)
            live.append(number)
        else:
            number = live.pop(data.draw(st.integers(0, len(live) - 1)))
            state = data.draw(st.sampled_from([TrialState.SUCCEEDED, TrialState.SUCCEEDED, TrialState.FAILED]))
            value = objective(trials[number].values) if state is TrialState.SUCCEEDED else None
            proposer.tell(number, state, value)
            old = trials[number]
            trials[number] = Trial(
                study_id="s",
                number=number,
                values=old.values,
                created_at=NOW,
                asked_at=old.asked_at,
                told_at=events,
                state=state,
                value=value,
            )
    again = Proposer(SPACE, Direction.MINIMIZE, search)
    again.replay(list(trials.values()))
    assert again.running == proposer.running
    for number in range(len(trials), len(trials) + 3):
        assert again.ask(number) == proposer.ask(number)


def test_values_on_record_win_over_those_proposed_again():
    record = Trial(
        study_id="s",
        number=0,
        values={"x": 1.5, "y": 1.0, "n": 3, "o": "a"},
        created_at=NOW,
        state=TrialState.SUCCEEDED,
        value=1.0,
        told_at=1,
    )
    proposer = Proposer(SPACE, Direction.MINIMIZE, Search(seed=1))
    proposer.replay([record])
    assert proposer._study.best_params == record.values


@pytest.mark.parametrize("sampler", ["grid", "exhaustive"])
def test_a_grid_proposes_each_point_once_and_then_says_so(sampler):
    space = read_space({"n": "2..8 pow2", "o": "a, b", "b": "bool", "x": "0..1 step 0.5"})
    proposer = Proposer(space, Direction.MINIMIZE, Search(sampler=sampler))
    points = set()
    while not proposer.is_exhausted:
        number = len(points)
        points.add(tuple(proposer.ask(number).values()))
        proposer.tell(number, TrialState.SUCCEEDED, 0.0)
        assert len(points) == number + 1
    assert len(points) == space.size == 3 * 2 * 2 * 3


def test_powers_of_two_are_proposed_as_such():
    space = read_space({"size": "16..256 pow2"})
    proposer = Proposer(space, Direction.MINIMIZE, Search(sampler="random"))
    assert {proposer.ask(number)["size"] for number in range(60)} == {16, 32, 64, 128, 256}


def test_initial_points_come_first_and_leave_the_rest_to_the_sampler():
    proposer = Proposer(SPACE, Direction.MINIMIZE, Search(), initial=[{"x": 1.25, "o": "c"}])
    values = proposer.ask(0)
    assert (values["x"], values["o"]) == (1.25, "c")
    assert 1 <= values["n"] <= 9


def test_earlier_trials_guide_the_search_and_those_outside_the_space_are_left_out():
    good = [Earlier({"x": 2.0 + i / 100}, i / 100) for i in range(15)]
    bad = [Earlier({"x": -4.0 + i / 5}, 50.0 + i) for i in range(30)]
    outside = [Earlier({"x": 99.0}, -1.0), Earlier({"z": 1}, 0.0)]
    proposer = Proposer(read_space({"x": "-5.0..5.0"}), Direction.MINIMIZE, Search(seed=0), earlier=[*good, *bad, *outside])
    assert len(proposer._study.trials) == 45
    near = 0
    for number in range(10):
        x = proposer.ask(number)["x"]
        near += abs(x - 2) < 1
        proposer.tell(number, TrialState.SUCCEEDED, abs(x - 2))
    assert near >= 4, "a sampler that knows nothing comes so near 2 times in 10"


def test_earlier_trials_of_a_smaller_space_guide_those_that_look_at_each_parameter_by_itself():
    space = read_space({"x": "-5.0..5.0", "y": "0.0..1.0"})
    earlier = [Earlier({"x": 2.0 + i / 100}, i / 100) for i in range(15)] + [Earlier({"x": -4.0 + i / 5}, 50.0 + i) for i in range(30)]
    proposer = Proposer(space, Direction.MINIMIZE, Search(seed=0), earlier=earlier)
    proposed = []
    for number in range(10):
        proposed.append(proposer.ask(number))
        proposer.tell(number, TrialState.SUCCEEDED, abs(proposed[-1]["x"] - 2))
    assert sum(abs(values["x"] - 2) < 1 for values in proposed) >= 4
    assert len({values["y"] for values in proposed}) == 10
    for search in (Search(sampler="gp"), Search(sampler_options=(("multivariate", True),))):
        assert not Proposer(space, Direction.MINIMIZE, search, earlier=earlier)._study.trials, "they need the whole point"


@pytest.mark.parametrize("pruner", ["median", "percentile", "asha", "hyperband", "patient"])
def test_a_trial_far_behind_is_stopped_and_a_leader_is_not(pruner):
    search = Search(pruner=pruner, sampler="random", pruner_options=(("max_resource", 9),) if pruner == "hyperband" else ())
    proposer = Proposer(read_space({"x": "0.0..1.0"}), Direction.MINIMIZE, search)
    for number in range(12):
        proposer.ask(number)
        for _ in range(9):
            proposer.report(number, 0.5 + number / 100)
        proposer.tell(number, TrialState.SUCCEEDED, 0.5 + number / 100)
    for number in range(12, 19):
        proposer.ask(number)
    behind = [proposer.report(number, 9.0 + index) for number in range(12, 18) for index in range(9)]
    ahead = [proposer.report(18, 0.4 - index / 100) for index in range(9)]
    assert any(behind)
    assert not any(ahead)


def test_a_value_that_is_no_number_counts_as_failed():
    proposer = Proposer(SPACE, Direction.MINIMIZE, Search())
    proposer.ask(0)
    assert not proposer.report(0, float("nan"))
    proposer.tell(0, TrialState.SUCCEEDED, float("nan"))
    assert [trial.state.name for trial in proposer._study.trials] == ["FAIL"]


def test_importance_finds_the_parameter_that_matters():
    proposer = Proposer(read_space({"matters": "0.0..1.0", "idle": "0.0..1.0"}), Direction.MINIMIZE, Search(sampler="random"))
    for number in range(40):
        values = proposer.ask(number)
        proposer.tell(number, TrialState.SUCCEEDED, values["matters"])
    importance = proposer.importance()
    assert importance["matters"] > 0.9 > importance["idle"]


@pytest.mark.parametrize(
    ("search", "says"),
    [
        (Search(sampler="oracle"), "no sampler 'oracle'"),
        (Search(pruner="shears"), "no pruner 'shears'"),
        (Search(sampler_options=(("speed", 3),)), "no option 'speed'"),
        (Search(sampler_options=(("n_startup_trials", "many"),)), "of type int"),
        (Search(sampler_options=(("n_startup_trials", -1),)), "0 or more"),
        (Search(pruner="percentile", pruner_options=(("percentile", 400),)), "does not accept"),
        (Search(pruner="threshold"), "does not accept"),
        (Search(sampler="grid"), "continuous"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_with_a_sentence(search, says):
    with pytest.raises(BadInput, match=says):
        Proposer(read_space({"x": "0.0..1.0"}), Direction.MINIMIZE, search)
