"""`python -m narf.serving.packaging.weigh PACKAGE`: the memory that a package takes when it is served, in bytes, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from narf.serving.memory import resident_bytes
from narf.serving.package import read_manifest
from narf.serving.packaging.cases import rows, synthetic
from narf.serving.runtimes import open_runtime

BATCH_ROWS = 64  # the most of a replica's batch
_SECONDS = 120.0


def weighed(folder: Path) -> int | None:
    """What the package in `folder` takes when it is loaded and has answered its largest batch; None: it could not be measured."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    command = [sys.executable, "-m", "narf.serving.packaging.weigh", str(folder)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=_SECONDS, check=True)
        return int(done.stdout.split()[-1]) or None
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None


def main() -> None:
    folder = Path(sys.argv[1])
    manifest = read_manifest(folder)
    before = resident_bytes()
    runtime = open_runtime(folder, manifest)
    sample = synthetic(manifest.caller_inputs, np.random.default_rng(0), count=1)
    for _ in range(3):
        try:
            runtime.run(rows(sample, BATCH_ROWS) if manifest.batchable else sample)
        except Exception:  # made-up inputs may be wrong for the model; what loading took is known all the same
            break
    print(max(0, resident_bytes() - before))  # noqa: T201 - this is a program


if __name__ == "__main__":
    main()
