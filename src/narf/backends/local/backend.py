"""Runs jobs as processes of this machine, each under a supervisor of its own that outlives the control plane.

The truth about a job is in its folder. This class holds nothing that a restart would miss: it writes
folders, starts supervisors, and reads what they have written.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from narf.backends.local import processes, shipping
from narf.backends.local.environments import Environments, environment_key
from narf.backends.local.events import listen_for_changes
from narf.backends.local.folder import JobFolder, JobSpec, JobState, ReplicaSpec, boot_id
from narf.backends.local.log import log_end, read_log
from narf.backends.local.machine import choose_cores, this_machine, usable_cores
from narf.backends.local.program import THREAD_VARIABLES
from narf.backends.local.zygotes import Zygotes
from narf.backends.protocol import Job, JobPhase, JobStatus, LogChunk, Node
from narf.domain.errors import BadInput
from narf.domain.workload import EndReason

_log = logging.getLogger(__name__)

# A folder without a state and without a supervisor: the start is under way (a zygote that is still importing),
# or the control plane died between making the folder and starting the supervisor.
_START_AGAIN_SECONDS = 15.0
_START_PATIENCE_SECONDS = 120.0
_LEFTOVERS_SECONDS = (1.0, 2.0, 4.0, 8.0, 20.0)  # most are there when we begin, and somebody may wait for them; the last goes on

PRELOAD = ("numpy", "torch", "lightning.pytorch")


class LocalBackend:
    """Jobs as processes of this machine, with their folders below `home`/jobs.

    Args:
        python: the interpreter of jobs that name none.
        simulate_gpus: pretend GPUs to hand out instead of real ones.
        base_environment: what every program's variables begin with; by default this process's own,
            without the platform's settings.
        on_change: called, from another thread, when some job's state has changed.
        preload: what zygotes import, as far as it is installed; none: every program is started from nothing.
        run: where the sockets of zygotes are, when several backends share them.
        environments: where built environments are, when several backends share them.
        pins_cores: give each replica cores of its own.
        dies_with_us: jobs do not outlive this process. For a node of a cluster, where it is the cluster that keeps them.
    """

    name = "local"

    def __init__(
        self,
        home: Path,
        *,
        python: str = sys.executable,
        simulate_gpus: int = 0,
        base_environment: Mapping[str, str] | None = None,
        on_change: Callable[[], None] | None = None,
        preload: Sequence[str] = PRELOAD,
        run: Path | None = None,
        environments: Path | None = None,
        pins_cores: bool = True,
        dies_with_us: bool = False,
    ) -> None:
        self.home, self.python = home, python
        self.jobs, self.objects, self._run = home / "jobs", home / "objects", run or home / "run"
        for folder in (self.jobs, self._run):
            folder.mkdir(parents=True, exist_ok=True)
        self.jobs.chmod(0o700)  # job folders hold the output of programs and, for a moment, their secrets
        self._keeper = (os.getpid(), processes.start_ticks(os.getpid())) if dies_with_us else None
        self.environments = Environments(environments or home / "environments")
        self._node = this_machine(simulate_gpus)
        self._base = dict(platform_free(os.environ) if base_environment is None else base_environment)
        self._cores = usable_cores() if pins_cores else ()
        self._known: dict[str, tuple[tuple[int, int], JobStatus]] = {}
        self._promised: dict[str, tuple[float, tuple[int, ...]]] = {}  # of jobs not seen to end
        self._supervisors: dict[int, subprocess.Popen[bytes]] = {}
        self._started_again: set[str] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        uses_zygotes = bool(preload) and sys.platform == "linux"
        self._zygotes = Zygotes(self._run, preload, self._start_otherwise) if uses_zygotes else None
        self._clear_unfinished_folders()
        self._recall_promises()
        self._events = listen_for_changes(self._run, on_change) if on_change else None
        threading.Thread(target=self._ship_leftovers, name="leftovers", daemon=True).start()

    def warm(self) -> None:
        """Have the platform's own zygote import its libraries now, before the first job asks for it."""
        if self._zygotes is not None:
            with self._lock:
                self._zygotes.of(self.python, self._python_environment(None)).warm()

    # -- the protocol

    def submit(self, job: Job) -> None:
        check_id(job.id)
        with self._lock:
            if not (self.jobs / job.id).exists() and self._make_folder(job):
                self._start(job)

    def observe(self, job_ids: Sequence[str]) -> list[JobStatus]:
        with self._lock:
            self._reap()
            return [self._status(job_id) for job_id in job_ids]

    def cancel(self, job_id: str, reason: EndReason) -> None:
        folder = self._folder(job_id)
        state = folder.state()
        if (state is not None and state.phase == "ended") or not folder.path.exists():
            return
        folder.request_cancel(reason)

    def logs(self, job_id: str, offset: int, limit: int) -> LogChunk:
        folder = self._folder(job_id)
        # The state first: what is written after this look is read by the next call.
        state = folder.state()
        ended = state.phase == "ended" if state else not folder.path.exists()
        start, data = read_log(folder.log, max(0, offset), max(0, limit))
        return LogChunk(start, data, ended and start + len(data) >= log_end(folder.log))

    def is_delivered(self, job_id: str) -> bool:
        return shipping.is_shipped(self._folder(job_id).path)

    def capacity(self) -> list[Node]:
        return [self._node]

    def forget(self, job_id: str) -> None:
        folder = self._folder(job_id)
        with self._lock:
            self._known.pop(job_id, None)
            self._promised.pop(job_id, None)
        gone = self.jobs / f".gone-{job_id}"
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(OSError):  # it is not there
            os.rename(folder.path, gone)  # at once: its supervisor may be writing into it
        shutil.rmtree(gone, ignore_errors=True)

    def close(self) -> None:
        self._closed.set()
        if self._zygotes is not None:
            self._zygotes.close()
        if self._events is not None:
            self._events()
        with self._lock:
            for process in self._supervisors.values():
                process.returncode = process.returncode or 0  # it goes on; Popen must not complain about that

    # -- submitting

    def _make_folder(self, job: Job) -> bool:
        if job.requirements.strip():
            base = job.python or self.python
            key = environment_key(job.requirements, job.snapshot, base)
            job = replace(job, python=str(self.environments.python(key)))
            spec = replace(self._spec(job), environment_root=str(self.environments.root), environment_key=key, base_python=base)
            return JobFolder.create(self.jobs, job.id, spec.to_json(), self._environment(job), job.requirements)
        return JobFolder.create(self.jobs, job.id, self._spec(job).to_json(), self._environment(job))

    def _spec(self, job: Job) -> JobSpec:
        gang = len(job.replicas) > 1
        return JobSpec(
            id=job.id,
            workload_id=job.workload_id,
            attempt=job.attempt,
            run_id=job.run_id,
            python=job.python or self.python,
            script=job.script,
            arguments=tuple(job.arguments),
            command=tuple(job.command),
            snapshot=job.snapshot,
            objects=str(self.objects),
            working_directory=job.working_directory,
            replicas=tuple(self._replica(job, rank) for rank in range(len(job.replicas))),
            rendezvous_here=gang,
            threads=math.ceil(job.resources.cpu),
            memory_bytes=job.resources.memory_bytes,
            time_limit_seconds=job.time_limit_seconds,
            grace_seconds=job.grace_seconds,
            hooks=job.hooks,
            notify=str(self._run) if self._events is not None else "",
            tells_end_only=bool(job.series),
            keeper=self._keeper,
        )

    def _replica(self, job: Job, rank: int) -> ReplicaSpec:
        load: dict[int, float] = {}
        for cpu, promised in self._promised.values():
            for core in promised:
                load[core] = load.get(core, 0.0) + cpu / len(promised)
        cores = choose_cores(job.resources.cpu, self._cores, load)
        self._promised[f"{job.id}#{rank}"] = (job.resources.cpu, cores)
        environment = gpu_environment(self._node, job.replicas[rank].gpu_indices, job.replicas[rank].gpu_fraction)
        environment |= rendezvous_environment(rank, len(job.replicas), job.resources.gpu)
        return ReplicaSpec(rank=rank, cores=cores, environment=environment)

    def _environment(self, job: Job) -> dict[str, str]:
        checkpoints = self.home / "checkpoints" / job.workload_id
        checkpoints.mkdir(parents=True, exist_ok=True)
        return self._python_environment(job.python) | {"NARF_CHECKPOINTS": str(checkpoints)} | dict(job.environment)

    def _python_environment(self, python: str | None) -> dict[str, str]:
        """What the variables of every program of this interpreter begin with: an activated environment."""
        if python is None:
            return dict(self._base)
        is_ours = self.environments.root in Path(python).parents  # even when it is yet to be built
        if not is_ours and not (Path(python).parent.parent / "pyvenv.cfg").exists():
            return dict(self._base)
        folder = Path(python).parent
        path = f"{folder}{os.pathsep}{self._base.get('PATH', os.defpath)}"
        return self._base | {"VIRTUAL_ENV": str(folder.parent), "PATH": path}

    def _start(self, job: Job) -> None:
        python: str | None = job.python
        if job.requirements.strip():
            key = environment_key(job.requirements, job.snapshot, job.python or self.python)
            python = str(self.environments.python(key)) if self.environments.is_ready(key) else ""
        if self._zygotes is not None and job.script is not None and python != "":
            zygote = self._zygotes.of(python or self.python, self._python_environment(python))
            # A supervisor that builds or holds an environment does so until it ends.
            if zygote.fork(self.jobs, job.id, job.series if len(job.replicas) == 1 and not job.requirements.strip() else ""):
                return
        self._start_supervisor(job.id)

    def _start_otherwise(self, job_id: str) -> None:
        """A zygote has died with this job in its hands."""
        with self._lock:
            self._start_supervisor(job_id)

    def _start_supervisor(self, job_id: str) -> None:
        folder = self.jobs / job_id
        process = subprocess.Popen(
            [sys.executable, "-m", "narf.backends.local.supervisor", str(folder)],
            cwd="/",
            env=self._base | {"PYTHONPATH": str(Path(__file__).parents[3])},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._supervisors[process.pid] = process

    # -- observing

    def _status(self, job_id: str) -> JobStatus:
        folder = self._folder(job_id)
        try:
            stat = os.stat(folder.path / "state.json")
            mark = (stat.st_mtime_ns, stat.st_ino)
        except OSError:
            mark = (0, 0)
        known = self._known.get(job_id)
        if known and known[0] == mark and known[1].phase is JobPhase.ENDED:
            return known[1]
        status = self._look(job_id, folder)
        if status.phase is JobPhase.ENDED:
            self._let_go(job_id)
        self._known[job_id] = (mark, status)
        return status

    def _look(self, job_id: str, folder: JobFolder) -> JobStatus:
        if not folder.path.exists():
            return JobStatus(id=job_id, phase=JobPhase.UNKNOWN)
        lock = folder.lock()
        try:
            state = folder.state()
            if lock is None or (state is not None and state.phase == "ended"):
                return as_status(job_id, state or JobState())
            if state is None:
                return self._never_started(job_id, folder)
            lost = _lost(state)
            folder.write_state(lost)
            return as_status(job_id, lost)
        finally:
            if lock is not None:
                os.close(lock)

    def _never_started(self, job_id: str, folder: JobFolder) -> JobStatus:
        """A folder without a supervisor. The caller holds its lock."""
        reason = folder.cancel_reason()
        age = time.time() - folder.path.stat().st_mtime
        if reason is None and age < _START_PATIENCE_SECONDS:
            in_hands = self._zygotes is not None and self._zygotes.hold(job_id)
            if age > _START_AGAIN_SECONDS and not in_hands and job_id not in self._started_again:
                self._started_again.add(job_id)
                self._start_supervisor(job_id)
            return JobStatus(id=job_id, phase=JobPhase.STARTING)
        ended = JobState(phase="ended", ended_at=time.time(), reason=reason or EndReason.START_FAILED)
        if reason is None:
            ended = replace(ended, detail=f"Its supervisor did not start; see {folder.path / 'supervisor.log'}.")
        folder.write_state(ended)
        return as_status(job_id, ended)

    def _let_go(self, job_id: str) -> None:
        for key in [key for key in self._promised if key.split("#")[0] == job_id]:
            del self._promised[key]

    def _reap(self) -> None:
        for pid in [pid for pid, process in self._supervisors.items() if process.poll() is not None]:
            del self._supervisors[pid]

    # -- starting again

    def _ship_leftovers(self) -> None:
        """Ship what jobs have left in their spools when their supervisor was killed or the server was away."""
        rests = itertools.chain(_LEFTOVERS_SECONDS, itertools.repeat(_LEFTOVERS_SECONDS[-1]))
        while not self._closed.wait(next(rests)):
            for folder in shipping.leftovers(self.jobs):
                if self._closed.is_set():
                    return
                try:
                    shipping.ship_leftover(folder)
                except (OSError, ValueError, KeyError) as error:  # a broken folder must not keep the others waiting
                    _log.warning("the spool in %s could not be shipped: %s", folder.path, error)

    def _clear_unfinished_folders(self) -> None:
        for path in (*self.jobs.glob(".new-*"), *self.jobs.glob(".gone-*")):
            shutil.rmtree(path, ignore_errors=True)

    def _recall_promises(self) -> None:
        for path in self.jobs.iterdir():
            folder = JobFolder(path)
            with contextlib.suppress(OSError, ValueError, KeyError):  # a folder that is being deleted promises nothing
                state = folder.state()
                if state is None or state.phase != "ended":
                    spec = folder.spec()
                    for replica in spec.replicas:
                        self._promised[f"{spec.id}#{replica.rank}"] = (float(spec.threads), replica.cores)

    def _folder(self, job_id: str) -> JobFolder:
        check_id(job_id)
        return JobFolder(self.jobs / job_id)


def platform_free(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what configures the platform: programs must not see its database's password, and get
    thread counts that fit what they were granted."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("NARF_", "MLFLOW_", "_MLFLOW_")) and name not in THREAD_VARIABLES
    }


def gpu_environment(node: Node, indices: Sequence[int], fraction: float) -> dict[str, str]:
    """The variables that show a program its GPUs and hide all others."""
    listed = ",".join(str(index) for index in indices)
    environment: dict[str, str] = {}
    if node.simulated_gpus:
        if indices:
            environment["NARF_SIMULATED_GPUS"] = listed
    elif node.gpus:
        # PCI order is the order of NVML, whose indices these are; CUDA's own default is "fastest first".
        environment |= {"CUDA_VISIBLE_DEVICES": listed, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if indices and 0 < fraction < 1:
        environment["NARF_GPU_FRACTION"] = f"{fraction:g}"
    return environment


def rendezvous_environment(rank: int, replicas: int, gpus: float) -> dict[str, str]:
    """How the replicas of a gang know themselves, in torchrun's words. A replica is a node.

    With more than one GPU a replica runs several processes, started by the program itself (Lightning) or by
    torchrun; LOCAL_RANK is theirs to set, and would tell Lightning that somebody else has started them.
    """
    if replicas == 1:
        return {}
    environment = {"NODE_RANK": str(rank), "GROUP_RANK": str(rank), "NARF_REPLICA": str(rank), "NARF_REPLICAS": str(replicas)}
    if gpus <= 1:
        environment |= {"RANK": str(rank), "WORLD_SIZE": str(replicas), "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    return environment


def as_status(job_id: str, state: JobState) -> JobStatus:
    return JobStatus(
        id=job_id,
        phase=JobPhase(state.phase),
        started_at=_moment(state.started_at),
        ended_at=_moment(state.ended_at),
        exit_code=state.exit_code,
        reason=EndReason(state.reason) if state.reason else None,
        detail=state.detail,
        cpu_seconds=state.cpu_seconds,
        peak_memory_bytes=state.peak_memory_bytes,
    )


def _lost(state: JobState) -> JobState:
    """The end of a job whose supervisor is gone; what it has left running is killed."""
    rebooted = state.boot_id != boot_id()
    if not rebooted:
        for pid, ticks in state.processes:
            if processes.start_ticks(pid) == ticks:
                processes.signal_group(pid, signal.SIGKILL)
    detail = "The machine was restarted." if rebooted else "Its supervisor was killed."
    return replace(state, phase="ended", ended_at=time.time(), reason=EndReason.NODE_LOST, detail=detail)


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def check_id(job_id: str) -> None:
    if not job_id or len(job_id) > 200 or job_id.startswith(".") or "/" in job_id or "\0" in job_id or "#" in job_id:
        raise BadInput(f"{job_id[:60]!r} cannot name a job.", code="bad_job_id")
