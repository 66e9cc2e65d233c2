"""How many replicas: properties of the decision."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from narf.control.endpoints.scaling import REST, STABLE, Demand, Idler, Limits, shares, wanted_replicas, who_sleeps

NOW = datetime(2026, 1, 1, tzinfo=UTC)
limits = st.integers(0, 5).flatmap(
    lambda least: st.builds(Limits, least=st.just(least), most=st.integers(max(least, 1), 20), target=st.floats(0.5, 50))
)
demands = st.lists(
    st.builds(
        Demand,
        at=st.integers(0, 600).map(lambda s: NOW - timedelta(seconds=s)),
        concurrency=st.integers(0, 500),
        waiting=st.integers(0, 50),
    ),
    max_size=20,
)


@given(demands, limits, st.none() | st.integers(0, 2000))
def test_the_number_is_within_its_limits_and_serves_the_peak_as_far_as_they_allow(history, limit, ago):
    used = None if ago is None else NOW - timedelta(seconds=ago)
    wanted = wanted_replicas(history, limit, NOW, last_used=used)
    assert limit.least <= wanted <= limit.most
    peak = max((d.concurrency + d.waiting for d in history if NOW - d.at <= STABLE), default=0)
    assert wanted == limit.most or wanted * limit.target >= peak
    if peak > 0:
        assert wanted >= 1


@given(demands, limits)
def test_more_demand_never_means_fewer_replicas(history, limit):
    busier = [Demand(at=d.at, concurrency=d.concurrency + 10, waiting=d.waiting) for d in history]
    assert wanted_replicas(busier, limit, NOW, last_used=None) >= wanted_replicas(history, limit, NOW, last_used=None)


def test_it_goes_to_zero_only_after_the_idle_time_and_comes_back_when_somebody_waits():
    limit = Limits(least=0, most=4, idle=timedelta(minutes=5))
    assert wanted_replicas([], limit, NOW, last_used=NOW - timedelta(minutes=4)) == 1
    assert wanted_replicas([], limit, NOW, last_used=NOW - timedelta(minutes=6)) == 0
    assert wanted_replicas([Demand(at=NOW, concurrency=0, waiting=1)], limit, NOW, last_used=None) == 1
    assert wanted_replicas([], Limits(least=2, most=4), NOW, last_used=None) == 2


@given(st.integers(0, 50), st.lists(st.floats(0, 100), max_size=5))
def test_shares_add_up_and_each_weight_gets_one(total, weights):
    split = shares(total, weights)
    carrying = [index for index, weight in enumerate(weights) if weight > 0]
    assert all(split[index] == 0 for index in range(len(weights)) if index not in carrying)
    if total > 0 and carrying:
        assert all(split[index] >= 1 for index in carrying)
        assert sum(split) == max(total, len(carrying))
    else:
        assert sum(split) == 0


idlers = st.builds(
    Idler,
    endpoint=st.uuids().map(str),
    project=st.sampled_from(["ours", "theirs"]),
    cpu=st.sampled_from([0.1, 2.0]),
    memory_bytes=st.sampled_from([0, 1 << 30]),
    gpu=st.sampled_from([0.0, 1.0]),
    last_used=st.integers(0, 100).map(lambda seconds: NOW - timedelta(seconds=seconds)),
)


@given(st.lists(idlers, max_size=6), st.sampled_from(["cpu", "memory", "gpu", "gpu:a100"]), st.booleans())
def test_who_is_put_to_sleep_rests_has_what_is_needed_and_is_the_projects_own_if_any_is(resting, resource, in_project):
    chosen = who_sleeps(resting, "ours", resource, NOW, in_project=in_project)
    holds = {"cpu": lambda i: i.cpu, "memory": lambda i: i.memory_bytes, "gpu": lambda i: i.gpu}[resource.partition(":")[0]]
    helping = [i for i in resting if holds(i) > 0 and NOW - i.last_used >= REST]
    ours = [i for i in helping if i.project == "ours"]
    if chosen is None:
        assert not ours and (in_project or not helping)
    else:
        group = ours or helping
        assert chosen in group and chosen.last_used == min(i.last_used for i in group)
        assert chosen.project == "ours" or not in_project
