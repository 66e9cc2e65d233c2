"""A script sees the same in a fork of the zygote as it sees when it is started from nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from narf.backends.local.backend import LocalBackend
from narf.data.objects import ObjectStore
from narf.testing.backend_contract import ended, eventually, job, output, run, store_snapshot

PROGRAMS = Path(__file__).with_name("programs")
NAMES = sorted(path.name for path in PROGRAMS.glob("*.py") if path.name not in {"random_states.py", "unclosed.py"})
IMPORTS_TORCH = {"loader.py", "processes.py", "ddp.py", "lightning_fit.py", "threads_and_blas.py"}  # seconds each, from nothing


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalBackend]:
    backend = LocalBackend(tmp_path_factory.mktemp("home"))
    backend.warm()
    eventually(lambda: outcome(backend, "exits.py", fork=True, hooks=False)[0] == "fork", within=200)
    yield backend
    backend.close()


def outcome(backend: LocalBackend, name: str, *, fork: bool, hooks: bool) -> tuple[str, int | None, str]:
    """How the program was started, its exit code, and its output without what differs between any two runs."""
    snapshot = store_snapshot(ObjectStore(backend.objects), {name: (PROGRAMS / name).read_text()})
    # An unknown variable that Python might read when it starts forces a start from nothing.
    variables = {} if fork else {"PYTHON_FROM_NOTHING": "1"}
    asked = job(backend, script=name, arguments=("--a", "b c"), snapshot=snapshot, hooks=hooks, environment=variables)
    backend.submit(asked)
    status = ended(backend, asked.id, within=120)
    state = json.loads((backend.jobs / asked.id / "state.json").read_text())
    text = output(backend, asked.id).decode(errors="backslashreplace").replace(asked.id, "JOB").replace(asked.workload_id, "WORKLOAD")
    text = re.sub(r"0x[0-9a-f]{6,}", "0x", text.replace("'PYTHON_FROM_NOTHING': '1', ", ""))
    if hooks:
        # A hook's own threads and descriptors come and go: git is asked for the commit while the script runs.
        text = re.sub(r"descriptors \[(0, 1, 2, 3, 4)[^]]*\] threads \d+ \d+", r"descriptors [\1 ...] threads N", text)
    return state["started_by"], status.exit_code, text


@pytest.mark.parametrize("hooks", [False, True], ids=["bare", "hooks"])
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in IMPORTS_TORCH else n for n in NAMES])
def test_a_fork_is_as_a_start_from_nothing(backend: LocalBackend, name: str, hooks: bool) -> None:
    how, code, text = outcome(backend, name, fork=True, hooks=hooks)
    plain_how, plain_code, plain_text = outcome(backend, name, fork=False, hooks=hooks)
    assert how == "fork" and plain_how.startswith("exec: PYTHON_FROM_NOTHING")
    differ = [(fork, plain) for fork, plain in zip_longest(text.splitlines(), plain_text.splitlines()) if fork != plain]
    assert (code, differ) == (plain_code, [])


def test_no_two_forks_share_a_random_number(backend: LocalBackend) -> None:
    texts = [outcome(backend, "random_states.py", fork=True, hooks=False)[2].split() for _ in range(3)]
    for numbers in zip(*texts, strict=True):
        assert len(set(numbers)) == 3, numbers


def test_an_unclosed_file_has_its_content_in_the_end(backend: LocalBackend) -> None:
    snapshot = store_snapshot(ObjectStore(backend.objects), {"unclosed.py": (PROGRAMS / "unclosed.py").read_text()})
    asked = job(backend, script="unclosed.py", snapshot=snapshot, hooks=False)
    run(backend, asked)
    work = backend.jobs / asked.id / "work"
    assert [(work / name).read_text() for name in ("global.txt", "held.txt")] == ["kept", "kept too"]


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"script.py": "import secrets\nprint(secrets.KEY)", "secrets.py": "KEY = 'mine'"}, "'secrets'"),
        ({"script.py": "import os\nos.environ['OMP_NUM_THREADS'] = '1'\nprint('mine')"}, "OMP_NUM_THREADS"),
        ({"script.py": "import os\nos.environ.setdefault(\n  'MKL_NUM_THREADS', '1')\nprint('mine')"}, "MKL_NUM_THREADS"),
        ({"script.py": "import logging\nlogging.basicConfig()\nimport numpy\nprint('mine')"}, "logging"),
    ],
)
def test_what_a_fork_cannot_reproduce_is_started_from_nothing(backend: LocalBackend, files: dict[str, str], why: str) -> None:
    asked = job(backend, script="script.py", snapshot=store_snapshot(ObjectStore(backend.objects), files))
    assert run(backend, asked)[1] == "mine\n"
    started_by = json.loads((backend.jobs / asked.id / "state.json").read_text())["started_by"]
    assert started_by.startswith("exec: ") and why in started_by
