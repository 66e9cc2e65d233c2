"""1,000 forks of the zygote, mixed, against plain Python: same outputs, nothing leaked. With the time each takes.

    python benchmarks/start_forks.py [--forks 1000] [--at-once 4]

The programs are those of tests/backends/local/programs: interpreter state, endings, signals, OpenMP and BLAS,
DataLoader workers, pools of processes, DDP on gloo, a Lightning fit. Each runs once from nothing, and that outcome
is what every fork must show. Afterwards the zygote must have one thread, the descriptors it began with, and no child.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from narf.backends.local.backend import LocalBackend
from narf.backends.protocol import Job, JobPhase
from narf.data.objects import ObjectStore
from narf.testing.backend_contract import ended, job, output, store_snapshot

PROGRAMS = Path(__file__).parents[1] / "tests" / "backends" / "local" / "programs"
DIFFERS_BY_NATURE = {"random_states.py"}
# How often each is among a hundred: the dear ones less often.
WEIGHTS = defaultdict(lambda: 11, {"loader.py": 4, "processes.py": 4, "ddp.py": 3, "lightning_fit.py": 8, "threads_and_blas.py": 12})


def asked(backend: LocalBackend, name: str, *, fork: bool) -> Job:
    snapshot = store_snapshot(ObjectStore(backend.objects), {name: (PROGRAMS / name).read_text()})
    variables = {} if fork else {"PYTHON_FROM_NOTHING": "1"}  # might be read when Python starts, so no fork is made
    return job(backend, script=name, arguments=("--a", "b c"), snapshot=snapshot, hooks=False, environment=variables)


def outcome(backend: LocalBackend, done: Job) -> tuple[int | None, str]:
    """Exit code and output, without what differs between any two runs."""
    status = ended(backend, done.id, within=300)
    text = output(backend, done.id).decode(errors="backslashreplace").replace(done.id, "JOB").replace(done.workload_id, "WORKLOAD")
    return status.exit_code, re.sub(r"0x[0-9a-f]{6,}", "0x", text.replace("'PYTHON_FROM_NOTHING': '1', ", ""))


def schedule(forks: int) -> list[str]:
    names = sorted(path.name for path in PROGRAMS.glob("*.py") if path.name not in DIFFERS_BY_NATURE)
    pool = [name for name in names for _ in range(WEIGHTS[name])]
    return [pool[(index * 7919) % len(pool)] for index in range(forks)]  # a prime step: well mixed, always the same


def zygote_state(backend: LocalBackend) -> tuple[int, int, int]:
    """Threads, descriptors and children of the zygote."""
    assert backend._zygotes is not None
    pid = backend._zygotes.of(backend.python, backend._python_environment(None)).pid()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    alive = [child for child in children if Path(f"/proc/{child}/stat").exists() and ") Z " not in Path(f"/proc/{child}/stat").read_text()]
    return len(os.listdir(f"/proc/{pid}/task")), len(os.listdir(f"/proc/{pid}/fd")), len(alive)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--forks", type=int, default=1000)
    parser.add_argument("--at-once", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        backend = LocalBackend(Path(home), preload=("numpy", "torch", "lightning.pytorch"))
        backend.warm()
        names = schedule(options.forks)
        expected, plain_seconds = {}, {}
        for name in sorted(set(names)):
            plain = asked(backend, name, fork=False)
            begun = time.perf_counter()
            backend.submit(plain)
            expected[name] = outcome(backend, plain)
            plain_seconds[name] = time.perf_counter() - begun
            print(f"from nothing  {name:22} exit {expected[name][0]!s:4} {plain_seconds[name]:6.2f} s", flush=True)
        before = zygote_state(backend)
        running: dict[str, tuple[str, Job, float]] = {}
        differing, started_by, seconds = [], Counter(), defaultdict(list)
        begun, waiting = time.perf_counter(), names[::-1]
        while waiting or running:
            while waiting and len(running) < options.at_once:
                fork = asked(backend, name := waiting.pop(), fork=True)
                backend.submit(fork)
                running[fork.id] = (name, fork, time.perf_counter())
            for status in backend.observe(list(running)):
                if status.phase is JobPhase.ENDED:
                    name, fork, since = running.pop(status.id)
                    seconds[name].append(time.perf_counter() - since)
                    started_by[json.loads((backend.jobs / fork.id / "state.json").read_text())["started_by"]] += 1
                    if (seen := outcome(backend, fork)) != expected[name]:
                        differing.append((name, seen))
                    backend.forget(fork.id)
            time.sleep(0.002)
        elapsed = time.perf_counter() - begun
        deadline = time.monotonic() + 30
        while (after := zygote_state(backend))[2] and time.monotonic() < deadline:
            time.sleep(0.05)
        backend.close()
    print()
    for name in sorted(seconds):
        median = statistics.median(seconds[name])
        print(
            f"{name:22} {len(seconds[name]):5} forks, median {median:6.3f} s, from nothing {plain_seconds[name]:6.2f} s ({plain_seconds[name] / median:5.1f}x)"
        )
    print(f"\n{len(names)} jobs in {elapsed:.1f} s, {options.at_once} at once; started by {dict(started_by)}")
    print(f"zygote: threads, descriptors, children before {before}, after {after}")
    for name, seen in differing[:5]:
        print(f"DIFFERS {name}: {seen}\n    expected {expected[name]}")
    print(f"{len(differing)} of {len(names)} differ from plain Python")
    return int(bool(differing) or before[:2] != after[:2] or after[2] > 0)


if __name__ == "__main__":
    sys.exit(main())
