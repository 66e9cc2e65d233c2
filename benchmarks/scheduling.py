"""The scheduler against published traces, and how long one decision takes.

python benchmarks/scheduling.py latency            10,000 waiting x 5,000 GPUs x 500 projects, and a reclaim storm
python benchmarks/scheduling.py venus|muri1|muri2|philly|openb   our policy beside the baselines, in one run
python benchmarks/scheduling.py openb 3 gpushare40               so many orders of arrival, and another list of pods
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from narf.domain.workload import Resources
from narf.scheduling import DEFAULT_POLICY, Forecast, Node, Phase, Placed, Plan, Queue, Request, plan, snapshot_of
from narf.scheduling.forward import applied, without
from narf.scheduling.simulator.packing import arrivals, pack
from narf.scheduling.simulator.preemptive import Ranking, replay_preemptive
from narf.scheduling.simulator.queueing import replay_queue
from narf.scheduling.simulator.replay import World, replay
from narf.scheduling.simulator.restart import RestartCost
from narf.scheduling.simulator.traces import Trace, TraceJob, read_nodes, read_trace
from narf.scheduling.snapshot import WHOLE, Snapshot

TRACES = Path(__file__).parent / "traces"
ROWS = json.loads((TRACES / "reference_rows.json").read_text())
NOW = 1_000_000_000.0


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else "latency"
    known: dict[str, Callable[[], None]] = {
        "latency": latency, "venus": venus, "muri1": lambda: muri(1), "muri2": lambda: muri(2), "philly": philly, "openb": openb,
    }  # fmt: skip
    known[what]()


def latency() -> None:
    """Repeats `plan` on one snapshot, reasons included."""
    for name, build in (("steady", lambda: busy_cluster(seed=1)), ("storm", lambda: busy_cluster(seed=2, storm=True))):
        snapshot = build()
        if name == "steady":  # what production sees: earlier plans have been carried out, and some have ended since
            for _ in range(12):
                answer = plan(snapshot, DEFAULT_POLICY, NOW)
                snapshot = applied(snapshot, answer, NOW)
                if answer.is_empty:
                    break
            snapshot = without(snapshot, {int(w) for w in np.flatnonzero(snapshot.phase_W == 1)[:10]})
        times = []
        for _ in range(5 if name == "storm" else 9):
            gc.collect()
            began = time.process_time()  # plan runs in one thread; a busy machine must not count against it
            answer = plan(snapshot, DEFAULT_POLICY, NOW)
            times.append(1000 * (time.process_time() - began))
        times.sort()
        counts = f"{len(answer.admits)} admitted, {len(answer.preempts)} preempted, {len(answer.waiting)} wait"
        print(f"{name}: p50 {median(times):.0f} ms, p99 {times[-1]:.0f} ms of CPU, {len(times)} times; {counts}")


def busy_cluster(*, seed: int, storm: bool = False) -> Snapshot:
    """625 nodes x 8 GPUs that are all but full, 500 projects in 20 departments, 10,000 waiting.

    storm: one project in ten owns most of the quota, holds nothing, and asks for it back.
    """
    rng = random.Random(seed)
    nodes = [Node(name=f"n{i:03}", cpu=128, memory_bytes=1 << 40, gpus=8, flavor="a100" if i % 3 else "h100") for i in range(625)]
    queues = [Queue(name=f"d{d}") for d in range(20)]
    queues += [
        Queue(name=f"p{p}", parent=f"d{p % 20}", quota={"gpu": (80 if p % 10 == 0 else 0) if storm else 8}, limit={"gpu": 400})
        for p in range(500)
    ]
    requests, number = [], 0
    for node in nodes:
        free = 8
        while free:
            gpus = min(free, rng.choice([1, 1, 2, 4, 8]))
            free -= gpus
            number += 1
            if rng.random() < 0.02:
                continue  # a hole
            queue = f"p{rng.choice([p for p in range(500) if p % 10]) if storm else rng.randrange(500)}"
            ran = rng.expovariate(1 / 40_000) + 2000
            placed = Placed(node=node.name, gpu_indices=tuple(range(8 - free - gpus, 8 - free)))
            requests.append(
                Request(
                    id=f"r{number}", queue=queue, resources=Resources(gpu=gpus, cpu=2 * gpus), submitted_at=NOW - ran - 100, phase=Phase.RUNNING,
                    started_at=NOW - ran, placed=(placed,), forecast=Forecast(low=100, middle=10_000, high=200_000),
                )
            )  # fmt: skip
    for w in range(10_000):
        gpus = rng.choice([1, 1, 1, 2, 4, 8])
        queue = f"p{rng.randrange(50) * 10 if storm and w < 500 else rng.randrange(500)}"
        requests.append(
            Request(
                id=f"w{w}", queue=queue, resources=Resources(gpu=gpus, cpu=2 * gpus, flavor=rng.choice(["", "", "a100"])),
                replicas=rng.choice([1, 1, 1, 1, 2, 4]) if gpus == 8 else 1, submitted_at=NOW - rng.expovariate(1 / 5000),
                priority=rng.choice([0, 0, 0, 5]), forecast=Forecast(low=100, middle=5000, high=50_000),
            )
        )  # fmt: skip
    return snapshot_of(nodes, queues, requests)


def machines(count: int, gpus: int = 8) -> list[Node]:
    return [Node(name=f"n{i:03}", cpu=1000, memory_bytes=1 << 40, gpus=gpus) for i in range(count)]


def show(name: str, figures: dict[str, object], reference: object = None) -> None:
    jct, queue = figures["jct"], figures["queue"]
    assert isinstance(jct, dict)
    assert isinstance(queue, dict)
    beside = "" if reference is None else f"   published {reference}"
    print(
        f"{name:<24} jct {jct['mean']:>12,.0f}  queue {queue['mean']:>12,.0f}  p99 {queue['p99']:>12,.0f}  >8 GPUs {queue['mean_over_8_gpus']:>12,.0f}"
        f"  preempted {figures['preemptions']}  {figures['wall_seconds']:.0f} s{beside}",
        flush=True,
    )


def venus() -> None:
    trace, rows = read_trace(TRACES / "helios" / "venus_vcvGl_september.csv.gz"), ROWS["helios_venus_vcvGl"]
    for order, strict, row in (
        ("fifo", True, "fifo"),
        ("sjf", True, "sjf"),
        ("fifo", False, "fifo_best_effort_own"),
        ("sjf", False, "sjf_best_effort_own"),
    ):
        show(
            f"{order} {'strict' if strict else 'best effort'}",
            replay_queue(trace, 20, 8, order=order, strict=strict, name=order).as_json(),
            rows[row],
        )
    free = RestartCost(one=0, node=0, gang=0)
    show(
        "srtf strict, no cost",
        replay_preemptive(trace, 20, 8, Ranking(kind="srtf", strict=True), "srtf", free).as_json(),
        rows["srtf_artifact"],
    )
    show("narf", replay(trace, machines(20)).as_json())


def muri(number: int) -> None:
    trace, rows = read_trace(TRACES / "muri" / f"trace{number}.csv.gz"), ROWS["muri_published_mean_jct_s"]
    column = number - 1
    for kind in ("srtf", "srsf"):
        ranking = Ranking(kind=kind, repack=True)
        show(kind, replay_preemptive(trace, 8, 8, ranking, kind).as_json(), f"{rows[kind.upper()][column]:,.0f}")
    best = min(rows["Tiresias_L"][column], rows["Themis"][column])
    figures = replay(trace, machines(8), world=World(coalesce_seconds=30.0)).as_json()
    show("narf", figures, f"Themis {rows['Themis'][column]:,.0f}; ratio {figures['jct']['mean'] / best:.3f}")


def philly() -> None:
    trace = philly_trace()
    rows = ROWS["philly_64x8"]
    for strict, row in ((False, "fifo_best_effort"),):
        show("fifo best effort", replay_queue(trace, 64, 8, order="fifo", strict=strict, name="fifo").as_json(), rows[row])
    figures = replay(trace, machines(64), world=World(coalesce_seconds=30.0)).as_json()
    show("narf", figures)
    for size, spread in figures["queue"]["by_gpus"].items():
        print(f"  {size:>4} GPUs: mean {spread['mean']:,.0f}, p99 {spread['p99']:,.0f}")


def philly_trace() -> Trace:
    whole = read_trace(TRACES / "philly" / "philly.csv.gz")
    return whole.between(1506816000.0, 1512086400.0)  # 2017-10-01 to 2017-11-30


def openb() -> None:
    """Pods arrive in random order, and none leaves: the share of the GPUs that is allocated when as many were asked for."""
    which = sys.argv[3] if len(sys.argv) > 3 else "default"
    pods = list(read_trace(TRACES / "openb" / f"openb_pod_list_{which}.csv.gz").jobs)
    nodes = read_nodes(TRACES / "openb" / "openb_node_list_gpu_node.csv.gz")
    capacity = float(sum(node.gpus for node in nodes))
    published = ROWS["fgd_atc23_default_trace_alloc_pct"]
    seeds = range(int(sys.argv[2]) if len(sys.argv) > 2 else 3)
    by_name: dict[str, Callable[[list[TraceJob]], float]] = {
        "best fit": lambda arriving: pack(arriving, nodes, "best-fit").allocated_percent,
        "FGD": lambda arriving: pack(arriving, nodes, "fgd").allocated_percent,
        "narf": lambda arriving: planned(arriving, nodes) / capacity * 100,
    }
    for name, allocated in by_name.items():
        shares = [allocated(arrivals(pods, capacity, seed)) for seed in seeds]
        beside = f"   published {published['BestFit' if name == 'best fit' else 'FGD'][1]}" if which == "default" else ""
        print(f"{name}: {np.mean(shares):.2f} % allocated ({', '.join(f'{share:.2f}' for share in shares)}){beside}", flush=True)


def planned(arriving: list[TraceJob], nodes: list[Node]) -> float:
    """GPUs in use when all have arrived, ten at a time, and `plan` has placed what it could."""
    most = 0.0

    def watch(snapshot: Snapshot, answer: Plan, now: float) -> None:
        nonlocal most
        admitted = sum((a.placed[0].gpu_fraction or len(a.placed[0].gpu_indices)) * len(a.placed) for a in answer.admits)
        most = max(most, float(snapshot.slice_amount_G.sum()) / WHOLE + admitted)

    jobs = [replace(pod, id=f"{pod.id}-{at}", submitted_at=float(at), duration=1e9, priority=0) for at, pod in enumerate(arriving)]
    world = World(coalesce_seconds=10.0, look_again_seconds=0.0)
    replay(Trace(jobs=jobs), nodes, replace(DEFAULT_POLICY, preemption=False, reservations=0), world=world, watch=watch)
    return most


if __name__ == "__main__":
    main()
