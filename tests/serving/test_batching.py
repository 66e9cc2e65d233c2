"""The batching decision, as properties."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from narf.serving.batching import Cost, Policy, learn, next_batch, retry_after


@dataclass(frozen=True)
class Request:
    rows: int = 1
    key: int = 0
    deadline: float = 100.0
    cancelled: bool = False


requests = st.builds(Request, st.integers(1, 80), st.integers(0, 2), st.floats(0, 20), st.booleans())
queues = st.lists(requests, max_size=30)
costs = st.builds(Cost, st.floats(0, 1), st.floats(0, 0.1))


@given(queues, st.integers(1, 64), costs, st.floats(0, 20))
def test_every_request_has_one_fate_and_a_batch_is_one_that_can_be_stacked(queue, batch_rows, cost, now):
    decision = next_batch(queue, Policy(batch_rows=batch_rows), cost, now)
    fates = [*decision.run, *decision.expired, *decision.dropped]
    assert len(set(fates)) == len(fates) and list(decision.run) == sorted(decision.run)
    assert all(queue[index].cancelled for index in decision.dropped)
    assert not any(queue[index].cancelled for index in (*decision.run, *decision.expired))
    batch = [queue[index] for index in decision.run]
    assert len({request.key for request in batch}) <= 1
    assert len(batch) == 1 or sum(request.rows for request in batch) <= batch_rows
    assert all(now < request.deadline for request in batch)


@given(queues, st.integers(1, 64), costs, st.floats(0, 20))
def test_something_runs_whenever_anything_can_and_the_oldest_that_can_is_in_it(queue, batch_rows, cost, now):
    decision = next_batch(queue, Policy(batch_rows=batch_rows), cost, now)
    possible = [i for i, request in enumerate(queue) if not request.cancelled and now < request.deadline]
    assert bool(decision.run) == bool(possible)
    in_time = [i for i in possible if now + cost.seconds(queue[i].rows) <= queue[i].deadline]
    if in_time:
        assert decision.run[0] == in_time[0]


@given(queues, st.integers(1, 64), costs, st.floats(0, 20))
def test_deciding_until_the_queue_is_empty_ends_and_keeps_the_order_within_a_key(queue, batch_rows, cost, now):
    left, order, rounds = list(enumerate(queue)), [], 0
    while left:
        decision = next_batch([request for _, request in left], Policy(batch_rows=batch_rows), cost, now)
        order += [left[index][0] for index in decision.run]
        gone = {*decision.run, *decision.expired, *decision.dropped}
        assert gone
        left = [item for index, item in enumerate(left) if index not in gone]
        rounds += 1
        assert rounds <= len(queue)
    if cost == Cost():
        for key in range(3):
            mine = [index for index in order if queue[index].key == key and queue[index].rows == 1]
            assert mine == sorted(mine)


def test_a_lone_request_runs_at_once_and_all_that_wait_run_together():
    assert next_batch([Request()], Policy(), Cost(), 0).run == (0,)
    assert next_batch([Request()] * 20, Policy(batch_rows=16), Cost(), 0).run == tuple(range(16))


def test_a_batch_stops_where_it_would_make_an_earlier_request_late():
    queue = [Request(deadline=1.0), Request(), Request(), Request()]
    assert next_batch(queue, Policy(), Cost(0.5, 0.2), 0).run == (0, 1)


def test_an_estimate_that_says_everything_is_late_is_put_to_the_test():
    decision = next_batch([Request(deadline=1), Request(deadline=1)], Policy(), Cost(1000, 0), 0)
    assert decision.run == (0,) and decision.expired == (1,)


@given(st.integers(0, 50), st.integers(0, 500), st.integers(1, 50), costs, st.floats(0.001, 30))
def test_an_empty_queue_lets_everything_in_and_a_refusal_says_when(requests, rows, mine, cost, left):
    policy = Policy(queue_requests=20, queue_rows=100)
    if requests == 0:
        assert retry_after(0, 0, mine, policy, cost, left) is None
    wait = retry_after(requests, rows, mine, policy, cost, left)
    assert wait is None or wait >= 0.05
    if requests >= 20:
        assert wait is not None


@given(st.floats(0.0001, 0.1), st.floats(0, 0.01), costs)
def test_the_cost_is_learned_from_what_batches_took(fixed, per_row, start):
    cost = start
    for _ in range(800):
        for rows in (1, 2, 8):
            cost = learn(cost, rows, fixed + per_row * rows)
    for rows in (1, 4, 8):
        assert abs(cost.seconds(rows) - (fixed + per_row * rows)) < 0.2 * (fixed + per_row * rows) + 1e-4
