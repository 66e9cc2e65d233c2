"""The simulator: trace formats and their broken rows, baselines against published rows, and our policy beside them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from narf.cli.main import _main
from narf.domain.errors import BadInput
from narf.scheduling import Node, Policy
from narf.scheduling.simulator.packing import MEASURES, arrivals, pack, replay_packing
from narf.scheduling.simulator.preemptive import Ranking, replay_preemptive
from narf.scheduling.simulator.queueing import replay_queue
from narf.scheduling.simulator.replay import World, replay
from narf.scheduling.simulator.restart import RestartCost
from narf.scheduling.simulator.traces import Trace, TraceJob, read_nodes, read_trace

TRACES = Path(__file__).parents[2] / "benchmarks" / "traces"
VENUS = TRACES / "helios" / "venus_vcvGl_september.csv.gz"


@pytest.fixture(scope="module")
def venus() -> Trace:
    return read_trace(VENUS)


def nodes(count: int, gpus: int = 8) -> list[Node]:
    return [Node(name=f"n{i}", cpu=1000, memory_bytes=1 << 40, gpus=gpus) for i in range(count)]


def job(name: str, at: float, seconds: float, gpus: float = 1.0, **changes: object) -> TraceJob:
    return TraceJob(id=name, submitted_at=at, duration=seconds, gpus=gpus, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("order", "strict", "published_jct", "published_queue"),
    [("fifo", True, 18_497, 13_891), ("sjf", True, 5_303, 697), ("fifo", False, 4_826, 221), ("sjf", False, 4_813, 207)],
)
def test_the_published_rows_of_venus_are_reproduced(
    venus: Trace, order: str, strict: bool, published_jct: float, published_queue: float
) -> None:
    found = replay_queue(venus, 20, 8, order=order, strict=strict, name=order).as_json()
    assert found["jobs"] == 1452
    assert found["jct"]["mean"] == pytest.approx(published_jct, rel=0.02)
    assert found["queue"]["mean"] == pytest.approx(published_queue, rel=0.02)


def test_the_published_srtf_of_venus_is_reproduced(venus: Trace) -> None:
    free = RestartCost(one=0, node=0, gang=0)
    found = replay_preemptive(venus, 20, 8, Ranking(kind="srtf", strict=True), "srtf", free).as_json()
    assert found["jct"]["mean"] == pytest.approx(5_056, rel=0.02)


@pytest.mark.parametrize(("kind", "published"), [("srtf", 1_370_603), ("srsf", 980_141)])
def test_the_published_rows_of_muri_are_reproduced(kind: str, published: float) -> None:
    trace = read_trace(TRACES / "muri" / "trace1.csv.gz")
    found = replay_preemptive(trace, 8, 8, Ranking(kind=kind, repack=True), kind).as_json()
    assert found["jct"]["mean"] == pytest.approx(published, rel=0.055)


@pytest.mark.parametrize(
    ("file", "count"),
    [
        ("helios/venus_vcvGl_september.csv.gz", 1452),
        ("muri/trace1.csv.gz", 1494),
        ("muri/trace2.csv.gz", 5755),
        ("openb/openb_pod_list_default.csv.gz", 8152),
    ],
)
def test_a_format_is_known_by_its_columns(file: str, count: int) -> None:
    trace = read_trace(TRACES / file)
    assert (len(trace.jobs), trace.broken_rows) == (count, 0)


def test_a_broken_row_is_left_out_and_named(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,submitted_at,duration_seconds,gpus\na,0,10,1\nb,zero,10,1\nc,5,-3,1\nd,6,nan,1\ne,7,10,1\n")
    trace = read_trace(path)
    assert [j.id for j in trace.jobs] == ["a", "e"]
    assert trace.broken_rows == 3
    assert trace.problems[0] == "Line 3 of t.csv is left out: could not convert string to float: 'zero'. Correct or delete it."


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "id,submitted_at,duration_seconds,gpus\nx,y,z,w\n"])
def test_a_file_without_a_job_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(BadInput):
        read_trace(path)


def test_every_job_is_run_once_for_as_long_as_it_takes() -> None:
    trace = Trace(jobs=[job("a", 0, 100, 8), job("b", 10, 50, 4), job("c", 20, 50, 4)])
    found = replay(trace, nodes(1))
    times = {j.id: (j.first_started_at, j.finished_at) for j in found.jobs}
    assert times == {"a": (0, 100), "b": (100, 150), "c": (100, 150)}
    assert found.used_gpu_seconds == 100 * 8 + 50 * 8


def test_what_is_preempted_pays_for_its_restart_and_keeps_its_work() -> None:
    eager = Policy(patience_seconds=0, min_run_seconds=10)
    trace = Trace(jobs=[job("long", 0, 20_000), job("short", 10_000, 100)])
    found = {j.id: j for j in replay(trace, nodes(1, 1), eager).jobs}
    assert found["short"].finished_at == 10_100
    assert found["long"].preemptions == 1
    assert found["long"].finished_at == 20_000 + 100 + 7


def test_work_since_the_last_checkpoint_is_lost_when_a_node_fails() -> None:
    trace = Trace(jobs=[job("a", 0, 50_000, 1)])
    world = World(node_mtbf_seconds=20_000, node_repair_seconds=100, checkpoint_seconds=1000, seed=4)
    found = replay(trace, nodes(1), world=world)
    assert found.jobs[0].failures > 0
    assert found.jobs[0].finished_at >= 50_000 + found.jobs[0].failures * 100
    assert found.lost_gpu_seconds > 0


def test_what_can_never_fit_is_reported_and_the_rest_goes_on() -> None:
    found = replay(Trace(jobs=[job("huge", 0, 10, 64), job("a", 1, 10)]), nodes(1)).as_json()
    assert found["never_fit"] == ["huge"]
    assert found["jobs"] == 1


def test_nothing_swings_between_two_that_want_the_same() -> None:
    """Two jobs that each want all there is take turns a number of times that grows with the logarithm of their length."""
    trace = Trace(jobs=[job("a", 0, 200_000, 8), job("b", 1, 200_000, 8)])
    found = replay(trace, nodes(1), Policy(patience_seconds=0, min_run_seconds=60))
    assert sum(j.preemptions for j in found.jobs) <= 24


def test_every_feasible_job_starts_in_the_end() -> None:
    """A gang as wide as the cluster against a stream of small jobs that would always fit first."""
    stream = [job(f"s{i:04}", i * 100.0, 780.0) for i in range(2000)]
    trace = Trace(jobs=sorted([*stream, job("wide", 50.0, 1000.0, 8)], key=lambda j: j.submitted_at))
    wide = next(j for j in replay(trace, nodes(1)).jobs if j.id == "wide")
    assert wide.first_started_at - 50 <= Policy().starvation_seconds + 2 * Policy().min_run_seconds


def test_the_command_prints_the_figures_as_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,submitted_at,duration_seconds,gpus\na,0,100,2\nb,0,100,2\n")
    assert _main(["simulate", str(path), "--nodes", "1x2", "--policy", "narf", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["policy"], found["jobs"]) == ("narf", 2)
    assert found["jct"] == {"mean": 150.0, "p50": 200.0, "p99": 200.0, "p99.9": 200.0, "max": 200.0}
    assert found["queue"]["by_gpus"]["2"]["mean"] == 50.0
    assert found["allocated_percent"] == 100.0


@pytest.mark.parametrize(
    "arguments", [["--nodes", "0x8"], ["--nodes", "many"], ["--policy", "magic"], ["--format", "tape"], ["--start", "1e9"]]
)
def test_bad_arguments_are_refused_with_a_remedy(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,submitted_at,duration_seconds,gpus\na,0,100,2\n")
    assert _main(["simulate", str(path), *arguments]) == 2
    assert "narf: " in capsys.readouterr().err


def test_the_published_best_fit_of_openb_is_reproduced() -> None:
    """Its single orders of arrival differ by some tenths; so do these three from each other."""
    pods = read_trace(TRACES / "openb" / "openb_pod_list_default.csv.gz").jobs
    nodes = read_nodes(TRACES / "openb" / "openb_node_list_gpu_node.csv.gz")
    packed = [pack(arrivals(pods, 6212.0, seed), nodes, "best-fit").allocated_percent for seed in range(3)]
    assert sum(packed) / 3 == pytest.approx(92.86, abs=0.3)


def test_packing_replays_a_trace_in_which_jobs_leave() -> None:
    """Two halves share a GPU beside a whole one, a pair takes the other node, and one more waits for the whole one."""
    nodes = [Node(name="a", cpu=64, memory_bytes=1 << 36, gpus=2), Node(name="b", cpu=8, memory_bytes=1 << 36, gpus=2)]
    half = TraceJob(id="half", submitted_at=0.0, duration=100.0, gpus=0.5, cpu=1.0)
    jobs = [half, replace(half, id="whole", submitted_at=1.0, gpus=1), replace(half, id="other", submitted_at=2.0)]
    jobs += [replace(half, id="pair", submitted_at=3.0, gpus=2), replace(half, id="huge", submitted_at=4.0, gpus=2, cpu=999.0)]
    for name, measure in MEASURES.items():
        outcome = replay_packing(Trace(jobs=jobs), nodes, measure)
        assert (outcome.policy, outcome.never_fit) == (name, ["huge"])
        waits = {job.id: job.first_started_at - job.submitted_at for job in outcome.jobs}
        assert [waits[name] for name in ("half", "whole", "other", "pair")] == [0.0, 0.0, 0.0, 0.0]
        late = replace(half, id="late", submitted_at=5.0, gpus=1)
        again = replay_packing(Trace(jobs=[*jobs, late]), nodes, measure)
        assert next(job for job in again.jobs if job.id == "late").first_started_at == 101.0
        assert again.as_json()["unfinished"] == 1


def test_fragmentation_packs_better_than_best_fit() -> None:
    """Pods of half a GPU fill up what is begun, so that whole ones stay for those that need them."""
    nodes = [Node(name=f"n{n}", cpu=32, memory_bytes=1 << 36, gpus=2) for n in range(4)]
    pods = [
        TraceJob(id=f"p{i}", submitted_at=float(i), duration=1.0, gpus=gpus, cpu=1.0) for i, gpus in enumerate([0.5, 0.6, 0.4, 0.5, 2] * 2)
    ]
    assert pack(pods, nodes, "fgd").allocated_percent >= pack(pods, nodes, "best-fit").allocated_percent
    assert pack(pods, nodes, "fgd").lost == 0
