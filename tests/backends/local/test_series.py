"""Jobs of one series follow each other in the same supervisor; each is a job of its own all the same, and none is lost when it dies."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from narf.backends.local.backend import LocalBackend
from narf.backends.protocol import Job, JobPhase
from narf.data.objects import ObjectStore
from narf.domain.workload import EndReason
from narf.testing.backend_contract import ended, eventually, in_phase, is_running, job, output, store_snapshot

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="zygotes are Linux's")
SCRIPT = (
    "import os, sys\nfrom pathlib import Path\nprint(sys.argv[1:], os.environ.get('SECRET'), sorted(p.name for p in Path('.').iterdir()))\n"
)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(tmp_path, preload=("decimal",))
    yield backend
    backend.close()


def asked(backend: LocalBackend, text: str = SCRIPT, *, series: str = "study:1", **fields: object) -> Job:
    snapshot = store_snapshot(ObjectStore(backend.objects), {"script.py": text})
    return replace(job(backend, script="script.py", snapshot=snapshot), series=series, **fields)


def supervisor(backend: LocalBackend, job_id: str) -> int:
    return int(json.loads((backend.jobs / job_id / "state.json").read_text())["supervisor"])


def waits_for_the_next(pid: int) -> bool:
    """Whether the supervisor reads from its channel, or has left (a zombie is in no call at all)."""
    if not is_running(pid):
        return True
    try:
        return Path(f"/proc/{pid}/syscall").read_text().startswith("0 0x3 ")
    except (FileNotFoundError, ProcessLookupError):
        return True


def reason(backend: LocalBackend, wanted: Job) -> EndReason | None:
    """Why the job has ended, once its supervisor is ready for another."""
    status = ended(backend, wanted.id)
    eventually(lambda: waits_for_the_next(supervisor(backend, wanted.id)))
    return status.reason


def ran(backend: LocalBackend, wanted: Job) -> int:
    """Run it to a good end; the process number of its supervisor."""
    backend.submit(wanted)
    assert reason(backend, wanted) is EndReason.COMPLETED
    return supervisor(backend, wanted.id)


def test_a_series_has_one_supervisor_and_each_job_its_own_arguments_variables_folder_and_output(backend: LocalBackend) -> None:
    first = asked(backend, SCRIPT + "Path('left').touch()\n", arguments=("one",), environment={"SECRET": "s1"})
    second = asked(backend, arguments=("two",))
    other = asked(backend, series="study:2")
    alone = asked(backend, series="")
    pids = [ran(backend, each) for each in (first, second, other, alone)]
    assert pids[0] == pids[1] and len(set(pids)) == 3
    assert output(backend, first.id) == b"['one'] s1 ['script.py']\n"
    assert output(backend, second.id) == b"['two'] None ['script.py']\n"


def test_two_of_a_series_at_once_have_a_supervisor_each(backend: LocalBackend) -> None:
    waiting = [asked(backend, "while not __import__('os').path.exists('../go'): __import__('time').sleep(0.01)\n") for _ in range(2)]
    for each in waiting:
        backend.submit(each)
        in_phase(backend, each.id, JobPhase.RUNNING)
    assert supervisor(backend, waiting[0].id) != supervisor(backend, waiting[1].id)
    for each in waiting:
        (backend.jobs / each.id / "go").touch()
        assert ended(backend, each.id).reason is EndReason.COMPLETED


def test_a_failure_a_time_limit_and_a_request_to_stop_end_their_own_job_only(backend: LocalBackend) -> None:
    sleeper = "import time\ntime.sleep(60)\n"
    failing = asked(backend, "raise SystemExit(3)\n")
    slow = asked(backend, sleeper, time_limit_seconds=0.3, grace_seconds=0.5)
    unwanted = asked(backend, sleeper, grace_seconds=0.5)
    last = asked(backend)
    backend.submit(failing)
    assert (reason(backend, failing), ended(backend, failing.id).exit_code) == (EndReason.USER_ERROR, 3)
    backend.submit(slow)
    assert reason(backend, slow) is EndReason.TIME_LIMIT
    backend.submit(unwanted)
    in_phase(backend, unwanted.id, JobPhase.RUNNING)
    backend.cancel(unwanted.id, EndReason.CANCELLED)
    assert reason(backend, unwanted) is EndReason.CANCELLED
    assert ran(backend, last) == supervisor(backend, failing.id)


def test_a_supervisor_that_is_killed_loses_the_job_it_has_and_no_other(backend: LocalBackend) -> None:
    ran(backend, asked(backend))
    busy = asked(backend, "import time\nprint('here', flush=True)\ntime.sleep(60)\n")
    backend.submit(busy)
    in_phase(backend, busy.id, JobPhase.RUNNING)
    program = json.loads((backend.jobs / busy.id / "state.json").read_text())["processes"][0][0]
    os.kill(supervisor(backend, busy.id), signal.SIGKILL)
    assert ended(backend, busy.id).reason is EndReason.NODE_LOST
    eventually(lambda: not is_running(program))
    following = asked(backend)
    assert ran(backend, following) != supervisor(backend, busy.id)


def test_a_job_is_run_once_when_the_supervisor_dies_with_it_in_its_hands(backend: LocalBackend) -> None:
    pid = ran(backend, asked(backend))
    os.kill(pid, signal.SIGSTOP)
    unread = asked(backend, arguments=("unread",))
    backend.submit(unread)
    eventually(lambda: not backend._zygotes.hold(unread.id))  # it has been sent
    assert not (backend.jobs / unread.id / "state.json").exists()
    os.kill(pid, signal.SIGKILL)
    status = ended(backend, unread.id)
    assert status.reason is EndReason.COMPLETED and output(backend, unread.id) == b"['unread'] None ['script.py']\n"


def test_a_supervisor_leaves_when_nothing_follows_and_when_its_zygote_is_gone(
    backend: LocalBackend,
) -> None:
    pid = ran(backend, asked(backend))
    assert is_running(pid)
    eventually(lambda: not is_running(pid), within=30)
    pid = ran(backend, asked(backend))
    zygote = backend._zygotes.of(backend.python, backend._python_environment(None)).pid()
    assert zygote is not None
    os.kill(zygote, signal.SIGKILL)
    eventually(lambda: not is_running(pid))
    ran(backend, asked(backend))
