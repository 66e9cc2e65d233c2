"""Telemetry and charts over HTTP: four shippers and MLflow's own client against our server, beside `mlflow server`.

    python benchmarks/tracking_http.py [--no-mlflow]

Goals: 300,000 points/s from 4 clients; a chart of 1,000,000 points (2,000 buckets) under 20 ms at the API; MLflow's client's `log_batch` at
least as fast as against MLflow. Servers listen on loopback and live as long as this program.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from narf.tracking.points import record_bytes
from narf.tracking.series import from_bytes

CLIENTS, EACH, PART = 4, 500_000, 1 << 20
BATCHES = 10


@contextmanager
def our_server(home: Path) -> Iterator[tuple[str, str]]:
    environment = {**os.environ, "NARF_HOME": str(home), "NARF_PORT": "0"}
    process = subprocess.Popen(
        [sys.executable, "-m", "narf.bootstrap"], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        place = home / "run" / "server.json"
        for _ in range(600):
            if place.exists():
                break
            time.sleep(0.1)
        known = json.loads(place.read_text())
        wait_for(known["url"] + "/healthz")
        yield known["url"], known["token"]
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


@contextmanager
def mlflow_server(home: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        f"sqlite:///{home}/m.db",
        "--default-artifact-root",
        str(home / "a"),
    ]
    command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


def wait_for(url: str) -> None:
    for _ in range(900):
        try:
            if httpx.get(url).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def ship(url: str, token: str, run: str, start: multiprocessing.synchronize.Event, number: int) -> None:
    """One client: a spool of half a million points of two metrics, sent in parts of 1 MiB."""
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        steps = np.arange(EACH) // 2
        body = record_bytes(np.arange(EACH) % 2, steps, 1.7e9 + steps * 0.01, np.random.default_rng(number).normal(size=EACH))
        keys = "".join(json.dumps({"type": "key", "time": 0, "id": i, "name": f"m{i}"}) + "\n" for i in range(2)).encode()
        path = f"/api/v1/runs/{run}/spools/{number:016x}"
        http.post(f"{path}/events", params={"offset": 0}, content=keys).raise_for_status()
        start.wait()
        offset = 0
        while offset < len(body):
            answer = http.post(f"{path}/points", params={"offset": offset}, content=body[offset : offset + PART])
            answer.raise_for_status()
            offset = answer.json()["offset"]


def measure_shipping(url: str, token: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        runs = [http.post("/api/v1/projects/default/runs", json={}).json()["id"] for _ in range(CLIENTS)]
        start = multiprocessing.Event()
        clients = [multiprocessing.Process(target=ship, args=(url, token, run, start, i)) for i, run in enumerate(runs)]
        for client in clients:
            client.start()
        time.sleep(4)  # until all have made their spools
        begun = time.perf_counter()
        start.set()
        for client in clients:
            client.join()
            assert client.exitcode == 0
        rate = CLIENTS * EACH / (time.perf_counter() - begun)
        for run in runs:
            assert [m["count"] for m in http.get(f"/api/v1/runs/{run}/metrics").json()["items"]] == [EACH // 2, EACH // 2]
        print(f"shipped by {CLIENTS} clients      {rate:12,.0f} points/s", flush=True)


def measure_chart(url: str, token: str) -> None:
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=60) as http:
        run = http.post("/api/v1/projects/default/runs", json={}).json()["id"]
        path, count = f"/api/v1/runs/{run}/spools/{'a' * 16}", 1_000_000
        http.post(f"{path}/events", params={"offset": 0}, content=b'{"type": "key", "time": 0, "id": 0, "name": "m"}\n').raise_for_status()
        values = np.random.default_rng(9).normal(size=count)
        body = record_bytes(0, np.arange(count), 1.7e9 + np.arange(count) * 0.01, values)
        for at in range(0, len(body), 8 << 20):
            http.post(f"{path}/points", params={"offset": at}, content=body[at : at + (8 << 20)]).raise_for_status()
        taken = []
        for _ in range(30):
            begun = time.perf_counter()
            answer = http.get("/api/v1/metrics/series", params={"run": run, "key": "m", "buckets": 2000})
            taken.append(time.perf_counter() - begun)
        ((_, _, series),) = from_bytes(answer.content)
        assert series.count == count and series.maxima is not None and series.maxima.max() == values.max()
        print(f"chart of 1,000,000 at the API {min(taken) * 1e3:6.1f} ms (median {sorted(taken)[15] * 1e3:.1f})", flush=True)


def log_batches(url: str, token: str) -> tuple[float, float]:
    """`log_batch` of 1,000 metrics by MLflow's own client, points a second; and single `log_metric` calls a second."""
    script = f"""
import time, os
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient({url!r})
run = client.create_run(client.create_experiment("bench")).info.run_id
client.log_metric(run, "warm", 1.0)
begun = time.perf_counter()
for b in range({BATCHES}):
    client.log_batch(run, [Metric("m", float(b * 1000 + i), 1700000000000 + b * 1000 + i, b * 1000 + i) for i in range(1000)])
batches = {BATCHES} * 1000 / (time.perf_counter() - begun)
begun = time.perf_counter()
for i in range(100):
    client.log_metric(run, "single", float(i), step=i)
print(batches, 100 / (time.perf_counter() - begun))
assert len(client.get_metric_history(run, "m")) == {BATCHES} * 1000
"""
    environment = {**os.environ, "MLFLOW_TRACKING_TOKEN": token, "MLFLOW_DISABLE_TELEMETRY": "true"} if token else dict(os.environ)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script], env=environment, capture_output=True, text=True, timeout=170, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    batches, singles = done.stdout.split()[-2:]
    return float(batches), float(singles)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-mlflow", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="narf-bench-") as folder:
        with our_server(Path(folder) / "home") as (url, token):
            measure_shipping(url, token)
            measure_chart(url, token)
            ours = log_batches(url, token)
        if arguments.no_mlflow:
            print(f"MLflow's client: log_batch {ours[0]:,.0f} points/s, log_metric {ours[1]:,.0f} calls/s")
            return
        (Path(folder) / "mlflow").mkdir()
        with mlflow_server(Path(folder) / "mlflow") as peer:
            theirs = log_batches(peer, "")
    print(f"MLflow's client, log_batch    {ours[0]:12,.0f} points/s   against MLflow {theirs[0]:10,.0f}   ratio {ours[0] / theirs[0]:5.1f}")
    print(f"MLflow's client, log_metric   {ours[1]:12,.0f} calls/s    against MLflow {theirs[1]:10,.0f}   ratio {ours[1] / theirs[1]:5.1f}")


if __name__ == "__main__":
    main()
