"""Supervises one job: starts its program, keeps its output and limits, and writes down how it ended.

It outlives the control plane and needs nothing but the job's folder and the standard library. It is
forked from a zygote or started as `python -m narf.backends.local.supervisor FOLDER`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from narf.backends.local import processes, shipping
from narf.backends.local.ending import Ended, conclude
from narf.backends.local.environments import Environments
from narf.backends.local.events import tell
from narf.backends.local.folder import JobFolder, JobSpec, JobState, boot_id
from narf.backends.local.log import LogWriter
from narf.backends.local.output import Output
from narf.backends.local.program import Program, programs, start_by_exec
from narf.backends.local.work import fill
from narf.data.objects import ObjectStore
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason

CHANNEL = 3  # the descriptor through which a supervisor that is kept is given its next job

_PR_SET_CHILD_SUBREAPER = 36
_LEFTOVER_GRACE_SECONDS = 2.0
_QUICK_LOOK_SECONDS = 0.25  # resident size against the limit
_KEEPER_LOOK_SECONDS = 0.5
_DEAR_LOOK_SECONDS = 2.0  # proportional size, for the record
_FIRST_DEAR_LOOK_SECONDS = 0.75  # it takes some milliseconds: more than a short program should pay for its record

Start = Callable[[Program, int], tuple[int, str]]
"""Starts a program with a descriptor as its output: its pid, and how it was started."""


def supervise(path: Path, start: Start) -> None:
    """Run the job in folder `path` to its end, unless another supervisor has it or had it. It may be called again for the next job."""
    folder, lock = JobFolder(path), None
    try:
        lock = _held(folder)
        if lock is None or folder.state() is not None:
            return
        Supervisor(folder, folder.spec(), start).run()
    except FileNotFoundError:
        if folder.path.exists():
            raise
        return  # deleted before it began
    finally:
        if lock is not None:
            os.close(lock)


def next_job(channel: int) -> Path | None:
    """Say that the job is over, and wait for the next; None when there is none to come, or this process should not go on."""
    if threading.active_count() > 1:
        return None  # what is left is still being shipped: a fork of it would take a lock along
    try:
        os.write(channel, b"!")
        folder = os.read(channel, 1 << 16)
    except OSError:
        return None
    if not folder:
        return None
    complain_to(Path(os.fsdecode(folder)) / "supervisor.log")
    return Path(os.fsdecode(folder))


def _held(folder: JobFolder) -> int | None:
    """The lock. The control plane holds it for an instant when it looks: try for a while."""
    deadline = time.monotonic() + 5
    while (lock := folder.lock()) is None and folder.state() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    return lock


class Supervisor:
    """The life of one job. Single-threaded until its program runs; then only the shipper has a thread."""

    def __init__(self, folder: JobFolder, spec: JobSpec, start: Start) -> None:
        self.folder, self.spec = folder, spec
        self.state = JobState(boot_id=boot_id(), supervisor=os.getpid())
        self._start = start
        self._log = LogWriter(folder.log, head_bytes=spec.log_head_bytes, tail_bytes=spec.log_tail_bytes)
        self._selector = selectors.DefaultSelector()
        self._outputs: list[Output] = []
        self._running: dict[int, int] = {}  # pid to rank
        self._endings: list[Ended] = []
        self._stop: EndReason | None = None
        self._stop_detail = ""
        self._kill_at = float("inf")
        self._look_at = time.monotonic() + _QUICK_LOOK_SECONDS
        self._dear_look_at = time.monotonic() + _FIRST_DEAR_LOOK_SECONDS
        self._looked = False
        self._is_preparing = False
        self._keeper_look_at = 0.0
        self._oom_kills = processes.kernel_oom_kills()
        self._shipper: shipping.SpoolShipper | None = None

    def run(self) -> None:
        self.folder.write_state(self.state)  # and nobody is told: what there is to tell follows in a moment
        _adopt_orphans()
        with contextlib.ExitStack() as closing:
            self._listen(closing)
            self._live()

    def _live(self) -> None:
        environment = self.folder.take_environment()
        if not self._cancelled_early():
            try:
                self._fill()
                if not self._has_environment(environment):
                    return
                self._begin(environment)
            except (OSError, ValueError, NarfError) as error:
                self._stop_all(signal.SIGKILL)
                self._end(EndReason.START_FAILED, detail=str(error))
                return
            self._shipper = shipping.start(self.folder, self.spec.run_id, environment)
            while self._running:
                self._turn()
            self._end_leftovers()
            self._finish()

    # -- beginning

    def _fill(self) -> None:
        if self.spec.working_directory is None and self.spec.snapshot is not None:
            fill(self.folder.work, self.spec.snapshot, ObjectStore(Path(self.spec.objects)))

    def _has_environment(self, environment: dict[str, str]) -> bool:
        """Have the job's Python environment, building it if need be; false when the job has ended over it."""
        spec = self.spec
        if not spec.environment_key:
            return True
        environments = Environments(Path(spec.environment_root))
        if not environments.is_ready(spec.environment_key):
            self._write(replace(self.state, detail="Its Python environment is being built; its output shows how far."))
            self._run_alone(_builder(spec, self.folder, environment))
            if self._stop is not None or self._endings[0].exit_code != 0:
                self._end(self._stop or EndReason.ENVIRONMENT_FAILED, detail=self._stop_detail or "Its output says why.")
                return False
            self._endings.clear()
            self._write(replace(self.state, detail="", processes=()))
        environments.hold(spec.environment_key)  # until this process ends
        return True

    def _run_alone(self, program: Program) -> None:
        """Run a program of ours before the user's, to its end, under the same supervision but for the memory limit."""
        self._is_preparing = True
        self._launch(program, -1, "", lambda program, output: (start_by_exec(program, output), "exec"))
        while self._running:
            self._turn()
        self._end_leftovers()
        self._is_preparing = False
        self._kill_at = float("inf")

    def _begin(self, environment: dict[str, str]) -> None:
        spec = self.spec
        gang = len(spec.replicas) > 1
        hows = [
            self._launch(program, replica.rank, f"[{replica.rank}] " if gang else "", self._start)
            for replica, program in zip(spec.replicas, programs(spec, self.folder, environment), strict=True)
        ]
        self._write(replace(self.state, phase="running", started_at=time.time(), started_by=hows[0]))

    def _launch(self, program: Program, rank: int, label: str, start: Start) -> str:
        reading, writing = os.pipe()
        pid, how = start(program, writing)
        os.close(writing)
        os.set_blocking(reading, False)
        output = Output(reading, self._log.write, label=label)
        self._outputs.append(output)
        self._selector.register(reading, selectors.EVENT_READ, output)
        self._running[pid] = rank
        self.state = replace(self.state, processes=(*self.state.processes, (pid, processes.start_ticks(pid))))
        if self._stop is not None:  # asked to stop while it was being started: it could not be told then
            processes.signal_group(pid, signal.SIGTERM)
        return how

    def _cancelled_early(self) -> bool:
        if (reason := self.folder.cancel_reason()) is None:
            return False
        self._end(EndReason(reason))
        return True

    def _listen(self, closing: contextlib.ExitStack) -> None:
        """Wake up for a child's end (SIGCHLD) and for a request in the folder (the FIFO)."""
        ready, notify = os.pipe()
        for descriptor in (ready, notify):
            os.set_blocking(descriptor, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(notify, warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._on_terminate)
        # Opened for writing too, so that it never reads as "all writers are gone".
        wake = os.open(self.folder.wake_path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        for descriptor in (ready, wake):
            self._selector.register(descriptor, selectors.EVENT_READ, None)
        closing.callback(self._deaf, (ready, notify, wake))

    def _deaf(self, descriptors: Sequence[int]) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        self._selector.close()
        for descriptor in descriptors:
            os.close(descriptor)

    def _on_terminate(self, *_: object) -> None:
        """The machine shuts down: the job can go on elsewhere, so it is lost, not failed."""
        self._request_stop(EndReason.NODE_LOST, "The machine was shutting down.")

    # -- running

    def _turn(self) -> None:
        now = time.monotonic()
        for key, _ in self._selector.select(max(0.0, self._next_due(now) - now)):
            if isinstance(key.data, Output):
                if not key.data.pump():
                    self._selector.unregister(key.fd)
                    if self._shipper is not None:  # a process takes milliseconds to go after it has closed its output
                        self._shipper.hurry()
            else:
                _drain(key.fd)
        self._reap()
        if self._stop is None and (reason := self.folder.cancel_reason()) is not None:
            self._request_stop(EndReason(reason))
        self._watch(time.monotonic())

    def _next_due(self, now: float) -> float:
        longest = _KEEPER_LOOK_SECONDS if self.spec.keeper is not None else 5.0
        due = min(self._kill_at, self._look_at if self.spec.memory_bytes else self._dear_look_at, now + longest)
        if self.spec.time_limit_seconds is not None and self._stop is None:
            due = min(due, now + self._time_left())
        return due

    def _time_left(self) -> float:
        assert self.spec.time_limit_seconds is not None
        return (self.state.started_at or time.time()) + self.spec.time_limit_seconds - time.time()

    def _reap(self) -> bool:
        """Collect what has ended: replicas, and orphans that were handed to us. Whether a process is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            # The resident size of a fork includes what it shares: the record until there is a better one.
            peak = self.state.peak_memory_bytes or (0 if self._looked else usage.ru_maxrss * 1024)
            cpu_seconds = self.state.cpu_seconds + usage.ru_utime + usage.ru_stime
            self.state = replace(self.state, cpu_seconds=cpu_seconds, peak_memory_bytes=peak)
            if pid in self._running:
                ended = Ended(rank=self._running.pop(pid), exit_code=os.waitstatus_to_exitcode(status), asked=self._stop is not None)
                self._endings.append(ended)
                # The rest of the group of a replica ends with it; one failed replica ends the gang.
                processes.signal_group(pid, signal.SIGTERM)
                if ended.exit_code != 0 and self._running:
                    self._begin_stop()

    def _watch(self, now: float) -> None:
        if now >= self._kill_at:
            self._stop_all(signal.SIGKILL)
            self._kill_at = now + 1
        if self.spec.keeper is not None and self._stop is None and now >= self._keeper_look_at:
            self._keeper_look_at = now + _KEEPER_LOOK_SECONDS
            if processes.start_ticks(self.spec.keeper[0]) != self.spec.keeper[1]:
                self._request_stop(EndReason.NODE_LOST, "What kept it on this node is gone.")
        if self._stop is None and self.spec.time_limit_seconds is not None and self._time_left() <= 0:
            self._request_stop(EndReason.TIME_LIMIT, f"The limit is {self.spec.time_limit_seconds:g} s.")
        if now >= self._look_at or now >= self._dear_look_at:
            self._look_at_memory(now)

    def _look_at_memory(self, now: float) -> None:
        limit = 0 if self._is_preparing else self.spec.memory_bytes * len(self.spec.replicas)
        family = processes.descendants(os.getpid())
        if now >= self._dear_look_at or (limit and processes.resident_bytes(family) > limit):
            size = processes.proportional_bytes(family)
            self._looked = True
            self.state = replace(self.state, peak_memory_bytes=max(self.state.peak_memory_bytes, size))
            spent = time.monotonic() - now
            self._dear_look_at = now + max(_DEAR_LOOK_SECONDS, 100 * spent)  # at most one per cent of a core
            if limit and size > limit and self._stop is None:
                detail = f"It held {size >> 20} MiB; the limit is {limit >> 20} MiB."
                self._request_stop(EndReason.OUT_OF_MEMORY, detail)
                self._stop_all(signal.SIGKILL)  # there may be no time for a grace
        self._look_at = now + max(_QUICK_LOOK_SECONDS, 25 * (time.monotonic() - now))

    # -- stopping and ending

    def _request_stop(self, reason: EndReason, detail: str = "") -> None:
        if self._stop is None:
            self._stop, self._stop_detail = reason, detail
            self._begin_stop()

    def _begin_stop(self) -> None:
        if self._kill_at == float("inf"):
            self._kill_at = time.monotonic() + self.spec.grace_seconds
            self._stop_all(signal.SIGTERM)

    def _stop_all(self, number: signal.Signals) -> None:
        for pid in self._running:
            processes.signal_group(pid, number)
        if number == signal.SIGKILL:
            processes.signal_each(processes.descendants(os.getpid()), number)

    def _end_leftovers(self) -> None:
        """Whatever the program has left running ends with it, process groups of its own making included."""
        deadline = time.monotonic() + _LEFTOVER_GRACE_SECONDS
        number = signal.SIGTERM
        while self._reap():
            processes.signal_each(processes.descendants(os.getpid()), number)
            if time.monotonic() >= deadline:
                number = signal.SIGKILL
            for key, _ in self._selector.select(0.02):
                if isinstance(key.data, Output):
                    if not key.data.pump():
                        self._selector.unregister(key.fd)
                else:
                    _drain(key.fd)
        for output in self._outputs:
            with contextlib.suppress(KeyError):  # it has been read to its end
                self._selector.unregister(output.descriptor)
            output.finish()
        self._outputs.clear()

    def _finish(self) -> None:
        killed_by_kernel = processes.kernel_oom_kills() > self._oom_kills
        reason, exit_code, detail = conclude(self._endings, self._stop, self._stop_detail, killed_by_kernel=killed_by_kernel)
        if self._shipper is not None:
            self._shipper.finish()
        self._end(reason, exit_code=exit_code, detail=detail)

    def _end(self, reason: EndReason, *, exit_code: int | None = None, detail: str = "") -> None:
        self._log.close()
        if self._log.lost_bytes:
            detail = f"{detail} {self._log.lost_bytes} bytes of its output are missing: they could not be written to the disk.".strip()
        ended = replace(self.state, phase="ended", ended_at=time.time(), reason=reason, exit_code=exit_code, detail=detail)
        while True:
            try:
                self._write(ended)
                return
            except OSError:
                # The disk is full to the last block. The state must not be lost: wait for room while the folder stands.
                if not self.folder.path.exists():
                    return
                time.sleep(1)

    def _write(self, state: JobState) -> None:
        self.folder.write_state(state)
        self.state = state
        if self.spec.notify and (state.phase == "ended" or not self.spec.tells_end_only):
            tell(self.spec.notify, self.spec.id)


def _builder(spec: JobSpec, folder: JobFolder, environment: dict[str, str]) -> Program:
    """The program that builds the job's environment. It runs with this interpreter, not with the one it makes."""
    work = spec.working_directory or str(folder.work)
    arguments = (spec.environment_root, spec.environment_key, work, spec.base_python, str(folder.path / "requirements.txt"))
    variables = {name: value for name, value in environment.items() if name != "VIRTUAL_ENV"}
    variables["PYTHONPATH"] = str(Path(__file__).parents[3])
    argv = (sys.executable, "-m", "narf.backends.local.environments", *arguments)
    return Program(argv=argv, folder=work, environment=variables)


def _drain(descriptor: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(descriptor, 4096):
            pass


def _adopt_orphans() -> None:
    """Processes whose parent ended become ours, so that none is left behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def detach(log: Path) -> None:
    """A session of its own, no terminal, own complaints to `log`."""
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    if null > 2:
        os.close(null)
    complain_to(log)


def complain_to(log: Path) -> None:
    complaints = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(complaints, 2)
    if complaints > 2:
        os.close(complaints)


def main(path: str) -> int:
    def start(program: Program, output: int) -> tuple[int, str]:
        return start_by_exec(program, output), "exec"

    try:
        supervise(Path(path), start)
    except BaseException:  # the edge of the process: the folder keeps what went wrong
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    detach(Path(sys.argv[1]) / "supervisor.log")
    sys.exit(main(sys.argv[1]))
