"""What a study does next, decided from its record alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.domain.errors import BadInput, IllegalTransition
from narf.domain.workload import Program, Resources
from narf.tuning.decisions import decide, expected_gain
from narf.tuning.space import read_space
from narf.tuning.study import NEXT, Budget, Direction, Fault, Search, Study, StudyEnd, StudyState, Trial, TrialState

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def study(**changes):
    values = {
        "id": "s",
        "project": "p",
        "owner": "ann",
        "name": "s",
        "created_at": NOW,
        "program": Program(script="train.py"),
        "resources": Resources(),
        "space": read_space({"x": "0.0..1.0"}),
        "bindings": (),
        "metric": "val_loss",
        "direction": Direction.MINIMIZE,
        "budget": Budget(trials=10),
        "active_since": NOW,
    }
    return Study(**(values | changes))


def trial(number, state=TrialState.SUCCEEDED, value=0.5, **changes):
    ended = state.is_finished
    defaults = {"told_at": number if ended else None, "started_at": NOW, "ended_at": NOW + timedelta(seconds=2) if ended else None}
    value = value if state is TrialState.SUCCEEDED else None
    return Trial(study_id="s", number=number, values={"x": 0.1}, created_at=NOW, state=state, value=value, **(defaults | changes))


def failed(number, fault=Fault.CRASHED, detail="ValueError: no"):
    return trial(number, TrialState.FAILED, fault=fault, detail=detail)


states = st.lists(st.sampled_from(TrialState), max_size=25)


@given(states, st.integers(1, 8), st.integers(1, 20), st.integers(0, 3), st.booleans())
def test_never_more_trials_than_asked_for(states, parallel, count, waiting, paused):
    trials = [trial(number, state, fault=Fault.CRASHED if state is TrialState.FAILED else None) for number, state in enumerate(states)]
    asked = study(parallel=parallel, budget=Budget(trials=count), state=StudyState.PAUSED if paused else StudyState.RUNNING)
    step = decide(asked, trials, NOW, waiting=waiting)
    running = sum(state is TrialState.RUNNING for state in states)
    assert running + step.ask <= max(parallel, running)
    assert len(trials) + step.ask <= max(count, len(trials))
    assert step.ask == 0 or not paused
    assert step.ask == 0 or waiting == 0
    assert step.end is None or step.ask == 0
    assert decide(asked, trials, NOW, waiting=waiting) == step


@given(states)
def test_a_study_that_may_go_on_does(states):
    """While something works and the budget allows, either trials run, or some are begun, or it ends."""
    trials = [trial(number, state, fault=Fault.CRASHED if state is TrialState.FAILED else None) for number, state in enumerate(states)]
    step = decide(study(budget=Budget(trials=20)), trials, NOW)
    assert step.ask or step.end or step.stop or any(state is TrialState.RUNNING for state in states)


def test_it_ends_when_all_trials_are_done():
    assert decide(study(budget=Budget(trials=3)), [trial(n) for n in range(3)], NOW).end is StudyEnd.TRIALS


def test_it_waits_for_the_last_trial():
    step = decide(study(budget=Budget(trials=2)), [trial(0), trial(1, TrialState.RUNNING)], NOW)
    assert (step.ask, step.end) == (0, None)


def test_when_the_time_is_up_running_trials_are_stopped_and_then_it_ends():
    asked = study(budget=Budget(seconds=60), active_since=NOW - timedelta(seconds=61))
    step = decide(asked, [trial(0), trial(1, TrialState.RUNNING)], NOW)
    assert step.stop == ((1, TrialState.CANCELLED, None),)
    assert step.end is None
    assert decide(asked, [trial(0), trial(1, TrialState.CANCELLED)], NOW).end is StudyEnd.TIME


def test_a_pause_costs_no_time():
    paused = study(budget=Budget(seconds=60), active_seconds=30.0, active_since=None, state=StudyState.PAUSED)
    assert decide(paused, [trial(0)], NOW + timedelta(days=1)).end is None


def test_gpu_hours_are_counted_over_all_trials():
    trials = [trial(number, gpu_seconds=1800.0) for number in range(4)]
    assert decide(study(budget=Budget(gpu_hours=2)), trials, NOW).end is StudyEnd.GPU_HOURS
    assert decide(study(budget=Budget(gpu_hours=2.5)), trials, NOW).end is None


def test_a_plateau_ends_it_and_progress_does_not():
    flat = [trial(number, value=1 / (number + 1) if number < 5 else 0.2) for number in range(30)]
    falling = [trial(number, value=30.0 - number) for number in range(30)]
    asked = study(budget=Budget(trials=100, least_gain=0.01))
    assert decide(asked, flat, NOW).end is StudyEnd.PLATEAU
    assert decide(asked, falling, NOW).end is None


@given(st.lists(st.floats(-1e6, 1e6), max_size=60))
def test_the_expected_gain_is_never_negative_and_the_same_upside_down(values):
    trials = [trial(number, value=value) for number, value in enumerate(values)]
    mirrored = [trial(number, value=-value) for number, value in enumerate(values)]
    gain = expected_gain(Direction.MINIMIZE, trials)
    assert gain is None or gain >= 0
    assert gain == expected_gain(Direction.MAXIMIZE, mirrored)
    assert (gain is None) == (len(values) < 20)


def test_it_stops_early_when_all_trials_fail_alike_and_says_how():
    step = decide(study(), [failed(n, detail=f"ValueError: lr={n / 10} is too large") for n in range(3)], NOW)
    assert step.end is StudyEnd.ALL_FAIL
    assert "lr=0.2 is too large" in step.end.sentence(step.detail)


@pytest.mark.parametrize(
    "trials",
    [
        [failed(0), failed(1)],
        [failed(0), failed(1), failed(2, detail="KeyError: 'x'")],
        [trial(0), failed(1), failed(2), failed(3)],
        [failed(0), failed(1), failed(2), trial(3, TrialState.PRUNED)],
    ],
)
def test_it_goes_on_while_not_all_fail_alike(trials):
    step = decide(study(), trials, NOW)
    assert step.end is None
    assert step.ask > 0


def test_a_metric_that_never_appears_is_named():
    step = decide(study(), [failed(n, Fault.NO_METRIC, "It reported train_loss.") for n in range(3)], NOW)
    assert "without reporting val_loss" in step.end.sentence(step.detail)
    assert "It reported train_loss" in step.end.sentence(step.detail)


def test_if_nothing_worked_in_the_end_it_has_failed():
    trials = [failed(0), failed(1, Fault.DIVERGED, "")]
    assert decide(study(budget=Budget(trials=2)), trials, NOW).end is StudyEnd.NOTHING_WORKED


def test_a_study_whose_time_is_up_before_a_trial_has_ended_has_failed_and_says_so():
    later = NOW + timedelta(seconds=10)
    step = decide(study(budget=Budget(seconds=5)), [trial(0, TrialState.CANCELLED)], later)
    assert step.end is StudyEnd.NOTHING_WORKED
    assert step.end.sentence(step.detail) == "No trial gave a value: none had ended by then. The time of the budget is used up."


def test_a_study_all_of_whose_trials_were_stopped_early_has_failed_and_names_the_pruner():
    trials = [trial(0, TrialState.PRUNED), trial(1, TrialState.PRUNED), failed(2)]
    step = decide(study(budget=Budget(trials=3), search=Search(pruner="threshold")), trials, NOW)
    assert step.end is StudyEnd.NOTHING_WORKED
    assert "the pruner threshold stopped each" in step.detail


def test_a_trial_that_hangs_is_stopped_by_the_measure_of_the_others():
    done = [trial(number) for number in range(5)]
    slow = trial(5, TrialState.RUNNING, started_at=NOW - timedelta(seconds=90))
    assert decide(study(), [*done, slow], NOW).stop == ((5, TrialState.FAILED, Fault.HUNG),)
    assert decide(study(), [*done[:4], slow], NOW).stop == ()
    assert decide(study(), [*done, replace(slow, started_at=NOW - timedelta(seconds=50))], NOW).stop == ()


def test_an_exhausted_space_ends_it():
    assert decide(study(), [trial(0)], NOW, exhausted=True).end is StudyEnd.EXHAUSTED


def test_the_table_of_moves_covers_every_state():
    assert set(NEXT) == set(StudyState)
    with pytest.raises(IllegalTransition):
        study(state=StudyState.SUCCEEDED).to(StudyState.PAUSED)


@pytest.mark.parametrize(
    "budget", [{}, {"trials": 0}, {"seconds": -1.0}, {"gpu_hours": float("nan")}, {"trials": 10**6}, {"least_gain": 0.1}]
)
def test_a_budget_without_sense_is_refused(budget):
    with pytest.raises(BadInput):
        Budget(**budget)


def test_every_reason_has_its_sentence():
    assert all(end.sentence() for end in StudyEnd)
    assert all(fault.sentence(metric="m") for fault in Fault)
