"""How often a start falls into the interval that was forecast for it, on published traces.

python benchmarks/scheduling_forecasts.py [venus|muri1|philly] [SNAPSHOTS]

The trace is replayed; at moments spread over it up to eight of those that wait are forecast as `narf why` does it, from the durations of similar
jobs that had ended by then, and with what was submitted in the day before arriving again. The interval (90 %) is compared with what then happened.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from narf.domain.workload import Resources
from narf.scheduling import DEFAULT_POLICY, Node
from narf.scheduling.decisions import Plan
from narf.scheduling.forward import StartForecast, forecast_starts, with_expected
from narf.scheduling.requests import Request
from narf.scheduling.simulator.history import History
from narf.scheduling.simulator.replay import World, replay
from narf.scheduling.simulator.traces import Trace, read_trace
from narf.scheduling.snapshot import Snapshot

TRACES = Path(__file__).parent / "traces"
EACH = 8  # workloads that are forecast of one snapshot
MOST_ALIVE = 180  # a larger queue takes minutes each


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was forecast for one workload at one moment, and how long it then waited."""

    waited: float
    forecast: StartForecast | None


def told(trace: Trace, nodes: list[Node], snapshots: int, *, seed: int = 1, draws: int = 20, world: World | None = None) -> list[Told]:
    """Forecasts made while `trace` is replayed, beside what happened."""
    rng = random.Random(seed)
    begin, end = trace.jobs[0].submitted_at, trace.jobs[-1].submitted_at
    moments = sorted(rng.uniform(begin, end) for _ in range(snapshots))
    kept: list[tuple[Snapshot, float, list[str]]] = []
    started: dict[str, list[float]] = {}

    def watch(snapshot: Snapshot, answer: Plan, now: float) -> None:
        for admit in answer.admits:
            started.setdefault(admit.workload, []).append(now)
        never = set(answer.never_fit)
        waiting = [w for w in answer.waiting if w not in never]
        if not moments or now < moments[0]:
            return
        while moments and now >= moments[0]:
            moments.pop(0)
        if waiting and len(snapshot.ids) <= MOST_ALIVE:
            kept.append((snapshot, now, rng.sample(waiting, min(EACH, len(waiting)))))

    replay(trace, nodes, world=world, watch=watch)
    found = []
    for snapshot, now, some in kept:
        forecasts = forecast_starts(with_expected(snapshot, of_late(trace, snapshot, now)), DEFAULT_POLICY, now, some, draws=draws)
        for workload in some:
            later = [at for at in started.get(workload, []) if at > now]
            if later:
                found.append(Told(waited=later[0] - now, forecast=forecasts.get(workload)))
    return found


def of_late(trace: Trace, snapshot: Snapshot, now: float) -> list[Request]:
    """What was submitted in the day before, at most 300, as if it came again; how long it runs is what was forecast at `now` for such."""
    recent = [job for job in trace.jobs if now - 86400.0 < job.submitted_at <= now][-300:]
    if not recent:
        return []
    window = now - recent[0].submitted_at
    largest = int(snapshot.node_gpus_N.max())
    history = History()
    for job in trace.jobs:
        if job.submitted_at > now:
            break
        if job.submitted_at + job.duration <= now:
            history.add(job.similar, job.duration)
    made = []
    for number, job in enumerate(recent):
        each = next(part for part in range(largest, 0, -1) if int(job.gpus) % part == 0) if job.gpus > largest else job.gpus
        made.append(
            Request(
                id=f"later-{number}", queue=job.project, resources=Resources(gpu=each, cpu=0.001), replicas=max(1, round(job.gpus / max(each, 1))),
                submitted_at=job.submitted_at + window + 1.0, forecast=history.forecast(job.similar),
            )
        )  # fmt: skip
    return made


def report(name: str, rows: list[Told], seconds: float) -> None:
    known = [(row.waited, row.forecast) for row in rows if row.forecast is not None]
    slack = 60.0  # a plan is not made at every instant
    inside = sum(f.low - slack <= waited <= f.high + slack for waited, f in known)
    early = sum(waited < f.low - slack for waited, f in known)
    late = sum(waited > f.high + slack for waited, f in known)
    ratios = sorted(max(waited, 60.0) / max(f.seconds, 60.0) for waited, f in known)
    count = max(1, len(known))
    print(
        f"{name}: {len(known)} forecasts, {100 * inside / count:.0f} % inside the 90 % interval ({100 * early / count:.0f} % earlier, "
        f"{100 * late / count:.0f} % later); waited / forecast at 10, 50, 90 %: "
        f"{', '.join(f'{ratios[int(part * (len(ratios) - 1))]:.2f}' for part in (0.1, 0.5, 0.9)) if ratios else '-'}; "
        f"not in sight {len(rows) - len(known)}; {seconds:.0f} s",
        flush=True,
    )


def machines(count: int) -> list[Node]:
    return [Node(name=f"n{i:03}", cpu=1000, memory_bytes=1 << 40, gpus=8) for i in range(count)]


def cases() -> Iterator[tuple[str, Trace, list[Node], World]]:
    chosen = sys.argv[1] if len(sys.argv) > 1 else ""
    if chosen in ("", "venus"):
        yield "venus", read_trace(TRACES / "helios" / "venus_vcvGl_september.csv.gz"), machines(20), World()
    if chosen in ("", "muri1"):
        yield "muri1", read_trace(TRACES / "muri" / "trace1.csv.gz"), machines(8), World(coalesce_seconds=30.0)
    if chosen == "philly":
        whole = read_trace(TRACES / "philly" / "philly.csv.gz")
        yield "philly, a week", whole.between(1507420800.0, 1508025600.0), machines(64), World(coalesce_seconds=30.0)


def main() -> None:
    snapshots = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    for name, trace, nodes, world in cases():
        began = time.process_time()
        rows = told(trace, nodes, snapshots, world=world)
        report(name, rows, time.process_time() - began)


if __name__ == "__main__":
    main()
