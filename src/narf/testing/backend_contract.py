"""What every backend promises, as tests: subclass, give the `backend` fixture, and run.

`BackendContract` is the life of a job; it uses the programs true, false, echo and sleep only.
`ExecutionContract` is what a program sees and what holds it; for backends that run real programs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from narf.backends.protocol import Backend, Job, JobPhase, JobStatus, Replica
from narf.data.objects import ObjectStore
from narf.domain.names import new_id
from narf.domain.workload import EndReason, Resources


def job(backend: Backend, *command: str, replicas: int = 1, **fields: Any) -> Job:
    """A job that runs `command` on the first node of `backend`, with an id of its own."""
    workload_id = new_id("wl")
    node = backend.capacity()[0].name
    fields.setdefault("resources", Resources(cpu=0.1))
    fields.setdefault("id", f"{workload_id}.1")
    return Job(
        workload_id=workload_id,
        attempt=1,
        run_id=None,
        replicas=fields.pop("placed", [Replica(node=node)] * replicas),
        command=command,
        **fields,
    )


def eventually(look: Callable[[], Any], *, within: float = 180.0) -> Any:
    """What `look` gives as soon as it is true; looked at again and again until then."""
    deadline = time.monotonic() + within
    while not (seen := look()):
        assert time.monotonic() < deadline, f"not within {within:g} s"
        time.sleep(0.01)
    return seen


def in_phase(backend: Backend, job_id: str, phase: JobPhase, *, within: float = 180.0) -> JobStatus:
    """The status of the job as soon as it is in `phase`, or has passed it by ending."""

    def look() -> JobStatus | None:
        status = backend.observe([job_id])[0]
        return status if status.phase in {phase, JobPhase.ENDED} else None

    status: JobStatus = eventually(look, within=within)
    assert status.phase is phase, f"it ended: {status}\n{output(backend, job_id).decode(errors='replace')}"
    return status


def ended(backend: Backend, job_id: str, *, within: float = 180.0) -> JobStatus:
    return in_phase(backend, job_id, JobPhase.ENDED, within=within)


def output(backend: Backend, job_id: str) -> bytes:
    """All output that is kept of the job so far."""
    data, offset = b"", 0
    while True:
        chunk = backend.logs(job_id, offset, 1 << 20)
        if not chunk.data:
            return data
        data, offset = data + chunk.data, chunk.start + len(chunk.data)


def whole_output(backend: Backend, job_id: str) -> bytes:
    """All output of a job that has ended; the last of it may arrive after the news of its end."""
    eventually(lambda: backend.logs(job_id, 1 << 40, 1).is_complete)
    return output(backend, job_id)


def run(backend: Backend, asked: Job, *, within: float = 180.0) -> tuple[JobStatus, str]:
    """Submit, wait for the end; the status and the output."""
    backend.submit(asked)
    return ended(backend, asked.id, within=within), whole_output(backend, asked.id).decode()


class BackendContract:
    """The life of a job, on any backend."""

    @pytest.fixture
    def backend(self) -> Backend:
        raise NotImplementedError("give the backend under test, closed when the test ends")

    def test_a_job_runs_to_its_end(self, backend: Backend) -> None:
        status, text = run(backend, job(backend, "echo", "hello"))
        assert (status.phase, status.reason, status.exit_code, text) == (JobPhase.ENDED, EndReason.COMPLETED, 0, "hello\n")
        assert status.started_at is not None and status.ended_at is not None and status.started_at <= status.ended_at

    def test_a_failing_program_is_the_users_error(self, backend: Backend) -> None:
        status, text = run(backend, job(backend, "false"))
        assert (status.reason, status.exit_code, text) == (EndReason.USER_ERROR, 1, "")

    def test_submitting_twice_starts_once(self, backend: Backend) -> None:
        asked = job(backend, "echo", "once")
        for _ in range(3):
            backend.submit(asked)
        ended(backend, asked.id)
        backend.submit(asked)
        assert whole_output(backend, asked.id) == b"once\n"
        assert backend.observe([asked.id])[0].phase is JobPhase.ENDED

    def test_an_unknown_job_is_unknown(self, backend: Backend) -> None:
        known = job(backend, "true")
        backend.submit(known)
        phases = [status.phase for status in backend.observe(["wl-never.1", known.id, "wl-never.2"])]
        assert phases[0] is phases[2] is JobPhase.UNKNOWN and phases[1] is not JobPhase.UNKNOWN
        backend.cancel("wl-never.1", EndReason.CANCELLED)
        backend.forget("wl-never.1")
        assert backend.logs("wl-never.1", 0, 10).data == b""
        ended(backend, known.id)

    def test_observe_answers_in_the_order_asked(self, backend: Backend) -> None:
        jobs = [job(backend, "true") for _ in range(5)]
        for asked in jobs:
            backend.submit(asked)
        ids = [asked.id for asked in jobs]
        assert [status.id for status in backend.observe(ids[::-1])] == ids[::-1]
        assert [ended(backend, job_id).reason for job_id in ids] == [EndReason.COMPLETED] * 5

    @pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.PREEMPTED])
    def test_a_running_job_can_be_stopped(self, backend: Backend, reason: EndReason) -> None:
        asked = job(backend, "sleep", "600")
        backend.submit(asked)
        in_phase(backend, asked.id, JobPhase.RUNNING)
        backend.cancel(asked.id, reason)
        backend.cancel(asked.id, EndReason.TIME_LIMIT)  # the first reason counts
        status = ended(backend, asked.id)
        assert (status.reason, status.exit_code) == (reason, -15)

    def test_a_job_can_be_cancelled_at_once(self, backend: Backend) -> None:
        asked = job(backend, "sleep", "600")
        backend.submit(asked)
        backend.cancel(asked.id, EndReason.CANCELLED)
        assert ended(backend, asked.id).reason is EndReason.CANCELLED

    def test_cancelling_what_has_ended_changes_nothing(self, backend: Backend) -> None:
        asked = job(backend, "true")
        backend.submit(asked)
        before = ended(backend, asked.id)
        backend.cancel(asked.id, EndReason.CANCELLED)
        assert backend.observe([asked.id])[0] == before

    def test_output_is_read_with_a_cursor(self, backend: Backend) -> None:
        asked = job(backend, "echo", "0123456789")
        run(backend, asked)
        assert backend.logs(asked.id, 3, 4).data == b"3456"
        last = backend.logs(asked.id, 7, 100)
        assert (last.start, last.data, last.is_complete) == (7, b"789\n", True)
        beyond = backend.logs(asked.id, 11, 100)
        assert (beyond.data, beyond.is_complete) == (b"", True)

    def test_the_output_of_a_running_job_is_not_complete(self, backend: Backend) -> None:
        asked = job(backend, "sleep", "600")
        backend.submit(asked)
        in_phase(backend, asked.id, JobPhase.RUNNING)
        assert not backend.logs(asked.id, 0, 100).is_complete
        backend.cancel(asked.id, EndReason.CANCELLED)
        ended(backend, asked.id)

    def test_what_is_forgotten_is_unknown(self, backend: Backend) -> None:
        asked = job(backend, "echo", "gone")
        run(backend, asked)
        backend.forget(asked.id)
        backend.forget(asked.id)
        assert backend.observe([asked.id])[0].phase is JobPhase.UNKNOWN
        assert backend.logs(asked.id, 0, 100).data == b""

    def test_of_what_is_unknown_or_reported_nothing_all_is_delivered(self, backend: Backend) -> None:
        done = job(backend, "true")
        run(backend, done)
        assert backend.is_delivered(done.id) and backend.is_delivered("never.1")

    def test_capacity_names_usable_nodes(self, backend: Backend) -> None:
        nodes = backend.capacity()
        assert nodes and len({node.name for node in nodes}) == len(nodes)
        assert all(node.cpu > 0 and node.memory_bytes > 0 and node.gpus >= 0 for node in nodes)

    def test_a_gang_ends_with_its_replicas(self, backend: Backend) -> None:
        status, text = run(backend, job(backend, "echo", "hello", replicas=2))
        assert (status.reason, status.exit_code) == (EndReason.COMPLETED, 0)
        assert sorted(text.splitlines()) == ["[0] hello", "[1] hello"]


class ExecutionContract(BackendContract):
    """What a program sees, and what holds it. `objects` is where the backend finds code snapshots."""

    @pytest.fixture
    def objects(self) -> ObjectStore:
        raise NotImplementedError("give the store that the backend under test reads snapshots from")

    def script(self, backend: Backend, objects: ObjectStore, text: str, *arguments: str, **fields: Any) -> Job:
        """A job that runs `text` as script.py."""
        snapshot = store_snapshot(objects, {"script.py": text} | fields.pop("files", {}))
        return job(backend, script=fields.pop("script", "script.py"), arguments=arguments, snapshot=snapshot, **fields)

    def test_a_script_sees_its_files_arguments_and_variables(self, backend: Backend, objects: ObjectStore) -> None:
        text = (
            "import json, os, sys, part.beside\nprint(json.dumps([sys.argv, os.environ['NAME'], os.listdir('.'), part.beside.X, __name__]))"
        )
        asked = self.script(backend, objects, text, "--lr", "0.1", "ü b", files={"part/beside.py": "X = 7"}, environment={"NAME": "wert ü"})
        status, output = run(backend, asked)
        assert status.exit_code == 0, output
        argv, variable, files, beside, name = json.loads(output)
        assert (argv, variable, beside, name) == (["script.py", "--lr", "0.1", "ü b"], "wert ü", 7, "__main__")
        assert {"script.py", "part"} <= set(files)

    def test_a_script_may_change_its_files_without_changing_the_snapshot(self, backend: Backend, objects: ObjectStore) -> None:
        text = "f = open('data.txt', 'r+')\nprint(f.read())\nf.seek(0)\nf.write('changed')\nf.close()"
        for _ in range(2):
            status, output = run(backend, self.script(backend, objects, text, files={"data.txt": "original"}))
            assert (status.exit_code, output) == (0, "original\n")

    def test_a_script_in_a_folder_imports_what_lies_beside_it(self, backend: Backend, objects: ObjectStore) -> None:
        asked = self.script(
            backend, objects, "", script="sub/train.py", files={"sub/train.py": "import model\nprint(model.A)", "sub/model.py": "A = 1"}
        )
        assert run(backend, asked)[1] == "1\n"

    def test_a_traceback_names_the_users_lines_only(self, backend: Backend, objects: ObjectStore) -> None:
        status, output = run(backend, self.script(backend, objects, "def f():\n    raise ValueError('mine')\nf()"))
        assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 1)
        assert output.count("File ") == 2 and "script.py" in output and "ValueError: mine" in output and "launcher" not in output

    @pytest.mark.parametrize(
        ("text", "code", "said"),
        [
            ("import sys\nsys.exit(7)", 7, ""),
            ("raise SystemExit('enough')", 1, "enough"),
            ("def f(:\n  pass", 1, "SyntaxError"),
            ("import os\nos._exit(9)", 9, ""),
            ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", -11, ""),
        ],
    )
    def test_the_exit_status_is_the_programs(self, backend: Backend, objects: ObjectStore, text: str, code: int, said: str) -> None:
        status, output = run(backend, self.script(backend, objects, text))
        assert status.exit_code == code
        assert status.reason is (EndReason.USER_ERROR if code > 0 else EndReason.KILLED_BY_SIGNAL)
        assert said in output

    def test_a_script_that_is_missing_says_so(self, backend: Backend, objects: ObjectStore) -> None:
        status, output = run(backend, self.script(backend, objects, "", script="missing.py"))
        assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 2)
        assert "can't open file" in output and "missing.py" in output

    def test_a_script_that_is_a_directory_says_so(self, backend: Backend, objects: ObjectStore) -> None:
        status, output = run(backend, self.script(backend, objects, "", script="folder", files={"folder/file.txt": ""}))
        assert status.reason is EndReason.USER_ERROR
        assert "__main__" in output or "directory" in output

    def test_a_missing_command_says_so(self, backend: Backend) -> None:
        status, output = run(backend, job(backend, "no-such-program-anywhere"))
        assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 127)
        assert "no-such-program-anywhere" in output

    def test_a_missing_snapshot_is_a_failed_start(self, backend: Backend) -> None:
        status, _ = run(backend, job(backend, script="script.py", snapshot="0" * 64))
        assert status.reason is EndReason.START_FAILED and "0000" in status.detail

    def test_a_snapshot_cannot_write_outside_of_its_folder(self, backend: Backend, objects: ObjectStore, tmp_path: Path) -> None:
        snapshot = store_snapshot(objects, {"../escaped.py": "print(1)"})
        status, _ = run(backend, job(backend, script="script.py", snapshot=snapshot))
        assert status.reason is EndReason.START_FAILED and "outside" in status.detail

    def test_a_stop_reaches_what_the_program_has_started(self, backend: Backend, objects: ObjectStore) -> None:
        text = (
            "import subprocess, sys, time\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            "detached = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
            "print(child.pid, detached.pid, flush=True)\ntime.sleep(600)"
        )
        asked = self.script(backend, objects, text)
        backend.submit(asked)
        pids = eventually(lambda: output(backend, asked.id)).split()
        backend.cancel(asked.id, EndReason.CANCELLED)
        assert ended(backend, asked.id).reason is EndReason.CANCELLED
        eventually(lambda: not any(is_running(int(pid)) for pid in pids))

    def test_a_program_that_ignores_the_request_is_killed_after_its_grace(self, backend: Backend, objects: ObjectStore) -> None:
        text = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\ntime.sleep(600)"
        asked = self.script(backend, objects, text, grace_seconds=0.2)
        backend.submit(asked)
        eventually(lambda: output(backend, asked.id))
        backend.cancel(asked.id, EndReason.CANCELLED)
        status = ended(backend, asked.id)
        assert (status.reason, status.exit_code) == (EndReason.CANCELLED, -9)

    def test_a_program_may_use_its_grace(self, backend: Backend, objects: ObjectStore) -> None:
        # A handler that prints may meet a print, and a signal just before a long sleep is seen only after it: Python's own, not ours.
        text = (
            "import os, signal, sys, time\n"
            "def save(*_):\n    os.write(1, b'saved\\n')\n    sys.exit(0)\n"
            "signal.signal(signal.SIGTERM, save)\nos.write(1, b'ready\\n')\n"
            "for _ in range(6000):\n    time.sleep(0.1)"
        )
        asked = self.script(backend, objects, text)
        backend.submit(asked)
        eventually(lambda: output(backend, asked.id))
        backend.cancel(asked.id, EndReason.PREEMPTED)
        status = ended(backend, asked.id)
        assert (status.reason, status.exit_code, whole_output(backend, asked.id)) == (EndReason.PREEMPTED, 0, b"ready\nsaved\n")

    def test_the_time_limit_ends_a_job(self, backend: Backend) -> None:
        status, _ = run(backend, job(backend, "sleep", "600", time_limit_seconds=0.3))
        assert status.reason is EndReason.TIME_LIMIT and "0.3 s" in status.detail

    def test_the_memory_limit_ends_a_job(self, backend: Backend, objects: ObjectStore) -> None:
        text = "import time\nhoard = [bytearray(b'x' * (1 << 20)) for _ in range(300)]\nprint('hoarded', flush=True)\ntime.sleep(600)"
        asked = self.script(backend, objects, text, resources=Resources(cpu=0.1, memory_bytes=200 << 20))
        status, _ = run(backend, asked)
        assert status.reason is EndReason.OUT_OF_MEMORY and "200 MiB" in status.detail
        assert status.peak_memory_bytes > 200 << 20

    def test_binary_noise_is_kept_as_it_is(self, backend: Backend, objects: ObjectStore) -> None:
        noise = bytes(range(256)) * 500
        text = "import sys\nsys.stdout.buffer.write(bytes(range(256)) * 500)"
        asked = self.script(backend, objects, text)
        backend.submit(asked)
        ended(backend, asked.id)
        assert whole_output(backend, asked.id) == noise

    def test_standard_error_is_in_the_output_in_order(self, backend: Backend, objects: ObjectStore) -> None:
        text = "import sys\nfor i in range(3):\n    print('out', i, flush=True)\n    print('err', i, file=sys.stderr, flush=True)"
        assert run(backend, self.script(backend, objects, text))[1] == "out 0\nerr 0\nout 1\nerr 1\nout 2\nerr 2\n"

    def test_a_failed_replica_ends_its_gang(self, backend: Backend, objects: ObjectStore) -> None:
        text = "import os, sys, time\nif os.environ['NODE_RANK'] == '1':\n    sys.exit(3)\ntime.sleep(600)"
        status, _ = run(backend, self.script(backend, objects, text, replicas=2))
        assert (status.reason, status.exit_code) == (EndReason.USER_ERROR, 3)
        assert "Replica 1" in status.detail

    def test_a_gang_meets(self, backend: Backend, objects: ObjectStore) -> None:
        text = (
            "import torch, torch.distributed as dist\n"
            "dist.init_process_group('gloo')\n"
            "t = torch.tensor([dist.get_rank() + 1.0])\ndist.all_reduce(t)\nprint('sum', t.item(), dist.get_world_size())\n"
            "dist.destroy_process_group()"
        )
        status, output = run(backend, self.script(backend, objects, text, replicas=2), within=120)
        assert status.exit_code == 0, output
        assert sorted(line for line in output.splitlines() if "sum" in line) == ["[0] sum 3.0 2", "[1] sum 3.0 2"]


def store_snapshot(objects: ObjectStore, files: dict[str, str]) -> str:
    """Store `files` (path to text) as a code snapshot; its id."""
    entries = [
        {"path": path, "sha256": objects.put(text.encode()), "size": len(text.encode()), "mode": 0o644} for path, text in files.items()
    ]
    return objects.put(json.dumps({"files": entries}).encode())


def is_running(pid: int) -> bool:
    """Whether `pid` is a process that is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


__all__: Sequence[str] = (
    "BackendContract",
    "ExecutionContract",
    "ended",
    "eventually",
    "in_phase",
    "job",
    "output",
    "run",
    "store_snapshot",
)
