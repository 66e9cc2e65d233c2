"""A job's folder: what is in it, who writes it, and who holds it.

job.json          what to run; written before the folder appears under its name, then never changed
environment.json  the program's variables, secrets among them; deleted once the program has them
state.json        what became of it; replaced atomically by whoever holds the lock
lock              held (flock) by the supervisor while it lives: a free lock beside an unfinished state
                  means that the supervisor is gone, whatever its process number is used for now
cancel.json       a request to stop, with its reason; the first one counts
wake              a FIFO that wakes the supervisor
reserve           space that is given back when the disk is full, so that the last state can be written
log/ spool/ work/
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

_RESERVE_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One replica that a supervisor runs here. `environment` holds what differs between replicas."""

    rank: int
    cores: tuple[int, ...] = ()  # the CPUs it may use; () leaves it free
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """What a supervisor needs to know. The program's environment is kept apart, see `JobFolder.create`."""

    id: str
    workload_id: str
    attempt: int
    run_id: str | None
    python: str
    script: str | None = None
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    snapshot: str | None = None
    objects: str = ""
    working_directory: str | None = None
    replicas: tuple[ReplicaSpec, ...] = (ReplicaSpec(rank=0),)
    rendezvous_here: bool = False  # the replicas are a gang that meets on this machine
    environment_root: str = ""  # where environments are, when this job needs one
    environment_key: str = ""  # which; `python` is its interpreter, `requirements.txt` in the folder its source
    base_python: str = ""  # what it is built with
    threads: int = 1
    memory_bytes: int = 0  # for each replica; 0: no limit
    time_limit_seconds: float | None = None
    grace_seconds: float = 10.0
    hooks: bool = True
    log_head_bytes: int = 16 << 20
    log_tail_bytes: int = 48 << 20
    keeper: tuple[int, int] | None = None  # (pid, start time) of a process that the job must not outlive
    notify: str = ""  # a folder with the socket `events`, told of each change of state
    tells_end_only: bool = False  # it is one of many short ones: that it runs is seen when somebody looks

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> JobSpec:
        fields = json.loads(text)
        fields["replicas"] = tuple(
            ReplicaSpec(rank=r["rank"], cores=tuple(r["cores"]), environment=r["environment"]) for r in fields["replicas"]
        )
        fields["keeper"] = tuple(fields["keeper"]) if fields["keeper"] else None
        fields["arguments"], fields["command"] = tuple(fields["arguments"]), tuple(fields["command"])
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What became of a job so far. Times are seconds since 1970."""

    phase: str = "starting"
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    reason: str | None = None
    detail: str = ""
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    boot_id: str = ""
    supervisor: int = 0
    processes: tuple[tuple[int, int], ...] = ()  # (pid, start time in clock ticks) of each replica's first process
    started_by: str = ""  # "fork" of a zygote, or "exec"; with why not, where a fork was possible

    @classmethod
    def from_json(cls, text: str) -> JobState:
        fields = json.loads(text)
        fields["processes"] = tuple((pid, start) for pid, start in fields["processes"])
        return cls(**fields)


class JobFolder:
    """The folder of one job below `jobs`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log, self.spool, self.work = path / "log", path / "spool", path / "work"
        self.wake_path = path / "wake"

    @classmethod
    def create(cls, jobs: Path, job_id: str, description: str, environment: Mapping[str, str], requirements: str = "") -> bool:
        """Make the folder of a job, whole or not at all; false when it was there already. `description` is its job.json."""
        final = jobs / job_id
        if final.exists():
            return False
        new = jobs / f".new-{os.getpid()}-{job_id}"
        shutil.rmtree(new, ignore_errors=True)
        try:
            for folder in (new, new / "log", new / "spool", new / "work", new / "checkpoints"):
                folder.mkdir(mode=0o700, parents=folder is new)
            _write(new / "job.json", description)
            _write(new / "environment.json", json.dumps(dict(environment)))
            if requirements:
                _write(new / "requirements.txt", requirements)
            (new / "lock").touch(0o600)
            (new / "reserve").write_bytes(b"\0" * _RESERVE_BYTES)
            os.mkfifo(new / "wake", 0o600)
            os.rename(new, final)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False
            raise
        return True

    def spec(self) -> JobSpec:
        return JobSpec.from_json((self.path / "job.json").read_text())

    def take_environment(self) -> dict[str, str]:
        """The program's variables; they are deleted from the disk."""
        path = self.path / "environment.json"
        environment: dict[str, str] = json.loads(path.read_text())
        path.unlink()
        return environment

    def state(self) -> JobState | None:
        try:
            return JobState.from_json((self.path / "state.json").read_text())
        except FileNotFoundError:
            return None

    def write_state(self, state: JobState) -> None:
        """Replace the state atomically. Only the holder of the lock may call this."""
        text = json.dumps(asdict(state))
        new = self.path / "state.json.new"
        try:
            _write(new, text)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            (self.path / "reserve").unlink(missing_ok=True)
            _write(new, text)
        os.replace(new, self.path / "state.json")

    def lock(self) -> int | None:
        """A descriptor that holds the job until it is closed; `None` when another process holds it.

        Raises:
            FileNotFoundError: the folder is gone.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def request_cancel(self, reason: str) -> None:
        """Leave the request, unless one is there, and wake the supervisor."""
        new = self.path / f"cancel.{os.getpid()}.new"
        _write(new, json.dumps({"reason": reason}))
        try:
            os.link(new, self.path / "cancel.json")
        except FileExistsError:
            pass  # the first reason counts
        finally:
            new.unlink()
        self.wake()

    def cancel_reason(self) -> str | None:
        try:
            reason: str = json.loads((self.path / "cancel.json").read_text())["reason"]
        except FileNotFoundError:
            return None
        return reason

    def wake(self) -> None:
        try:
            descriptor = os.open(self.wake_path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in (errno.ENXIO, errno.ENOENT):
                return  # nobody listens: it ended, or looks at its folder when it starts
            raise
        try:
            os.write(descriptor, b"!")
        except BlockingIOError:
            pass  # it is full of wake-ups already
        finally:
            os.close(descriptor)


def _write(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def boot_id() -> str:
    """Names this boot of the machine; "" where the system does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def as_dict(state: JobState) -> dict[str, Any]:
    return asdict(state)
