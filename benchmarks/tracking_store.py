"""Metric storage and search in process: ours beside MLflow's own store, on SQLite files, in one run.

    python benchmarks/tracking_store.py [--runs 20000]

Goals: ingest of at least 1,000,000 points/s; a chart of 1,000,000 points (2,000 buckets) under 20 ms; `search_runs` over 20,000 runs
with filter and order under 50 ms; at most a tenth of MLflow's bytes a point. Answers are compared before times are printed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

warnings.filterwarnings("ignore")
from mlflow.entities import Metric, ViewType  # noqa: E402
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag  # noqa: E402
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore  # noqa: E402
from sqlalchemy import insert  # noqa: E402

from narf.tracking import spool  # noqa: E402
from narf.tracking.points import record_bytes  # noqa: E402
from narf.tracking.store import NarfTrackingStore  # noqa: E402

MILLION = 1_000_000


def curve(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Steps, seconds and values of a loss as training gives it: 32-bit floats, about 10 ms a step."""
    rng = np.random.default_rng(0)
    values = (np.exp(-np.arange(count) / count * 4) + rng.normal(size=count) * 0.02).astype(np.float32).astype(np.float64)
    return np.arange(count), 1.7e9 + np.cumsum(rng.uniform(0.009, 0.012, count)), values


def best(call: Callable[[], Any], times: int) -> float:
    """The least time of a call, in seconds: what else the machine does only ever adds to it."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken)


def ingest(ours: NarfTrackingStore, theirs: SqlAlchemyStore) -> tuple[str, str]:
    """Points a second, the long run of each for the charts, and bytes a point."""
    steps, seconds, values = curve(MILLION)
    run = ours.create_run(ours.create_experiment("ingest"), "me", 0, [], "r").info.run_id
    key = json.dumps({"type": "key", "id": 0, "name": "loss"}).encode() + b"\n"
    body = record_bytes(0, steps, seconds, values)
    size = Path(ours.engine.url.database or "").stat().st_size

    def take(stream: spool.Stream, offset: int, data: bytes) -> int:
        with ours.writing_run(run, durable=True) as connection:
            return spool.ingest(connection, run, "0" * 16, stream, offset, data)[0]

    take("events", 0, key)
    start, offset = time.perf_counter(), 0
    while offset < len(body):
        offset = take("points", offset, body[offset : offset + (4 << 20)])
    ours_rate = MILLION / (time.perf_counter() - start)
    with ours.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    ours_bytes = (Path(ours.engine.url.database or "").stat().st_size - size) / MILLION

    few = 20_000
    there = theirs.create_run(theirs.create_experiment("ingest"), "me", 0, [], "r").info.run_id
    metrics = [
        Metric("loss", v, round(t * 1000), s)
        for s, t, v in zip(steps[:few].tolist(), seconds[:few].tolist(), values[:few].tolist(), strict=True)
    ]
    start = time.perf_counter()
    for at in range(0, few, 1000):
        theirs.log_batch(there, metrics[at : at + 1000], [], [])
    their_rate = few / (time.perf_counter() - start)

    # The same million rows for MLflow's chart, by the fastest way into its table.
    size = Path(theirs.engine.url.database or "").stat().st_size
    rows = [
        {"key": "loss", "value": v, "timestamp": round(t * 1000), "step": s, "is_nan": False, "run_uuid": there}
        for s, t, v in zip(steps[few:].tolist(), seconds[few:].tolist(), values[few:].tolist(), strict=True)
    ]
    with theirs.engine.begin() as connection:
        connection.execute(insert(SqlMetric), rows)
    their_bytes = (Path(theirs.engine.url.database or "").stat().st_size - size) / len(rows)

    assert len(ours.get_metric_history(run, "loss")) == MILLION
    print(f"ingest in process     {ours_rate:12,.0f} points/s   MLflow log_batch {their_rate:10,.0f}   ratio {ours_rate / their_rate:6.0f}")
    print(f"storage               {ours_bytes:12.1f} bytes/point MLflow {their_bytes:19.1f}   ratio 1/{their_bytes / ours_bytes:.0f}")
    return run, there


def charts(ours: NarfTrackingStore, run: str, theirs: SqlAlchemyStore, there: str) -> None:
    values = curve(MILLION)[2]
    series = ours.chart(run, "loss", buckets=2000)
    assert series is not None and series.maxima is not None
    assert series.count == MILLION and series.maxima.max() == values.max() and series.minima.min() == values.min()
    mine = best(lambda: ours.chart(run, "loss", buckets=2000), 30)
    zoom = best(lambda: ours.chart(run, "loss", buckets=2000, from_step=300_000, to_step=500_000), 30)
    sampled = best(lambda: theirs.get_metric_history_bulk_interval([there], "loss", 2000, None, None), 1)
    print(
        f"chart of 1,000,000    {mine * 1e3:12.2f} ms          MLflow (samples) {sampled * 1e3:7.0f} ms   ratio {sampled / mine:6.0f}   (zoomed to a fifth {zoom * 1e3:.1f} ms)"
    )


def search(ours: NarfTrackingStore, theirs: SqlAlchemyStore, count: int) -> None:
    rng = np.random.default_rng(1)
    losses, rates = rng.random(count), rng.choice(["0.1", "0.01", "0.001"], count)
    experiments = []
    for store in (ours, theirs):
        experiment = store.create_experiment("search")
        experiments.append(experiment)
        ids = [f"{i:032x}" for i in range(count)]
        with store.engine.begin() as connection:
            base = {
                "user_id": "me",
                "status": "FINISHED",
                "lifecycle_stage": "active",
                "experiment_id": int(experiment),
                "artifact_uri": "x",
                "source_type": "LOCAL",
            }
            connection.execute(
                insert(SqlRun), [base | {"run_uuid": r, "name": f"run {i}", "start_time": i, "end_time": i + 1} for i, r in enumerate(ids)]
            )
            for k in range(4):
                rows = [
                    {"run_uuid": r, "key": f"m{k}", "value": float(losses[i]) + k, "timestamp": 1, "step": 1, "is_nan": False}
                    for i, r in enumerate(ids)
                ]
                connection.execute(insert(SqlLatestMetric), rows)
            for k in range(4):
                connection.execute(insert(SqlParam), [{"run_uuid": r, "key": f"p{k}", "value": str(rates[i])} for i, r in enumerate(ids)])
            connection.execute(insert(SqlTag), [{"run_uuid": r, "key": "team", "value": "a"} for r in ids])
    cases = [
        ("filter + order, 100", "metrics.m0 < 0.5 and params.p0 = '0.01'", ["metrics.m0 ASC"], 100),
        ("newest, 100", "", [], 100),
        ("filter + order, 1000", "metrics.m0 < 0.5", ["metrics.m1"], 1000),
    ]
    for title, filter, order, most in cases:

        def find(store: SqlAlchemyStore, experiment: str, filter: str = filter, order: list[str] = order, most: int = most) -> list[str]:
            return [run.info.run_id for run in store.search_runs([experiment], filter, ViewType.ACTIVE_ONLY, most, order)]

        start = time.perf_counter()
        expected = find(theirs, experiments[1])
        other = time.perf_counter() - start
        assert find(ours, experiments[0]) == expected, title
        mine = best(lambda f=find: f(ours, experiments[0]), 15)
        print(f"search, {title:<24} {mine * 1e3:6.1f} ms          MLflow {other * 1e3:17.0f} ms   ratio {other / mine:6.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=20_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="narf-bench-") as folder:
        ours = NarfTrackingStore(f"narf:sqlite:///{folder}/ours.db", folder + "/a")
        theirs = SqlAlchemyStore(f"sqlite:///{folder}/theirs.db", folder + "/b")
        run, there = ingest(ours, theirs)
        charts(ours, run, theirs, there)
        search(ours, theirs, arguments.runs)
        ours.engine.dispose()
        theirs.engine.dispose()


if __name__ == "__main__":
    main()
