"""A zygote may die at any moment: no job is lost or run twice, and the next one has a zygote again."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from narf.backends.local.backend import LocalBackend
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason
from narf.testing.backend_contract import ended, eventually, is_running, job, output, run, store_snapshot


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(tmp_path, preload=("decimal",))
    yield backend
    backend.close()


def script(backend: LocalBackend, text: str = "print('ran')") -> str:
    return store_snapshot(ObjectStore(backend.objects), {"script.py": text})


def started_by(backend: LocalBackend, job_id: str) -> str:
    return str(json.loads((backend.jobs / job_id / "state.json").read_text())["started_by"])


def zygote_pid(backend: LocalBackend) -> int:
    assert backend._zygotes is not None
    pid = backend._zygotes.of(backend.python, backend._python_environment(None)).pid()
    assert pid is not None
    return pid


def kill_zygote(backend: LocalBackend) -> bool:
    """Kill the zygote once it has begun its work; one that dies again and again is given up for a while."""
    if not list((backend.home / "run").glob("zygote-*.log")):
        return False
    asked = job(backend, script="script.py", snapshot=script(backend))
    run(backend, asked)
    if started_by(backend, asked.id) != "fork":
        return False
    os.kill(zygote_pid(backend), signal.SIGKILL)
    return True


def test_jobs_go_on_when_their_zygote_dies_and_the_next_has_a_new_one(backend: LocalBackend) -> None:
    waiting = job(
        backend, script="script.py", snapshot=script(backend, "input() if False else __import__('time').sleep(0.5)\nprint('ran')")
    )
    backend.submit(waiting)
    eventually(lambda: (backend.jobs / waiting.id / "state.json").exists())
    old = zygote_pid(backend)
    os.kill(old, signal.SIGKILL)
    assert ended(backend, waiting.id).reason is EndReason.COMPLETED
    eventually(lambda: not is_running(old))
    hows = []
    for _ in range(3):
        asked = job(backend, script="script.py", snapshot=script(backend))
        assert run(backend, asked)[1] == "ran\n"
        hows.append(started_by(backend, asked.id))
    assert hows[-1] == "fork" and zygote_pid(backend) != old


def test_no_job_is_lost_or_run_twice_while_zygotes_are_killed(backend: LocalBackend) -> None:
    snapshot = script(backend)
    jobs = [job(backend, script="script.py", snapshot=snapshot) for _ in range(30)]
    for index, asked in enumerate(jobs):
        backend.submit(asked)
        if index in (5, 12, 20):
            eventually(lambda: kill_zygote(backend))
    for asked in jobs:
        assert ended(backend, asked.id).reason is EndReason.COMPLETED
        assert output(backend, asked.id) == b"ran\n"


def test_an_interpreter_that_cannot_have_a_zygote_starts_its_jobs_from_nothing(backend: LocalBackend, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ncase "$1" in *zygote*) exit 1;; esac\nexec {backend.python} "$@"\n')
    python.chmod(0o755)
    for _ in range(4):
        asked = job(backend, script="script.py", snapshot=script(backend), python=str(python))
        assert run(backend, asked)[1] == "ran\n"
        assert started_by(backend, asked.id) == "exec"


def test_a_zygote_is_found_again_after_a_restart_and_leaves_with_its_home(tmp_path: Path) -> None:
    first = LocalBackend(tmp_path / "home", preload=("decimal",))
    run(first, job(first, script="script.py", snapshot=script(first)))
    pid = zygote_pid(first)
    first.close()
    second = LocalBackend(tmp_path / "home", preload=("decimal",))
    asked = job(second, script="script.py", snapshot=script(second))
    assert run(second, asked)[1] == "ran\n"
    assert started_by(second, asked.id) == "fork" and is_running(pid)
    (tmp_path / "home").rename(tmp_path / "away")
    eventually(lambda: not is_running(pid))
    second.close()
