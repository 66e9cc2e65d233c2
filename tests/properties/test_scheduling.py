"""What holds for every plan, whatever the cluster looks like."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narf.domain.workload import Resources
from narf.scheduling import (
    DEFAULT_POLICY,
    Node,
    Phase,
    Placed,
    Plan,
    Policy,
    PreemptReason,
    Queue,
    Reason,
    Request,
    plan,
    snapshot_of,
)  # fmt: skip

NOW = 2_000_000.0
QUEUES = ("p", "q", "r")
POLICIES = (
    DEFAULT_POLICY,
    replace(DEFAULT_POLICY, patience_seconds=0.0, min_run_seconds=0.0),
    replace(DEFAULT_POLICY, starvation_seconds=600.0, starved_share=0.5, preemption=False),
)

Case = tuple[list[Node], list[Queue], list[Request]]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    nodes = [
        Node(
            name=f"n{i}", cpu=draw(st.sampled_from([4, 16])), memory_bytes=64, gpus=draw(st.sampled_from([0, 2, 4, 8])),
            flavor=draw(st.sampled_from(["a", "b"])), cluster=draw(st.sampled_from(["", "", "x"])), schedulable=draw(st.sampled_from([True, True, True, False])),
        )
        for i in range(draw(st.integers(1, 5)))
    ]  # fmt: skip
    amounts = st.one_of(st.just({}), st.builds(lambda gpu: {"gpu": gpu}, st.integers(0, 12)))
    tree = draw(st.booleans())
    queues = [Queue(name="d", limit=draw(amounts))] if tree else []
    for name in QUEUES:
        limit = draw(st.one_of(amounts, st.just({"gpu:a": 3}), st.just({"cpu": 6, "memory": 40})))
        queues.append(Queue(name=name, parent="d" if tree and name != "r" else None, quota=draw(amounts), limit=limit))
    resources = st.builds(
        Resources,
        gpu=st.sampled_from([0.0, 0.25, 0.5, 1.0, 1.0, 2.0, 4.0, 8.0]),
        cpu=st.sampled_from([0.5, 1.0, 4.0]),
        memory_bytes=st.sampled_from([0, 1, 16]),
        flavor=st.sampled_from(["", "", "", "a", "z"]),
    )
    requests = [
        Request(
            id=f"w{i}", queue=draw(st.sampled_from(QUEUES)), resources=draw(resources), replicas=draw(st.sampled_from([1, 1, 1, 2, 3])),
            submitted_at=NOW - draw(st.sampled_from([0.0, 100.0, 5_000.0, 200_000.0])), priority=draw(st.sampled_from([0, 0, 5])),
            preemptible=draw(st.sampled_from([True, True, False])), attained_seconds=draw(st.sampled_from([0.0, 1e3, 1e6])),
        )
        for i in range(draw(st.integers(0, 14)))
    ]  # fmt: skip
    if draw(st.booleans()):  # a cluster that is at work already: an earlier plan, some time ago
        half = requests[: len(requests) // 2]
        running = applied(half, plan(snapshot_of(nodes, queues, half), DEFAULT_POLICY, NOW), draw(st.sampled_from([0.0, 4000.0, 90_000.0])))
        requests = running + requests[len(half) :]
    return nodes, queues, requests


@st.composite
def scattered(draw: st.DrawFn) -> Case:
    """Much is free, but here and there: what waits needs it together."""
    size = draw(st.sampled_from([2, 4]))
    nodes = [
        Node(name=f"n{i}", cpu=draw(st.sampled_from([4, 16])), memory_bytes=64, gpus=size, flavor=draw(st.sampled_from(["a", "a", "b"])), cluster="")
        for i in range(draw(st.integers(2, 5)))
    ]  # fmt: skip
    limits = st.one_of(st.just({}), st.builds(lambda gpu: {"gpu": gpu}, st.integers(2, 12)))
    queues = [Queue(name=name, limit=draw(limits), quota=draw(st.sampled_from([{}, {}, {"gpu": 2}]))) for name in QUEUES]
    requests = []
    for node in nodes:
        for gpu in range(size):
            amount = draw(st.sampled_from([0.0, 0.0, 0.5, 1.0, 1.0]))
            if not amount:
                continue
            ran = draw(st.sampled_from([600.0, 4000.0, 90_000.0]))
            requests.append(
                Request(
                    id=f"{node.name}-{gpu}", queue=draw(st.sampled_from(QUEUES)), resources=Resources(gpu=amount, cpu=0.5, memory_bytes=draw(st.sampled_from([0, 8]))),
                    submitted_at=NOW - ran - 100.0, started_at=NOW - ran, phase=Phase.RUNNING, preemptible=draw(st.sampled_from([True, True, True, False])),
                    placed=(Placed(node=node.name, gpu_indices=(gpu,), gpu_fraction=amount if amount < 1 else 0.0),),
                    checkpointed_at=draw(st.sampled_from([None, NOW - 60.0])),
                )
            )  # fmt: skip
    for i in range(draw(st.integers(1, 5))):
        gpu = draw(st.sampled_from([0.5, 1.0, 2.0, 4.0]))
        requests.append(
            Request(
                id=f"w{i}", queue=draw(st.sampled_from(QUEUES)), resources=Resources(gpu=min(gpu, size), cpu=1.0), replicas=draw(st.sampled_from([1, 1, 2])),
                submitted_at=NOW - draw(st.sampled_from([100.0, 5_000.0, 5_000.0, 200_000.0])), priority=draw(st.sampled_from([0, 0, 5])),
            )
        )  # fmt: skip
    return nodes, queues, requests


def applied(requests: list[Request], answer: Plan, ago: float = 0.0) -> list[Request]:
    """`requests` after every decision of `answer` was carried out, `ago` seconds ago."""
    admits = {a.workload: a for a in answer.admits}
    preempts = {p.workload: p for p in answer.preempts}
    holds = {h.workload: h.placed for h in answer.holds}
    after = []
    for request in requests:
        if request.id in admits:
            request = replace(request, phase=Phase.RUNNING, placed=admits[request.id].placed, started_at=NOW - ago)
        elif request.id in preempts:
            request = replace(request, phase=Phase.STOPPING, moves_to=preempts[request.id].moves_to)
        elif request.phase is Phase.STOPPING:
            request = replace(request, moves_to=holds.get(request.id, ()))
        elif request.phase is Phase.PENDING:
            request = replace(request, placed=holds.get(request.id, ()))
        after.append(request)
    return after


def left(requests: list[Request]) -> list[Request]:
    """`requests` once everything that was told to leave has left."""
    return [
        replace(r, phase=Phase.PENDING, placed=r.moves_to, moves_to=(), started_at=None, queued_at=NOW) if r.phase is Phase.STOPPING else r for r in requests
    ]  # fmt: skip


def decide(case: Case, policy: Policy) -> Plan:
    return plan(snapshot_of(*case), policy, NOW)


def held_by_queue(case: Case, requests: list[Request]) -> dict[str, Counter[str]]:
    nodes, queues, _ = case
    flavor = {node.name: node.flavor for node in nodes}
    parent = {queue.name: queue.parent for queue in queues}
    held: dict[str, Counter[str]] = defaultdict(Counter)
    for request in requests:
        if request.phase is Phase.PENDING:
            continue
        queue: str | None = request.queue
        while queue is not None:
            held[queue]["gpu"] += request.resources.gpu * request.replicas
            held[queue]["cpu"] += request.resources.cpu * request.replicas
            held[queue]["memory"] += request.resources.memory_bytes * request.replicas
            for placed in request.placed:
                held[queue][f"gpu:{flavor[placed.node]}"] += request.resources.gpu
            queue = parent[queue]
    return held


def check_capacity(nodes: list[Node], requests: list[Request], *, of_pending: bool) -> None:
    cpu, memory, gpus = Counter(), Counter(), Counter()
    for request in requests:
        if request.phase is Phase.PENDING and not of_pending:
            continue
        for placed in request.placed:
            cpu[placed.node] += request.resources.cpu
            memory[placed.node] += request.resources.memory_bytes
            for gpu in placed.gpu_indices:
                gpus[placed.node, gpu] += min(1.0, request.resources.gpu)
    for node in nodes:
        assert cpu[node.name] <= node.cpu
        assert memory[node.name] <= node.memory_bytes
    assert all(amount <= 1 for amount in gpus.values())
    assert all(index < next(n.gpus for n in nodes if n.name == name) for name, index in gpus)


given_cases = given(st.one_of(cases(), scattered()), st.sampled_from(POLICIES))
unhurried = settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@unhurried
@given_cases
def test_nothing_is_given_twice(case: Case, policy: Policy) -> None:
    nodes, queues, requests = case
    answer = decide(case, policy)
    after = applied(requests, answer)
    check_capacity(nodes, after, of_pending=False)
    check_capacity(nodes, left(after), of_pending=True)  # holds and all
    held_before = held_by_queue(case, requests)
    for queue in queues:
        for resource, most in queue.limit.items():
            held = held_by_queue(case, after)[queue.name][resource]
            assert held <= most or held <= held_before[queue.name][resource], (queue.name, resource)


@unhurried
@given_cases
def test_a_gang_is_whole_and_where_it_may_be(case: Case, policy: Policy) -> None:
    nodes, _, requests = case
    by_id, node_of = {r.id: r for r in requests}, {n.name: n for n in nodes}
    answer = decide(case, policy)
    for admit in [*answer.admits, *answer.holds]:
        request = by_id[admit.workload]
        assert len(admit.placed) == request.replicas
        assert len({node_of[placed.node].cluster for placed in admit.placed}) == 1
        for placed in admit.placed:
            assert node_of[placed.node].schedulable
            assert request.resources.flavor in ("", node_of[placed.node].flavor)
            assert (
                len(set(placed.gpu_indices)) == len(placed.gpu_indices) == (1 if 0 < request.resources.gpu < 1 else request.resources.gpu)
            )
    assert len({d.workload for d in answer.decisions}) == len(answer.decisions)


@unhurried
@given_cases
def test_a_second_plan_after_the_first_decides_nothing(case: Case, policy: Policy) -> None:
    nodes, queues, requests = case
    after = applied(requests, decide(case, policy))
    again = decide((nodes, queues, after), policy)
    assert again.is_empty, again.decisions


@unhurried
@given(st.one_of(cases(), scattered()), st.sampled_from(POLICIES), st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(case: Case, policy: Policy, rng: random.Random) -> None:
    nodes, queues, requests = case
    first = decide(case, policy)
    shuffled = [*requests]
    rng.shuffle(shuffled)
    second = decide((nodes, queues, shuffled), policy)
    assert first.decisions == second.decisions
    assert dict(first.waiting) == dict(second.waiting)


@unhurried
@given_cases
def test_every_workload_that_waits_has_one_reason_and_nothing_else_has(case: Case, policy: Policy) -> None:
    _, _, requests = case
    answer = decide(case, policy)
    admitted = {a.workload for a in answer.admits}
    assert set(answer.waiting) == {r.id for r in requests if r.phase is Phase.PENDING} - admitted
    assert sorted(w.position for w in answer.waiting.values()) == list(range(1, len(answer.waiting) + 1))
    held = {h.workload for h in answer.holds}
    assert {w.workload for w in answer.waiting.values() if w.reason is Reason.STOPPING} == held


@unhurried
@given_cases
def test_the_reason_is_true(case: Case, policy: Policy) -> None:
    """Taking the binding constraint away would let it start, or at least change what is said."""
    nodes, queues, requests = case
    after = applied(requests, decide(case, policy))
    answer = decide((nodes, queues, after), policy)
    for why in answer.waiting.values():
        request = next(r for r in after if r.id == why.workload)
        if why.reason is Reason.LIMIT:
            freed = [replace(q, limit={}) for q in queues]
            again = decide((nodes, freed, after), policy)
            assert why.workload not in again.waiting or again.waiting[why.workload].reason is not Reason.LIMIT
        elif why.reason is Reason.NEVER_FITS:
            alone = replace(request, placed=())
            assert decide((nodes, [], [alone]), policy).admits == []
        elif why.reason is Reason.NO_NODE_MATCHES:
            allowed = [n for n in nodes if n.schedulable and request.resources.flavor in ("", n.flavor)]
            assert allowed == [], request
        elif why.reason is Reason.FRAGMENTED and request.resources.gpu:
            assert why.available >= why.asked


@unhurried
@given_cases
def test_victims_are_all_needed_and_the_firm_ones_stay(case: Case, policy: Policy) -> None:
    nodes, _, requests = case
    answer = decide(case, policy)
    by_id = {r.id: r for r in requests}
    for preempt in answer.preempts:
        victim = by_id[preempt.workload]
        assert victim.preemptible and victim.phase is Phase.RUNNING
        assert NOW - (victim.started_at or NOW) >= policy.min_run_seconds
        if preempt.reason in (PreemptReason.PRIORITY, PreemptReason.SERVICE, PreemptReason.STARVED):
            assert victim.queue == by_id[preempt.beneficiary].queue
            assert victim.priority <= by_id[preempt.beneficiary].priority
    only = {p.beneficiary for p in answer.preempts}
    if len(only) != 1 or len(answer.holds) != 1 or answer.admits:
        return
    # With any one victim left where it is, what is held would not be free.
    after = applied(requests, answer)
    for preempt in answer.preempts:
        spared = [replace(r, phase=Phase.RUNNING) if r.id == preempt.workload else r for r in after]
        with pytest.raises(AssertionError):
            check_capacity(nodes, left(spared), of_pending=True)


@unhurried
@given_cases
def test_a_queue_inside_its_quota_loses_nothing_to_others(case: Case, policy: Policy) -> None:
    _, queues, requests = case
    answer = decide(case, policy)
    by_id, held = {r.id: r for r in requests}, held_by_queue(case, requests)
    quota = {q.name: q.quota.get("gpu", 0) for q in queues}
    for preempt in answer.preempts:
        victim = by_id[preempt.workload]
        if victim.queue != by_id[preempt.beneficiary].queue and victim.resources.gpu and not preempt.moves_to:
            assert held[victim.queue]["gpu"] > quota[victim.queue]


@unhurried
@given_cases
def test_what_is_free_is_used(case: Case, policy: Policy) -> None:
    """Work conservation: nothing that waits for room alone would fit in what is left over, reservations apart."""
    nodes, queues, requests = case
    after = applied(requests, decide(case, policy))
    waiting = decide((nodes, queues, after), policy).waiting
    for why in waiting.values():
        if why.reason not in (Reason.NO_CAPACITY, Reason.FRAGMENTED):
            continue
        only = [r for r in after if r.phase is not Phase.PENDING or r.placed or r.id == why.workload]
        again = decide((nodes, queues, only), replace(policy, preemption=False, reclaim=False))
        assert [a.workload for a in again.admits if a.workload == why.workload] == []


@unhurried
@given_cases
def test_who_moves_goes_on_at_once(case: Case, policy: Policy) -> None:
    """Nobody loses a place by a move: when all have left, the movers start where room was held, and so does who they moved for."""
    nodes, queues, requests = case
    node_of = {node.name: node for node in nodes}
    answer = decide(case, policy)
    moved = [p for p in answer.preempts if p.reason is PreemptReason.ROOM]
    assert all(bool(p.moves_to) == (p.reason is PreemptReason.ROOM) for p in answer.preempts)
    by_id = {r.id: r for r in requests}
    for move in moved:
        (there,), (here,) = move.moves_to, by_id[move.workload].placed
        assert (node_of[there.node].flavor, node_of[there.node].cluster) == (node_of[here.node].flavor, node_of[here.node].cluster)
        assert node_of[there.node].schedulable
    while_leaving = applied(requests, answer)
    kept = {h.workload: h.placed for h in decide((nodes, queues, while_leaving), policy).holds}
    assert all(kept.get(move.workload) == move.moves_to for move in moved)
    after = left(applied(while_leaving, decide((nodes, queues, while_leaving), policy)))
    started = {a.workload: a.placed for a in decide((nodes, queues, after), policy).admits}
    assert all(started.get(move.workload) == move.moves_to for move in moved)
    assert all(move.beneficiary in started for move in moved)
