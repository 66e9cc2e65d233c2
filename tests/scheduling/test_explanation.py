"""Explanations, forecasts and recordings of plans."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest

from narf.domain.errors import BadInput
from narf.domain.workload import Resources
from narf.scheduling import DEFAULT_POLICY, Forecast, Node, Phase, Placed, Queue, Request, plan, snapshot_of
from narf.scheduling.explanation import explain
from narf.scheduling.forward import forecast_starts, with_expected
from narf.scheduling.recording import load, record

NOW = 1_000_000.0
NODE = Node(name="a", cpu=64, memory_bytes=1 << 38, gpus=2)


def request(name: str, gpu: float, **changes: object) -> Request:
    base: dict[str, object] = {"resources": Resources(gpu=gpu, cpu=0.1), "queue": "p", "submitted_at": NOW - 10}
    return Request(id=name, **(base | changes))  # type: ignore[arg-type]


def busy(name: str, gpus: tuple[int, ...], ran: float = 100.0, **changes: object) -> Request:
    started = request(name, float(len(gpus)), submitted_at=NOW - ran, **changes)
    return replace(started, phase=Phase.RUNNING, placed=(Placed(node="a", gpu_indices=gpus),), started_at=NOW - ran)


def explained(requests: list[Request], name: str, queues: list[Queue] | None = None, nodes: list[Node] | None = None):  # type: ignore[no-untyped-def]
    snapshot = snapshot_of(nodes or [NODE], queues or [], requests)
    return explain(snapshot, plan(snapshot, DEFAULT_POLICY, NOW), DEFAULT_POLICY, NOW, name)


def test_it_names_who_holds_the_capacity_and_what_would_start_now() -> None:
    why = explained([busy("r", (0,)), request("x", 2.0)], "x")
    assert "It asks for 2 GPUs, and 1 GPU is free. The most is held by r (1 GPU, p)." in why.sentence
    assert why.remedy == "It would start now with 1 GPU instead of 2."
    assert [(h.workload, h.amount, h.running_seconds) for h in why.holders] == [("r", 1.0, 100.0)]


def test_it_says_when_it_may_take_from_others_and_why() -> None:
    queues = [Queue(name="p", quota={"gpu": 1}), Queue(name="q")]
    requests = [busy("r", (0, 1), ran=600.0, queue="q"), request("x", 1.0)]
    why = explained(requests, "x", queues)
    assert "If nothing ends before, it takes the place of r, which borrows what this project is guaranteed, in 20 min." in why.sentence
    assert why.takes_back is not None
    assert (why.takes_back.reason, why.takes_back.victims) == ("quota", ("r",))
    snapshot = snapshot_of([NODE], queues, requests)  # and so it is
    moment = NOW + why.takes_back.seconds
    assert plan(snapshot, DEFAULT_POLICY, moment - 2.0).preempts == []
    assert [(p.workload, p.beneficiary) for p in plan(snapshot, DEFAULT_POLICY, moment).preempts] == [("r", "x")]


def test_what_is_beyond_its_quota_is_told_what_it_could_take_back() -> None:
    node = replace(NODE, gpus=4)
    queues = [Queue(name="p", quota={"gpu": 1}), Queue(name="q", quota={"gpu": 3})]
    requests = [busy("r", (0, 1), ran=600.0, queue="q"), busy("s", (2, 3), ran=600.0, queue="q"), request("x", 2.0)]
    why = explained(requests, "x", queues, [node])
    assert why.takes_back is None
    assert why.remedy == (
        "If nothing ends before, it would with 1 GPU instead of 2 take the place of s, which borrows what this project is guaranteed, "
        "in 20 min."
    )


def test_what_another_takes_for_itself_may_serve_it_too() -> None:
    queues = [Queue(name="p", quota={"gpu": 2}), Queue(name="q")]
    requests = [busy("r", (0, 1), ran=600.0, queue="q"), request("x", 1.0), request("y", 1.0, submitted_at=NOW - 5)]
    for name in ("x", "y"):
        why = explained(requests, name, queues)
        assert why.takes_back is not None
        assert why.takes_back.victims == ("r",)


def test_it_says_nothing_of_taking_where_nothing_may_be_taken() -> None:
    why = explained([busy("r", (0, 1), preemptible=False), request("x", 1.0)], "x")
    assert why.takes_back is None
    assert "takes the place" not in why.sentence


def test_what_can_never_fit_has_no_place_in_the_queue() -> None:
    why = explained([busy("r", (0, 1)), request("x", 4.0)], "x")
    assert why.sentence == "It asks for 4 GPUs in a shape that no node of this cluster has, however long it waits."


def test_a_limit_is_named_with_what_is_left_of_it() -> None:
    why = explained([busy("r", (0,)), request("x", 1.0)], "x", [Queue(name="p", limit={"gpu": 1})])
    assert why.sentence.startswith("It asks for 1 GPU, and 'p' may take 0 GPUs more before it reaches its limit.")


def test_what_can_never_fit_is_told_the_largest_that_could() -> None:
    assert explained([request("x", 4.0)], "x").remedy == "The largest that could start here is 2 GPUs on one node."
    two = [NODE, replace(NODE, name="b")]
    assert explained([request("x", 4.0)], "x", nodes=two).remedy.endswith("2 GPUs on one node; ask for more as a gang of replicas.")
    assert explained([request("x", 1.0, replicas=9)], "x").remedy == "The largest that could start here is 2 replicas of 1 GPU each."


def test_an_unknown_flavor_is_told_which_there_are() -> None:
    flavored = replace(NODE, flavor="a100")
    why = explained([request("x", 1.0, resources=Resources(gpu=1, flavor="h100"))], "x", nodes=[flavored])
    assert why.remedy == "Choose another flavor or selector; flavors here: a100."


def test_the_forecast_is_when_what_runs_is_expected_to_end() -> None:
    running = busy("r", (0, 1), ran=100.0, forecast=Forecast(low=900, middle=1000, high=1100))
    snapshot = snapshot_of([NODE], [], [running, request("x", 2.0)])
    found = forecast_starts(snapshot, DEFAULT_POLICY, NOW, ["x"])["x"]
    assert found.low <= found.seconds <= found.high
    assert 500 < found.seconds < 1300
    assert forecast_starts(snapshot, DEFAULT_POLICY, NOW, ["x"])["x"] == found


def test_what_never_starts_has_no_forecast() -> None:
    snapshot = snapshot_of([NODE], [], [request("x", 8.0)])
    assert forecast_starts(snapshot, DEFAULT_POLICY, NOW, ["x"]) == {}


def test_a_recorded_snapshot_gives_the_same_decisions_again() -> None:
    requests = [busy("r", (0,), ran=100_000.0), request("x", 2.0, submitted_at=NOW - 9000), request("y", 0.5)]
    snapshot = snapshot_of([NODE], [Queue(name="p", quota={"gpu": 1})], requests)
    answer = plan(snapshot, DEFAULT_POLICY, NOW)
    recording = load(record(snapshot, DEFAULT_POLICY, NOW, answer.decisions))
    again = plan(recording.snapshot, recording.policy, recording.now)
    assert tuple(repr(d) for d in again.decisions) == recording.decisions
    assert dict(again.waiting) == dict(answer.waiting)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"PK\x03\x04nothing", b"{}", zlib.compress(b"{}"), zlib.compress(b"no JSON"), zlib.compress(b'{"plain": {}, "format": 3}')),
        record(snapshot_of([NODE], [], []), DEFAULT_POLICY, NOW, ())[:-20],
        zlib.compress(zlib.decompress(record(snapshot_of([NODE], [], []), DEFAULT_POLICY, NOW, ()))[:-8]),
    ],
)
def test_what_is_no_recording_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        load(data)


def test_what_will_arrive_delays_what_it_goes_before() -> None:
    """One that has run for long waits for its next turn; what is new goes first, as `plan` has it."""
    known = Forecast(low=600, middle=600, high=600)
    waiting = request("x", 2.0, attained_seconds=90_000.0, queued_at=NOW - 10, submitted_at=NOW - 100_000)
    snapshot = snapshot_of([NODE], [Queue(name="p")], [busy("r", (0, 1), forecast=known, max_seconds=600), waiting])
    later = [request(f"later-{n}", 2.0, submitted_at=NOW + 60 * (n + 1), forecast=known, max_seconds=600.0) for n in range(10)]
    alone = forecast_starts(snapshot, DEFAULT_POLICY, NOW, ["x"])["x"]
    expected = forecast_starts(with_expected(snapshot, later), DEFAULT_POLICY, NOW, ["x"])["x"]
    assert alone.seconds == pytest.approx(500, abs=60)
    assert expected.seconds > alone.seconds + 1200
    assert "later-0" not in plan(snapshot, DEFAULT_POLICY, NOW).waiting


def test_what_asks_for_nodes_that_are_not_known_is_not_expected() -> None:
    snapshot = snapshot_of([NODE], [Queue(name="p")], [request("x", 1.0)])
    strange = [request("later-0", 1.0, resources=Resources(gpu=1, flavor="h100")), request("later-1", 1.0, queue="q")]
    assert with_expected(snapshot, strange) is snapshot
