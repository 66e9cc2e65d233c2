"""Canary steps: when to go on, when to go back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from narf.control.endpoints.rollout import Answers, Move, Policy, next_move, percentile
from narf.serving.gateway.table import LATENCY_BOUNDS as BOUNDS

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(steps=(10, 50))


def answers(requests, errors=0, milliseconds=2.0):
    histogram = [0] * (len(BOUNDS) + 1)
    histogram[next((i for i, bound in enumerate(BOUNDS) if milliseconds <= bound), len(BOUNDS))] = requests
    return Answers(requests=requests, errors=errors, histogram=tuple(histogram))


def move(new, old, *, step=0, seconds=30.0, policy=POLICY):
    return next_move(policy, step, BEGAN, new, old, BOUNDS, BEGAN + timedelta(seconds=seconds)).move


def test_a_good_canary_goes_step_by_step_to_everything():
    good, old = answers(100), answers(900)
    assert move(good, old, step=0) is Move.ADVANCE
    assert move(good, old, step=1) is Move.PROMOTE


def test_a_step_lasts_until_it_saw_enough_or_took_too_long():
    assert move(answers(10), answers(90)) is Move.HOLD
    assert move(answers(1000), answers(90), seconds=5) is Move.HOLD
    assert move(answers(0), answers(0), seconds=601) is Move.ADVANCE


def test_errors_and_slowness_roll_back_before_the_step_ends():
    assert move(answers(20, errors=5), answers(180), seconds=1) is Move.ROLL_BACK
    assert move(answers(100, milliseconds=400), answers(900, milliseconds=2), seconds=1) is Move.ROLL_BACK
    assert move(answers(100, errors=5), answers(900, errors=45)) is Move.ADVANCE  # as bad as before is not worse


@given(st.integers(0, 5000), st.integers(0, 5000), st.floats(0, 1), st.floats(0, 2000), st.integers(0, 1))
def test_a_canary_without_errors_and_as_fast_is_never_rolled_back(new, old, rate, seconds, step):
    assert move(answers(new), answers(old, errors=int(old * rate)), seconds=seconds, step=step) is not Move.ROLL_BACK


@given(st.integers(50, 5000), st.integers(50, 5000), st.integers(0, 100))
def test_a_revision_that_always_fails_is_rolled_back_whatever_the_other_did_well(new, old, errors):
    assert move(answers(new, errors=new), answers(old, errors=min(errors, old // 4))) is Move.ROLL_BACK


@given(st.lists(st.integers(0, 100), min_size=len(BOUNDS) + 1, max_size=len(BOUNDS) + 1), st.floats(0.01, 1), st.floats(0.01, 1))
def test_percentiles_grow_with_their_share(histogram, one, other):
    low, high = sorted((one, other))
    assert percentile(histogram, BOUNDS, low) <= percentile(histogram, BOUNDS, high)
