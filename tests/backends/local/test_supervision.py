"""Supervisors outlive the control plane; what is lost is seen; output and a full disk break nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from narf.backends.local import program
from narf.backends.local.backend import LocalBackend
from narf.backends.local.folder import JobFolder
from narf.backends.protocol import JobPhase
from narf.data.objects import ObjectStore
from narf.domain.errors import BadInput
from narf.domain.workload import EndReason, Resources
from narf.testing.backend_contract import ended, eventually, in_phase, is_running, job, output, run, store_snapshot

MIB = 1 << 20


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[LocalBackend]:
    backend = LocalBackend(tmp_path, preload=())
    yield backend
    backend.close()


def script(backend: LocalBackend, text: str) -> str:
    return store_snapshot(ObjectStore(backend.objects), {"script.py": text})


def state(backend: LocalBackend, job_id: str) -> dict[str, object]:
    content: dict[str, object] = json.loads((backend.jobs / job_id / "state.json").read_text())
    return content


def test_jobs_outlive_the_control_plane(tmp_path: Path) -> None:
    """Submitted by a process that is killed; adopted by another: true exit status, no line missing."""
    control_plane = (
        "import sys, os, signal\nfrom pathlib import Path\nfrom narf.backends.local.backend import LocalBackend\n"
        "from narf.testing.backend_contract import job, in_phase\nfrom narf.backends.protocol import JobPhase\n"
        "backend = LocalBackend(Path(sys.argv[1]), preload=())\n"
        "shell = 'i=0; while [ ! -e go ]; do sleep 0.01; done; echo last; exit 4'\n"
        "asked = job(backend, 'sh', '-c', f'cd {sys.argv[1]}; echo first; ' + shell)\nbackend.submit(asked)\n"
        "in_phase(backend, asked.id, JobPhase.RUNNING)\nprint(asked.id, flush=True)\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    first = subprocess.run([sys.executable, "-c", control_plane, str(tmp_path)], capture_output=True, text=True, timeout=60)
    assert first.returncode == -signal.SIGKILL, first.stderr
    job_id = first.stdout.strip()
    backend = LocalBackend(tmp_path, preload=())
    assert backend.observe([job_id])[0].phase is JobPhase.RUNNING
    (tmp_path / "go").touch()
    status = ended(backend, job_id)
    assert (status.reason, status.exit_code, output(backend, job_id)) == (EndReason.USER_ERROR, 4, b"first\nlast\n")
    backend.close()


def test_a_killed_supervisor_is_a_lost_node_and_leaves_nothing_running(backend: LocalBackend) -> None:
    asked = job(backend, "sh", "-c", "sleep 600 & echo $! $$; wait")
    backend.submit(asked)
    pids = [int(pid) for pid in eventually(lambda: output(backend, asked.id)).split()]
    in_phase(backend, asked.id, JobPhase.RUNNING)
    os.kill(int(str(state(backend, asked.id)["supervisor"])), signal.SIGKILL)
    status = ended(backend, asked.id)
    assert status.reason is EndReason.NODE_LOST and status.reason.may_retry and "supervisor" in status.detail
    eventually(lambda: not any(is_running(pid) for pid in pids))


def test_a_job_of_before_a_reboot_is_lost(backend: LocalBackend) -> None:
    asked = job(backend, "sleep", "600")
    backend.submit(asked)
    in_phase(backend, asked.id, JobPhase.RUNNING)
    supervisor = int(str(state(backend, asked.id)["supervisor"]))
    os.kill(supervisor, signal.SIGKILL)
    eventually(lambda: not is_running(supervisor))
    # The same processes under another boot: their numbers mean somebody else now, and must not be killed.
    bystander = subprocess.Popen(["sleep", "600"], start_new_session=True)
    was = state(backend, asked.id) | {"boot_id": "another boot", "processes": [[bystander.pid, 1]]}
    (backend.jobs / asked.id / "state.json").write_text(json.dumps(was))
    status = ended(LocalBackend(backend.home, preload=()), asked.id)
    assert status.reason is EndReason.NODE_LOST and "restarted" in status.detail
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_a_hundred_megabytes_of_output_keep_head_and_tail(backend: LocalBackend) -> None:
    text = "import sys\nfor i in range(1_000_000):\n    sys.stdout.write(f'{i:099d}\\n')"
    asked = job(backend, script="script.py", snapshot=script(backend, text), environment={"PYTHONUNBUFFERED": ""})
    backend.submit(asked)
    assert ended(backend, asked.id, within=120).reason is EndReason.COMPLETED
    size = sum(path.stat().st_size for path in (backend.jobs / asked.id / "log").iterdir())
    assert 64 * MIB <= size <= 80 * MIB
    assert backend.logs(asked.id, 0, 100).data == b"%099d\n" % 0
    middle = backend.logs(asked.id, 40_000_000, 100)
    assert middle.start > 40_000_000 and middle.data
    last = backend.logs(asked.id, 99_999_900, 1000)
    assert (last.data, last.is_complete) == (b"%099d\n" % 999_999, True)


def test_no_output_is_an_empty_complete_log(backend: LocalBackend) -> None:
    status, text = run(backend, job(backend, "true"))
    assert (status.reason, text) == (EndReason.COMPLETED, "")


def test_a_full_disk_loses_output_and_says_so_but_not_the_job(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("only root can make a small disk")
    try:
        backend = LocalBackend(disk, preload=())
        asked = job(backend, "sh", "-c", "head -c 5000000 /dev/zero; echo; exit 3")
        backend.submit(asked)
        status = ended(backend, asked.id)
        assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 3)
        assert "could not be written to the disk" in status.detail
        with pytest.raises(OSError, match="No space left"):
            backend.submit(job(backend, "true"))
        assert [path.name for path in backend.jobs.iterdir()] == [asked.id]
        backend.forget(asked.id)
        assert run(backend, job(backend, "echo", "again"))[1] == "again\n"
        backend.close()
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_secrets_leave_the_disk_when_the_program_has_them(backend: LocalBackend) -> None:
    asked = job(backend, "sh", "-c", 'test "${SECRET#s3cr3t}" = -value', environment={"SECRET": "s3cr3t-value"})
    assert run(backend, asked)[0].exit_code == 0
    folder = backend.jobs / asked.id
    assert not any(b"s3cr3t-value" in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert folder.stat().st_mode & 0o077 == 0


def test_programs_do_not_see_the_settings_of_the_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NARF_DATABASE_URL", "postgresql://user:password@host/db")
    backend = LocalBackend(tmp_path, preload=())
    assert "password" not in run(backend, job(backend, "env"))[1]
    backend.close()


@pytest.mark.parametrize("name", ["../escape.1", "a/b", "", ".hidden", "x" * 10_000, "nul\0byte", "a#0"])
def test_a_job_cannot_be_named_out_of_its_folder(backend: LocalBackend, name: str) -> None:
    for call in (
        lambda: backend.submit(job(backend, "true", id=name)),
        lambda: backend.logs(name, 0, 1),
        lambda: backend.cancel(name, EndReason.CANCELLED),
        lambda: backend.forget(name),
    ):
        with pytest.raises(BadInput):
            call()


def test_a_start_that_never_came_is_made_again(backend: LocalBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control plane died between making the folder and starting the supervisor."""
    asked = job(backend, "echo", "after all")
    monkeypatch.setattr(backend, "_start", lambda job: None)
    backend.submit(asked)
    assert backend.observe([asked.id])[0].phase is JobPhase.STARTING
    os.utime(backend.jobs / asked.id, (0, os.stat(backend.jobs).st_mtime - 20))
    assert ended(backend, asked.id).reason is EndReason.COMPLETED
    assert output(backend, asked.id) == b"after all\n"


def test_only_one_supervisor_runs_a_job(backend: LocalBackend) -> None:
    asked = job(backend, "sh", "-c", "echo once; sleep 0.3")
    backend.submit(asked)
    for _ in range(3):
        backend._start_supervisor(asked.id)
    assert ended(backend, asked.id).reason is EndReason.COMPLETED
    eventually(lambda: not (backend._reap() or backend._supervisors))
    assert output(backend, asked.id) == b"once\n"


def test_changes_are_told_at_once(tmp_path: Path) -> None:
    changed = threading.Event()
    deep = tmp_path / ("d" * 100) / ("e" * 100)  # beyond what the path of a socket can hold
    backend = LocalBackend(deep, preload=(), on_change=changed.set)
    asked = job(backend, "true")
    backend.submit(asked)
    assert changed.wait(30)
    ended(backend, asked.id)
    backend.close()


def test_a_terminated_supervisor_stops_its_program_and_reports_a_lost_node(backend: LocalBackend) -> None:
    """What happens when the machine shuts down."""
    asked = job(backend, "sleep", "600")
    backend.submit(asked)
    in_phase(backend, asked.id, JobPhase.RUNNING)
    os.kill(int(str(state(backend, asked.id)["supervisor"])), signal.SIGTERM)
    assert ended(backend, asked.id).reason is EndReason.NODE_LOST


def test_cores_are_shared_out(backend: LocalBackend) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("needs two cores")
    wanted = [job(backend, "sh", "-c", "taskset -p $$; nproc; sleep 0.5", resources=Resources(cpu=1)) for _ in range(2)]
    for asked in wanted:
        backend.submit(asked)
    masks = {run(backend, asked)[1].splitlines()[0].rpartition(" ")[2] for asked in wanted}
    assert len(masks) == 2


def test_a_folder_that_is_deleted_while_it_runs_ends_the_job(backend: LocalBackend) -> None:
    asked = job(backend, "sleep", "0.2")
    backend.submit(asked)
    in_phase(backend, asked.id, JobPhase.RUNNING)
    folder = JobFolder(backend.jobs / asked.id)
    supervisor = int(str(state(backend, asked.id)["supervisor"]))
    backend.forget(asked.id)
    assert not folder.path.exists()
    eventually(lambda: not is_running(supervisor))


def test_a_request_to_stop_that_comes_before_the_program_is_there_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between fork and exec the child still has its supervisor's handler, which would swallow the signal."""
    enter = program.enter

    def enter_late(*arguments: Any) -> None:
        os.read(gate, 1)
        enter(*arguments)

    gate, opened = os.pipe()
    monkeypatch.setattr(program, "enter", enter_late)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        output = os.open(os.devnull, os.O_WRONLY)
        pid = program.start_by_exec(program.Program(argv=("sleep", "30"), folder="/", environment=dict(os.environ)), output)
        os.kill(pid, signal.SIGTERM)
        os.write(opened, b"!")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
        for descriptor in (gate, opened, output):
            os.close(descriptor)
