"""What `plan` decides, case by case. What holds for every case is in tests/properties."""

from __future__ import annotations

import random
from dataclasses import replace

from narf.domain.workload import Resources
from narf.scheduling import DEFAULT_POLICY, Node, Phase, Placed, Policy, PreemptReason, Queue, Reason, Request, plan, snapshot_of

NOW = 1_000_000.0
EAGER = replace(DEFAULT_POLICY, patience_seconds=0.0, min_run_seconds=0.0)


def node(name: str = "a", gpus: int = 4, **changes: object) -> Node:
    return Node(**{"name": name, "cpu": 64, "memory_bytes": 1 << 38, "gpus": gpus} | changes)  # type: ignore[arg-type]


def ask(name: str, gpu: float = 1.0, *, queue: str = "p", replicas: int = 1, waited: float = 10.0, **changes: object) -> Request:
    base: dict[str, object] = {"resources": Resources(gpu=gpu, cpu=0.1)}
    return Request(id=name, queue=queue, replicas=replicas, submitted_at=NOW - waited, **(base | changes))  # type: ignore[arg-type]


def running(name: str, where: str, gpus: tuple[int, ...], *, ran: float = 7200.0, **changes: object) -> Request:
    request = ask(name, float(len(gpus)), waited=ran, **changes)  # type: ignore[arg-type]
    return replace(request, phase=Phase.RUNNING, placed=(Placed(node=where, gpu_indices=gpus),), started_at=NOW - ran)


def decide(nodes: list[Node], queues: list[Queue], requests: list[Request], policy: Policy = DEFAULT_POLICY):  # type: ignore[no-untyped-def]
    return plan(snapshot_of(nodes, queues, requests), policy, NOW)


def test_what_needs_much_cpu_goes_where_gpus_do_not_want_it() -> None:
    """Nodes with 12 and with 52 CPUs for each GPU, and as much asked for as there is: next to nothing is left without CPU."""
    nodes = [node(f"w{n:02}", 8, cpu=96) for n in range(12)] + [node(f"c{n:02}", 2, cpu=104) for n in range(8)]
    kinds = [(1.0, 4), (1.0, 8), (1.0, 16), (0.5, 2), (0.5, 12), (0.25, 1), (0.25, 6)]
    parts = []
    for seed in (0, 3, 4, 5):
        drawn = random.Random(seed)
        pods: list[Request] = []
        while sum(pod.resources.gpu for pod in pods) < 112 - 1:
            gpu, cpu = drawn.choice(kinds)
            pods.append(ask(f"p{len(pods):03}", resources=Resources(gpu=gpu, cpu=cpu), waited=1000.0 - len(pods)))
        started = {admit.workload for admit in decide(nodes, [], pods).admits}
        parts.append(sum(pod.resources.gpu for pod in pods if pod.id in started) / sum(pod.resources.gpu for pod in pods))
    assert sum(parts) / len(parts) > 0.995, parts


def test_a_gang_waits_until_all_its_replicas_fit() -> None:
    answer = decide([node(), node("b")], [], [running("r", "a", (0,)), ask("gang", 4.0, replicas=2)])
    assert answer.admits == []
    assert answer.waiting["gang"].reason is Reason.NO_CAPACITY


def test_a_replica_goes_to_the_fullest_node_that_takes_it() -> None:
    answer = decide([node(), node("b")], [], [running("r", "b", (0, 1)), ask("w", 2.0)])
    assert [p.node for p in answer.admits[0].placed] == ["b"]
    assert answer.admits[0].placed[0].gpu_indices == (2, 3)


def test_two_fractions_share_one_gpu() -> None:
    answer = decide([node()], [], [ask("x", 0.5), ask("y", 0.5)])
    assert [a.placed[0].gpu_indices for a in answer.admits] == [(0,), (0,)]
    assert answer.admits[0].placed[0].gpu_fraction == 0.5


def test_a_limit_binds_and_is_named() -> None:
    answer = decide([node()], [Queue(name="p", limit={"gpu": 1})], [ask("x", waited=20), ask("y")])
    assert [a.workload for a in answer.admits] == ["x"]
    why = answer.waiting["y"]
    assert (why.reason, why.queue, why.resource, why.asked, why.available) == (Reason.LIMIT, "p", "gpu", 1.0, 0.0)


def test_the_limit_of_a_department_binds_its_projects() -> None:
    queues = [Queue(name="d", limit={"gpu": 1}), Queue(name="p", parent="d"), Queue(name="q", parent="d")]
    answer = decide([node()], queues, [ask("x", waited=20), ask("y", queue="q")])
    assert len(answer.admits) == 1
    assert next(iter(answer.waiting.values())).queue == "d"


def test_what_can_never_fit_is_said_at_once() -> None:
    assert decide([node()], [], [ask("x", 8.0)]).waiting["x"].reason is Reason.NEVER_FITS


def test_an_unknown_flavor_matches_no_node() -> None:
    request = ask("x", resources=Resources(gpu=1, flavor="h100"))
    assert decide([node(flavor="a100")], [], [request]).waiting["x"].reason is Reason.NO_NODE_MATCHES


def test_quota_is_taken_back_from_who_borrows() -> None:
    queues = [Queue(name="p", quota={"gpu": 2}), Queue(name="q", quota={"gpu": 2})]
    borrowing = [running(f"b{i}", "a", (i,), queue="q") for i in range(4)]
    answer = decide([node()], queues, [*borrowing, ask("x", 2.0)])
    assert len(answer.preempts) == 2
    assert {p.reason for p in answer.preempts} == {PreemptReason.QUOTA}
    assert [h.workload for h in answer.holds] == ["x"]
    assert answer.waiting["x"].reason is Reason.STOPPING


def test_what_does_not_preempt_waits_for_its_quota() -> None:
    queues = [Queue(name="p", quota={"gpu": 1})]
    answer = decide([node()], queues, [ask("x", 2.0, preemptible=False)])
    assert answer.waiting["x"].reason is Reason.OVER_QUOTA


def test_priority_takes_back_inside_a_queue() -> None:
    answer = decide([node(gpus=1)], [], [running("r", "a", (0,)), ask("x", priority=5)])
    assert [(p.workload, p.reason) for p in answer.preempts] == [("r", PreemptReason.PRIORITY)]


def test_what_has_run_far_less_takes_back_once_it_has_been_patient() -> None:
    requests = [running("r", "a", (0,), ran=100_000.0), ask("x", waited=60.0)]
    assert decide([node(gpus=1)], [], requests).preempts == []
    patient = [running("r", "a", (0,), ran=100_000.0), ask("x", waited=7200.0)]
    assert [p.reason for p in decide([node(gpus=1)], [], patient).preempts] == [PreemptReason.SERVICE]


def test_minimum_run_time_is_honoured() -> None:
    young = running("r", "a", (0,), ran=60.0)
    assert decide([node(gpus=1)], [], [young, ask("x", priority=5)]).preempts == []


def test_what_is_not_preemptible_stays() -> None:
    firm = running("r", "a", (0,), preemptible=False)
    assert decide([node(gpus=1)], [], [firm, ask("x", priority=5)]).preempts == []


def test_a_hold_becomes_an_admission_when_the_victim_has_left() -> None:
    first = decide([node(gpus=1)], [], [running("r", "a", (0,)), ask("x", priority=5)])
    held = replace(ask("x", priority=5), placed=first.holds[0].placed)
    leaving = replace(running("r", "a", (0,)), phase=Phase.STOPPING)
    meanwhile = decide([node(gpus=1)], [], [leaving, held, ask("z", priority=4)])
    assert meanwhile.is_empty
    assert [h.workload for h in meanwhile.holds] == ["x"]
    after = decide([node(gpus=1)], [], [held, ask("z", priority=4, waited=9000.0)])
    assert [a.workload for a in after.admits] == ["x"]


def test_a_hold_on_a_lost_node_is_dropped() -> None:
    held = replace(ask("x"), placed=(Placed(node="gone", gpu_indices=(0,)),))
    assert [a.placed[0].node for a in decide([node()], [], [held]).admits] == ["a"]


def test_a_drained_node_takes_nothing_new() -> None:
    answer = decide([node(schedulable=False)], [], [ask("x")])
    assert answer.waiting["x"].reason is Reason.NO_NODE_MATCHES


def test_a_starving_workload_reserves_and_only_the_short_run_in_the_gap() -> None:
    policy = replace(DEFAULT_POLICY, preemption=False)
    from narf.scheduling import Forecast

    busy = running("r", "a", (0, 1, 2), ran=100.0, forecast=Forecast(low=100, middle=500, high=1000), preemptible=False)
    wide = ask("wide", 4.0, waited=200_000.0)
    long = ask("long", 1.0, forecast=Forecast(low=1e4, middle=2e4, high=4e4))
    short = ask("short", 1.0, forecast=Forecast(low=10, middle=20, high=40))
    answer = decide([node()], [], [busy, wide, long, short], policy)
    assert [a.workload for a in answer.admits] == ["short"]
    assert answer.waiting["long"].reason is Reason.RESERVED or answer.waiting["long"].reason is Reason.NO_CAPACITY


def test_projects_are_served_by_allocation_over_share() -> None:
    requests = [running(f"r{i}", "a", (i,), queue="p", ran=60.0) for i in range(2)]
    requests += [ask("x", queue="p", waited=500), ask("y", queue="q", waited=10), ask("z", queue="q", waited=5)]
    answer = decide([node()], [Queue(name="p"), Queue(name="q")], requests)
    assert [a.workload for a in answer.admits] == ["y", "z"]


def test_a_gang_is_not_laid_over_two_clusters() -> None:
    nodes = [node(f"{cluster}/{n}", cluster=cluster) for cluster in ("here", "there") for n in range(2)]
    busy = running("busy", "here/0", (0, 1, 2, 3))
    answer = decide(nodes, [], [busy, ask("gang", 4.0, replicas=3)])
    assert answer.admits == [] and answer.waiting["gang"].reason is Reason.NEVER_FITS
    (admit,) = decide(nodes, [], [busy, ask("pair", 4.0, replicas=2)]).admits
    assert {placed.node for placed in admit.placed} == {"there/0", "there/1"}


def test_quota_borrowed_by_what_this_plan_starts_is_taken_back_in_the_same_plan() -> None:
    """`high` is firmer than `old`, so that `old` is what its project borrows as soon as `high` has started."""
    queues = [Queue(name="p", quota={"gpu": 1}), Queue(name="q", quota={"gpu": 2})]
    requests = [running("old", "a", (0,)), ask("x", 2.0, queue="q")]
    high = ask("high", priority=5, resources=Resources(gpu=0.25, cpu=0.1, flavor="small"))
    answer = decide([node(gpus=2), node("b", gpus=1, flavor="small")], queues, [*requests, high])
    assert [a.workload for a in answer.admits] == ["high"]
    assert [(p.workload, p.reason) for p in answer.preempts] == [("old", PreemptReason.QUOTA)]


def test_the_start_of_one_that_starves_leaves_the_next_in_line_its_reservation() -> None:
    """The gang has waited longest and reserves; `small` has waited as long as makes one starve, and has started since."""
    policy = replace(DEFAULT_POLICY, preemption=False, reclaim=False)
    waiting = [ask("gang", 4.0, waited=200_000), ask("late", 1.0, waited=10)]
    small = replace(running("small", "a", (0,), ran=60.0), submitted_at=NOW - 100_000, queued_at=NOW - 100_000)
    answer = decide([node()], [], [small, *waiting], policy)
    assert answer.is_empty
    assert (answer.waiting["late"].reason, answer.waiting["late"].blocker) == (Reason.RESERVED, "gang")


def test_a_reservation_is_not_stepped_over_by_taking_nothing() -> None:
    """`quota` may take back what is lent, but finds enough free: that is reserved for the one that starves."""
    queues = [Queue(name="p", quota={"gpu": 3}), Queue(name="q", quota={"gpu": 3}), Queue(name="r")]
    gang = ask("gang", 3.0, waited=200_000, resources=Resources(gpu=3, cpu=60), preemptible=False)
    lent = replace(running("lent", "a", (0,), queue="r"), resources=Resources(gpu=1, cpu=10), preemptible=False)
    other = running("other", "b", (0,), queue="r")
    asks = ask("quota", 3.0, queue="q", resources=Resources(gpu=3, cpu=1))
    answer = decide([node(), node("b", gpus=1)], queues, [lent, other, gang, asks])
    assert answer.is_empty
    assert answer.holds == []
    assert (answer.waiting["quota"].reason, answer.waiting["quota"].blocker) == (Reason.RESERVED, "gang")


def test_what_is_free_comes_together_when_another_can_go_on_elsewhere() -> None:
    nodes = [node("a", gpus=2), node("b", gpus=2)]
    busy = [running("x", "a", (0,), queue="q"), running("y", "b", (1,), queue="r")]
    answer = decide(nodes, [], [*busy, ask("pair", 2.0, waited=4000.0)])
    (move,) = answer.preempts
    assert move.reason is PreemptReason.ROOM and move.beneficiary == "pair"
    here, there = ("a", "b") if move.workload == "x" else ("b", "a")
    assert [placed.node for placed in move.moves_to] == [there]
    assert [(h.workload, h.placed[0].node) for h in answer.holds] == [("pair", here)]
    assert answer.waiting["pair"].reason is Reason.STOPPING

    leaving = [replace(r, phase=Phase.STOPPING, moves_to=move.moves_to) if r.id == move.workload else r for r in busy]
    held = replace(ask("pair", 2.0, waited=4000.0), placed=answer.holds[0].placed)
    meanwhile = decide(nodes, [], [*leaving, held, ask("late", 1.0, priority=9)])
    assert meanwhile.is_empty  # what is held for the one that moves is not given away
    assert {h.workload for h in meanwhile.holds} == {"pair", move.workload}

    gone = [replace(r, phase=Phase.PENDING, placed=r.moves_to, moves_to=(), started_at=None) if r.moves_to else r for r in leaving]
    assert {a.workload: a.placed[0].node for a in decide(nodes, [], [*gone, held]).admits} == {"pair": here, move.workload: there}


def test_nobody_moves_for_one_that_has_hardly_waited_or_from_what_is_not_preemptible() -> None:
    nodes = [node("a", gpus=2), node("b", gpus=2)]
    busy = [running("x", "a", (0,), queue="q"), running("y", "b", (1,), queue="r")]
    assert decide(nodes, [], [*busy, ask("pair", 2.0, waited=60.0)]).is_empty
    firm = [replace(r, preemptible=False) for r in busy]
    assert decide(nodes, [], [*firm, ask("pair", 2.0, waited=4000.0)]).is_empty
    costly = [replace(r, started_at=NOW - 90_000.0) for r in busy]  # nothing saved for a day, and it has waited an hour
    assert decide(nodes, [], [*costly, ask("pair", 2.0, waited=4000.0)]).is_empty
    saved = [replace(r, checkpointed_at=NOW - 60.0) for r in costly]
    assert len(decide(nodes, [], [*saved, ask("pair", 2.0, waited=4000.0)]).preempts) == 1


def test_who_starves_keeps_its_turn_when_it_starts_even_if_anybody_may_be_stopped_at_once() -> None:
    nodes, other = [node("a", 1), node("b", 1)], running("other", "b", (0,), ran=600.0)
    first, second = ask("first", waited=200_001.0), ask("second", waited=200_000.0)
    answer = decide(nodes, [], [other, first, second], EAGER)
    assert [admit.workload for admit in answer.admits] == ["first"]
    assert answer.preempts == []
    started = replace(first, phase=Phase.RUNNING, placed=answer.admits[0].placed, started_at=NOW)
    assert decide(nodes, [], [other, started, second], EAGER).is_empty
