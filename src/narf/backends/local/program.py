"""The user's program: its argument vector, its variables, and how a child process becomes it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from narf.backends.local.folder import JobFolder, JobSpec, ReplicaSpec

_PR_SET_PDEATHSIG = 1
_LAUNCHER = Path(__file__).parents[2] / "training" / "launcher.py"

# Read by OpenMP, BLAS and friends when they are loaded; set unless the user has an opinion.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One replica's program, ready to start. `argv` starts it anywhere; a Python script has `script` besides."""

    argv: tuple[str, ...]
    folder: str
    environment: Mapping[str, str]
    cores: tuple[int, ...] = ()
    script: str | None = None
    arguments: tuple[str, ...] = ()
    hooks: bool = False
    threads: int = 1


def programs(spec: JobSpec, folder: JobFolder, environment: Mapping[str, str]) -> list[Program]:
    """What each replica of `spec` runs."""
    rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())} if spec.rendezvous_here else {}
    return [_program(spec, folder, {**environment, **rendezvous}, replica) for replica in spec.replicas]


def _program(spec: JobSpec, folder: JobFolder, environment: Mapping[str, str], replica: ReplicaSpec) -> Program:
    variables = {name: str(spec.threads) for name in THREAD_VARIABLES}
    variables |= {"PYTHONUNBUFFERED": "1"}  # so that output can be followed as it is written
    variables |= environment
    variables |= replica.environment
    variables |= {
        "NARF_WORKLOAD_ID": spec.workload_id,
        "NARF_ATTEMPT": str(spec.attempt),
        "NARF_JOB_DIR": str(folder.path),
        "NARF_SPOOL": str(folder.spool),
    }
    if spec.run_id:
        variables["NARF_RUN_ID"] = spec.run_id
    variables.setdefault("NARF_CHECKPOINTS", str(folder.path / "checkpoints"))
    hooks = spec.hooks and spec.script is not None and _LAUNCHER.exists()
    if spec.script is None:
        argv = spec.command
    elif hooks:
        argv = (spec.python, str(_LAUNCHER), spec.script, *spec.arguments)
    else:
        argv = (spec.python, spec.script, *spec.arguments)
    return Program(
        argv=argv,
        folder=spec.working_directory or str(folder.work),
        environment=variables,
        cores=replica.cores,
        script=spec.script,
        arguments=spec.arguments,
        hooks=hooks,
        threads=spec.threads,
    )


def start_by_exec(program: Program, output: int) -> int:
    """Start `program` in a process group of its own with `output` as its stdout and stderr; its pid.

    The caller must have a single thread.
    """
    with holding_signals():
        pid = os.fork()
        if pid == 0:
            _become(program, output)
    _lead_group(pid)
    return pid


@contextlib.contextmanager
def holding_signals() -> Iterator[None]:
    """Around a fork: a request to stop that reaches the child before it is the program waits until it is, and ends it then.

    Without, our own handler, which the child has until `enter`, would swallow it.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _become(program: Program, output: int) -> NoReturn:
    try:
        enter(program, output)
        os.execvpe(program.argv[0], program.argv, dict(program.environment))
    except OSError as error:
        what = program.argv[0] if error.filename is None else error.filename
        os.write(2, f"narf: cannot run {what!r}: {os.strerror(error.errno or 0)}\n".encode(errors="replace"))
        # The codes of a shell: 127 is "not found", 126 "found, but cannot be run".
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)
    except BaseException as error:  # between fork and exec nothing may return into the supervisor's code
        os.write(2, f"narf: cannot start the program: {error!r}\n".encode(errors="replace"))
    os._exit(126)


def enter(program: Program, output: int) -> None:
    """Give this process, just forked, what the program's process has: group, stdio, folder, limits, signals.

    Raises:
        OSError: the folder cannot be entered.
    """
    os.setpgid(0, 0)
    die_with_parent()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    close_descriptors()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if program.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, program.cores)
    _prefer_for_oom()
    os.chdir(program.folder)


def die_with_parent() -> None:
    """Have the kernel kill this process when its supervisor dies, so that a lost job holds nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def close_descriptors(above: int = 2) -> None:
    """Close everything but 0, 1 and 2, or but those up to `above`."""
    os.closerange(above + 1, max([*_open_descriptors(), above]) + 1)


def free_port() -> int:
    """A TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _open_descriptors() -> list[int]:
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return [int(name) for name in os.listdir(folder)]
        except OSError:
            continue
    return list(range(1024))


def _prefer_for_oom() -> None:
    """When the machine runs out of memory, the kernel should take a program, not a supervisor or the control plane."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")
    except OSError:
        pass  # not Linux, or not allowed: the kernel then picks by size alone


def _lead_group(pid: int) -> None:
    """Set the group from the parent's side too, so that it exists whoever runs first."""
    with contextlib.suppress(OSError):  # it has done so itself and runs the program already, or has ended
        os.setpgid(pid, pid)
