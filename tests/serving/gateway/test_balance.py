"""Choices of the gateway, as properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from narf.serving.gateway.balance import (
    EJECT_AFTER,
    MOST_EJECT_SECONDS,
    Health,
    RetryBudget,
    choose_replica,
    choose_revision,
    failed,
    succeeded,
)

weights = st.lists(st.floats(0, 100), max_size=5)
draws = st.floats(0, 1, exclude_max=True)


@given(weights, draws)
def test_a_revision_without_weight_is_never_chosen(given_weights, draw):
    chosen = choose_revision(given_weights, draw)
    assert (chosen is None) == (sum(given_weights) <= 0)
    assert chosen is None or given_weights[chosen] > 0


def test_revisions_are_chosen_in_proportion():
    chosen = [choose_revision([90, 10], index / 1000) for index in range(1000)]
    assert chosen.count(1) == 100


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 20)), max_size=6), st.floats(0, 20), draws, st.sets(st.integers(0, 5)))
def test_a_replica_is_in_and_untried_whenever_one_is(replicas, now, draw, tried):
    loads, until = [load for load, _ in replicas], [end for _, end in replicas]
    chosen = choose_replica(loads, until, now, draw, not_these=sorted(tried))
    untried = [index for index in range(len(replicas)) if index not in tried]
    assert (chosen is None) == (not untried)
    if any(until[index] <= now for index in untried):
        assert until[chosen] <= now and chosen not in tried


@given(draws)
def test_of_two_replicas_the_less_loaded_is_chosen(draw):
    assert choose_replica([5, 0], [0, 0], 1, draw) == 1


@given(st.lists(st.booleans(), max_size=100))
def test_health_never_ejects_for_longer_than_the_most_and_good_answers_bring_a_replica_back(answers):
    health, now = Health(), 0.0
    for good in answers:
        now += 1
        health = succeeded(health) if good else failed(health, now)
        assert health.ejected_until - now <= MOST_EJECT_SECONDS and health.failures < EJECT_AFTER
    for _ in range(len(answers) + 1):
        health = succeeded(health)
    assert health == Health()


@given(st.integers(0, 500))
def test_retries_add_a_fifth_at_most(requests):
    budget, retries = RetryBudget(), 0
    for _ in range(requests):
        budget = budget.earned()
        spent = budget.spent()
        if spent is not None:
            budget, retries = spent, retries + 1
    assert retries <= 10 + 0.2 * requests + 1
