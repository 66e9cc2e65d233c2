"""Thirty small endpoints on one machine: all of them answer, and those that nobody calls cost almost nothing.

    python benchmarks/serving_many.py [--endpoints 30] [--shared]

A platform with a home of its own; one scikit-learn model, registered once; endpoints of `--replicas 0..1` that go to sleep after some
idle seconds. Printed: the first answer of each (a cold start), a second one (warm), the proportional memory of all replicas while
they are up, and CPU and memory once they sleep. With the usual twentieth of a core, two cores have room for 40 at once; with `--cpu 0.1`
for 20, and calls to more wait until one that rests was put to sleep. With `--shared` all of them are in one process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import narf
from narf.client.connection import connect

SCRIPT = """
import mlflow.sklearn
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
x, y = load_iris(return_X_y=True)
mlflow.sklearn.log_model(LogisticRegression(max_iter=500).fit(x, y), name="model", input_example=x[:2])
"""
ROW = [[5.1, 3.5, 1.4, 0.2]]
IDLE_SECONDS = 20


def command(*words: str, folder: Path) -> Any:
    done = subprocess.run([sys.executable, "-m", "narf.cli", *words, "--json"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"narf {' '.join(words)}: {done.stderr[-500:]}"
    return json.loads(done.stdout) if done.stdout.strip() else None


def replicas_of(home: Path) -> list[int]:
    """Processes of this home's replicas, told by the job that they work in; their supervisors among them."""
    found = []
    for entry in (entry for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            supervises = b"zygote_entry" in (entry / "cmdline").read_bytes() and str(home / "jobs") in os.readlink(entry / "fd" / "2")
            if supervises or str(home / "jobs") in os.readlink(entry / "cwd"):
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(set(found))


def proportional_mib(pids: list[int]) -> float:
    total = 0.0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
        except OSError:
            continue
    return total


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoints", type=int, default=30)
    parser.add_argument("--cpu", type=float, help="what a replica asks for")
    parser.add_argument("--shared", action="store_true", help="they share processes")
    options = parser.parse_args()
    with platform() as (folder, home):
        run = command("run", "train.py", "--follow", folder=folder)["run_id"]
        command("models", "register", run, "--name", "iris", "--alias", "champion", folder=folder)
        until = time.monotonic() + 30
        while replicas_of(home) and time.monotonic() < until:  # the process that packaged is on its way out
            time.sleep(0.1)
        measure(home, options.endpoints, {"shared": True} if options.shared else {"resources": {"cpu": options.cpu}} if options.cpu else {})


@contextmanager
def platform() -> Iterator[tuple[Path, Path]]:
    """A platform of its own, gone afterwards: the folder with SCRIPT as train.py, and its home."""
    with tempfile.TemporaryDirectory(prefix="narf-serving-", ignore_cleanup_errors=True) as room:
        folder, home = Path(room) / "code", Path(room) / "home"
        folder.mkdir()
        (folder / "train.py").write_text(SCRIPT)
        os.environ |= {"NARF_HOME": str(home), "NARF_PORT": "0", "NARF_GATEWAY_PORT": "0"}
        command("up", folder=folder)
        try:
            yield folder, home
        finally:
            command("down", "--all", folder=folder)


def measure(home: Path, count: int, more: dict[str, Any]) -> None:
    control = json.loads((home / "run" / "server.json").read_text())["pid"]
    with connect() as line:
        names = [f"iris-{number}" for number in range(count)]
        made = [
            narf.deploy("iris@champion", name=name, replicas=(0, 1), idle_seconds=IDLE_SECONDS, wait=False, connection=line, **more)
            for name in names
        ]
        cold, warm = [], []
        for endpoint in made:
            began = time.perf_counter()
            answer = endpoint.predict(ROW)
            cold.append(time.perf_counter() - began)
            assert answer["output"] == [0], answer
        up = proportional_mib(replicas_of(home))
        for endpoint in made:
            began = time.perf_counter()
            endpoint.predict(ROW)
            warm.append(time.perf_counter() - began)
        print(f"{count} endpoints: first answer {statistics.median(cold) * 1000:.0f} ms (longest {max(cold) * 1000:.0f}), ", end="")
        print(f"then {statistics.median(warm) * 1000:.1f} ms; while up {up:.0f} MiB proportional, {up / count:.0f} each", flush=True)
        deadline = time.monotonic() + 6 * IDLE_SECONDS
        while any(line.get(f"/api/v1/endpoints/{name}")["replicas"] for name in names) and time.monotonic() < deadline:
            time.sleep(1)
        asleep = sum(not line.get(f"/api/v1/endpoints/{name}")["replicas"] for name in names)
        before, began = cpu_seconds(control), time.monotonic()
        time.sleep(10)
        load = (cpu_seconds(control) - before) / (time.monotonic() - began)
        print(
            f"{asleep} of {count} sleep; replicas hold {proportional_mib(replicas_of(home)):.0f} MiB; the control plane uses {load:.1%} of a core"
        )


if __name__ == "__main__":
    main()
