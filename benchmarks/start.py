"""Submit to the first line of user code, for a script that imports torch and lightning: ours beside the alternatives.

    python benchmarks/start.py [--times 20] [--ray] [--burst 200]

Measured in one run, from the moment before the request to the moment that the script's first line runs and to the
moment that its imports are done (what `python script.py` waits for):

- `python script.py`, cold and by itself,
- POST /api/v1/projects/.../workloads to a platform that runs here (with its own, temporary home),
- `ray job submit` to a Ray that runs here (with --ray).

Then a burst: workloads of no work submitted at once; each must have run exactly once. And memory: proportional set
size of the control plane, the zygote, and a supervisor.
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
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from narf.client.code import send_folder
from narf.client.connection import Connection, find_server

SCRIPT = """\
import time
first = time.time()
import lightning.pytorch
import torch
print("first", first, "ready", time.time(), torch.get_num_threads(), lightning.pytorch.__version__, flush=True)
"""
MIB = 1 << 20
ON_LOOPBACK = {"RAY_AUTH_MODE": "disabled"}  # for a minute, on this machine alone
RAY = str(Path(sys.executable).with_name("ray"))


def times_in(text: str) -> tuple[float, float]:
    """When the first line ran and when the imports were done."""
    words = next(line for line in text.splitlines() if line.startswith("first ")).split()
    return float(words[1]), float(words[3])


def plain(folder: Path) -> tuple[float, float]:
    begun = time.time()
    done = subprocess.run([sys.executable, str(folder / "script.py")], capture_output=True, text=True, check=True)
    first, ready = times_in(done.stdout)
    return first - begun, ready - begun


def submit(connection: Connection, project: str, snapshot: str, **more: Any) -> str:
    body = {"name": "start", "script": "script.py", "snapshot": snapshot, "resources": {"cpu": 0.05}, **more}
    answer = connection.request("POST", f"/api/v1/projects/{project}/workloads", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
    answer.raise_for_status()
    return str(answer.json()["workload_id"])


def finished(connection: Connection, workload_id: str) -> dict[str, Any]:
    while True:
        found: dict[str, Any] = connection.get(f"/api/v1/workloads/{workload_id}")
        if found["ended_at"]:
            return found
        time.sleep(0.02)


def output(connection: Connection, workload_id: str) -> str:
    answer = connection.request("GET", f"/api/v1/workloads/{workload_id}/logs/raw")
    answer.raise_for_status()
    return answer.text


def at_the_api(connection: Connection, project: str, snapshot: str) -> tuple[float, float]:
    begun = time.time()
    workload_id = submit(connection, project, snapshot)
    found = finished(connection, workload_id)
    assert found["state"] == "succeeded", found
    first, ready = times_in(output(connection, workload_id))
    return first - begun, ready - begun


def by_ray(folder: Path) -> tuple[float, float]:
    begun = time.time()
    command = [
        RAY,
        "job",
        "submit",
        "--address",
        "http://127.0.0.1:8265",
        "--working-dir",
        str(folder),
        "--",
        sys.executable,
        "script.py",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | ON_LOOPBACK)
    first, ready = times_in(done.stdout)
    return first - begun, ready - begun


def show(name: str, samples: list[tuple[float, float]], beside: float | None = None) -> float:
    """Print the medians; gives that of "ready"."""
    first, ready = (statistics.median(column) for column in zip(*samples, strict=True))
    ratio = "" if beside is None else f"   {beside / ready:6.1f}x sooner"
    print(f"{name:34} first line {first * 1000:8.1f} ms   imports done {ready * 1000:8.1f} ms{ratio}   (n = {len(samples)})", flush=True)
    return ready


def burst(connection: Connection, project: str, snapshot: str, count: int, folder: Path) -> None:
    """Submit `count` at once; each writes a line to a file of its own name, by appending, so that a second run would show."""
    marks = folder / "marks"
    marks.mkdir()
    begun = time.time()
    with ThreadPoolExecutor(8) as pool:
        arguments = [[str(marks), str(index)] for index in range(count)]
        ids = list(pool.map(lambda each: submit(connection, project, snapshot, script="nothing.py", arguments=each), arguments))
    submitted = time.time() - begun
    states = [finished(connection, workload_id)["state"] for workload_id in ids]
    elapsed = time.time() - begun
    runs = sorted(path.read_text() for path in marks.iterdir())
    print(f"{count} of no work: submitted in {submitted:.1f} s, all ended after {elapsed:.1f} s ({count / elapsed:.1f} a second)")
    print(f"    succeeded {states.count('succeeded')}, lost {count - len(runs)}, run twice {sum(text != 'ran' for text in runs)}")
    assert states == ["succeeded"] * count and runs == ["ran"] * count


def proportional(pid: int) -> int:
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))


def memory(home: Path) -> None:
    """What runs of the platform, by what it is."""
    found: dict[str, list[int]] = {}
    for entry in Path("/proc").iterdir():
        try:
            if (entry.name.isdigit() and f"NARF_HOME={home}".encode() in (entry / "environ").read_bytes()) or _is_zygote_of(entry, home):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                name = "zygote" if "zygote_entry" in command else "gateway" if "gateway" in command else command[-60:]
                found.setdefault(name, []).append(proportional(int(entry.name)))
        except (OSError, StopIteration):
            continue
    for name, sizes in sorted(found.items()):
        print(f"    {name:60} {len(sizes)} processes, {sum(sizes) / MIB:7.0f} MiB proportional")


def _is_zygote_of(entry: Path, home: Path) -> bool:
    return (
        entry.name.isdigit()
        and str(home).encode() in (entry / "cmdline").read_bytes()
        and b"zygote_entry" in (entry / "cmdline").read_bytes()
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--burst", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder, home = Path(name) / "code", Path(name) / "home"
        folder.mkdir()
        (folder / "script.py").write_text(SCRIPT)
        (folder / "nothing.py").write_text("import sys\nopen(sys.argv[1] + '/' + sys.argv[2], 'a').write('ran')\n")
        os.environ["NARF_HOME"] = str(home)
        narf = [sys.executable, "-m", "narf.cli"]
        beside = show("python script.py", [plain(folder) for _ in range(max(3, options.times // 4))])
        begun = time.time()
        subprocess.run([*narf, "up", "--port", "0"], check=True, stdout=subprocess.DEVNULL)
        print(f"{'narf up':34} ready after {time.time() - begun:.1f} s")
        try:
            server = find_server()
            assert server is not None
            with Connection(*server) as connection:
                project = connection.get("/api/v1/projects")["items"][0]["name"]
                snapshot = send_folder(connection, project, folder)
                at_the_api(connection, project, snapshot)  # the zygote has imported its libraries when this has run
                show("narf, at the API", [at_the_api(connection, project, snapshot) for _ in range(options.times)], beside)
                burst(connection, project, snapshot, options.burst, Path(name))
                memory(home)
        finally:
            subprocess.run([*narf, "down"], check=False, stdout=subprocess.DEVNULL)
        if options.ray:
            subprocess.run([RAY, "start", "--head", "--num-cpus", "4"], check=True, stdout=subprocess.DEVNULL, env=os.environ | ON_LOOPBACK)
            try:
                show("ray job submit", [by_ray(folder) for _ in range(max(3, options.times // 5))], beside)
            finally:
                subprocess.run([RAY, "stop"], check=False, stdout=subprocess.DEVNULL)
    print(json.dumps({"goal": "at least 20x sooner than python script.py, under 150 ms median at the API"}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
