"""`narf.log` beside MLflow, W&B offline and Aim: calls a second of one call with two values, on the training thread.

    python benchmarks/telemetry.py [--peers /path/to/python]

`--peers` names an interpreter in which mlflow, wandb and aim are installed (they do not go well together with each other or with
this environment); a peer that is not there is left out and named. Goals: at most 5 µs a call; 1,000 times MLflow's calls, 10 times
W&B's and Aim's; every accepted point safe from a kill of the process, which is checked here with kill -9.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

CALLS = {"narf": 100_000, "mlflow": 300, "wandb": 5_000, "aim": 3_000}

PROGRAMS = {
    "narf": """
from narf.training.recorder import Recorder, use
import narf
use(Recorder("spool"))
narf.log(loss=0.5, accuracy=0.25)
began = time.perf_counter()
for step in range(1, calls):
    narf.log(loss=0.5, accuracy=0.25)
report()
""",
    "mlflow": """
import logging; logging.disable(logging.WARNING)
import mlflow
mlflow.set_tracking_uri("http://127.0.0.1:" + os.environ["PORT"])
with mlflow.start_run():
    mlflow.log_metrics({"loss": 0.5, "accuracy": 0.25}, step=0)
    began = time.perf_counter()
    for step in range(1, calls):
        mlflow.log_metrics({"loss": 0.5, "accuracy": 0.25}, step=step)
    report()
""",
    "wandb": """
os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
import wandb
run = wandb.init(project="x", dir=".")
run.log({"loss": 0.5, "accuracy": 0.25})
began = time.perf_counter()
for step in range(1, calls):
    run.log({"loss": 0.5, "accuracy": 0.25})
report()
""",
    "aim": """
import aim
run = aim.Run(repo=".", system_tracking_interval=None, log_system_params=False)
run.track({"loss": 0.5, "accuracy": 0.25}, step=0)
began = time.perf_counter()
for step in range(1, calls):
    run.track({"loss": 0.5, "accuracy": 0.25}, step=step)
report()
""",
}

HEAD = """
import os, sys, time
calls = int(sys.argv[1])
def report():
    print("SECONDS", (time.perf_counter() - began) / (calls - 1), flush=True)
    if len(sys.argv) > 2:
        os.kill(os.getpid(), 9)
"""


def seconds_a_call(python: str, peer: str, **environment: str) -> float | None:
    """Median of three runs; None when the peer is not installed or fails."""
    found = []
    for _ in range(3):
        with tempfile.TemporaryDirectory(prefix="narf-telemetry-") as folder:
            command = [python, "-c", HEAD + PROGRAMS[peer], str(CALLS[peer])]
            try:
                done = subprocess.run(
                    command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
                )
            except subprocess.TimeoutExpired:
                return None
            lines = [line for line in done.stdout.splitlines() if line.startswith("SECONDS")]
            if not lines:
                return None
            found.append(float(lines[0].split()[1]))
    return sorted(found)[1]


def survives_kill() -> None:
    """Every point that was accepted before kill -9 is on disk."""
    from narf.training.spool import unpack_points

    with tempfile.TemporaryDirectory(prefix="narf-telemetry-") as folder:
        subprocess.run([sys.executable, "-c", HEAD + PROGRAMS["narf"], "20000", "kill"], cwd=folder, capture_output=True, check=False)
        points = [point for file in Path(folder, "spool").glob("*.points") for point in unpack_points(file.read_bytes())]
        assert len(points) == 40_000, f"{len(points)} of 40,000 points survived"


def mlflow_server(python: str, folder: str, port: str) -> subprocess.Popen[bytes] | None:
    import time
    import urllib.request

    command = [python, "-m", "mlflow", "server", "--port", port, "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
            return process
        except OSError:
            time.sleep(0.2)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=sys.executable)
    peers = parser.parse_args().peers
    survives_kill()
    print("narf: 40,000 of 40,000 accepted points survived kill -9")
    ours = seconds_a_call(sys.executable, "narf")
    assert ours is not None
    print(f"{'narf.log':12} {ours * 1e6:10.2f} µs a call of 2 values {1 / ours:12,.0f} calls/s", flush=True)
    for peer in ("wandb", "aim"):
        show(peer, seconds_a_call(peers, peer), ours)
    with tempfile.TemporaryDirectory(prefix="narf-telemetry-") as folder:
        import signal
        import socket

        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        server = mlflow_server(peers, folder, port)
        try:
            show("mlflow", seconds_a_call(peers, "mlflow", PORT=port) if server else None, ours)
        finally:
            if server is not None:
                os.killpg(server.pid, signal.SIGTERM)
                server.wait()


def show(peer: str, seconds: float | None, ours: float) -> None:
    if seconds is None:
        print(f"{peer:12} could not be run here")
    else:
        print(
            f"{peer:12} {seconds * 1e6:10.2f} µs a call of 2 values {1 / seconds:12,.0f} calls/s   narf.log: {seconds / ours:,.0f} times",
            flush=True,
        )


if __name__ == "__main__":
    main()
