"""The zygote: a process that has imported the heavy libraries once and forks a supervisor for each job.

It is handed a listening socket, so that jobs can be sent while the libraries are still being imported. Before
a fork it has one thread, has run no parallel region and has not touched a GPU. A client sends the path of a
job's folder, with the job's series after a NUL if it has one, and gets the path back once the fork has been made.

A supervisor whose job belongs to a series stays for a moment when the job has ended, and is given the next of the series: that spares a fork.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.util
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from narf.backends.local import forked, pages, shipping, supervisor
from narf.backends.local.faithful import why_not_fork
from narf.backends.local.program import Program, close_descriptors, holding_signals, start_by_exec
from narf.backends.local.rehearsal import rehearse
from narf.training import hooks, shipper
from narf.training.hooks import facts

_LONELY_SECONDS = 60.0  # without a client: long enough for the control plane to be started again
_LOOK_SECONDS = 5.0
_KEPT_SECONDS = 3.0  # a supervisor without a job, for the next of its series
# What only the forks use is imported now: every one of them would pay for it.
_NEEDED = (shipping, shipper, *(importlib.import_module(f"narf.training.hooks.{name}") for name in hooks._HOOKS))


@dataclass
class _Kept:
    """A supervisor that can be given one job after another. `job` is the folder that it has, "" when it waits since `since`."""

    channel: socket.socket
    series: str
    job: str
    since: float = 0.0


class Zygote:
    """Serves one listening socket until it has been without clients for a while, or its address is gone."""

    def __init__(self, listener: socket.socket, address: Path, baseline: forked.Baseline) -> None:
        self._listener, self._address, self._baseline = listener, address, baseline
        self._loaded = frozenset(name.partition(".")[0] for name in baseline.modules)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients: set[socket.socket] = set()
        self._kept: dict[socket.socket, _Kept] = {}
        self._inode = os.stat(address).st_ino
        self._chores: Iterator[None] | None = pages.collapse()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors need nobody to wait for them

    def serve(self) -> None:
        lonely_since = time.monotonic()
        while self._is_reachable():
            for key, _ in self._selector.select(self._patience()):
                if key.fileobj is self._listener:
                    self._welcome()
                else:
                    assert isinstance(key.fileobj, socket.socket)
                    if key.fileobj in self._kept:
                        self._hear(self._kept[key.fileobj])
                    else:
                        self._answer(key.fileobj)
            self._let_go()
            if self._clients:
                lonely_since = time.monotonic()
            elif time.monotonic() - lonely_since > _LONELY_SECONDS:
                return

    def _patience(self) -> float:
        """How long to wait for a message. While there are chores, one is done and nobody waits for the next."""
        if self._chores is not None and next(self._chores, self) is None:
            return 0.0
        self._chores = None
        return _KEPT_SECONDS / 2 if self._kept else _LOOK_SECONDS

    def _is_reachable(self) -> bool:
        """Our address still leads here: the home was not deleted, and no other zygote has taken over."""
        try:
            return os.stat(self._address).st_ino == self._inode
        except OSError:
            return False

    def _welcome(self) -> None:
        client, _ = self._listener.accept()
        self._clients.add(client)
        self._selector.register(client, selectors.EVENT_READ)

    def _answer(self, client: socket.socket) -> None:
        try:
            message = client.recv(1 << 16)
            if message:
                folder, _, series = message.partition(b"\0")
                self._begin(folder.decode("utf-8", "surrogateescape"), series.decode())
                client.send(folder)
                return
        except OSError:
            traceback.print_exc()  # the fork or the client failed: it hears so by losing us, and starts the job otherwise
        self._selector.unregister(client)
        self._clients.discard(client)
        client.close()

    def _begin(self, folder: str, series: str) -> None:
        """Give the job to a supervisor: one that waits for the next of its series, else a new one."""
        waiting = [kept for kept in self._kept.values() if kept.series == series and not kept.job] if series else []
        for kept in waiting:
            try:
                kept.channel.send(os.fsencode(folder))
            except OSError:
                continue  # it was killed; we hear of it in a moment
            kept.job = folder
            return
        self._fork(folder, series)

    def _fork(self, folder: str, series: str = "") -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) if series else (None, None)
        if os.fork() == 0:
            self._be_supervisor(folder, theirs)
        if ours is not None and theirs is not None:
            theirs.close()
            self._kept[ours] = _Kept(ours, series, folder)
            self._selector.register(ours, selectors.EVENT_READ)

    def _hear(self, kept: _Kept) -> None:
        """A supervisor is done with its job, or gone."""
        try:
            done = bool(kept.channel.recv(1))
        except OSError:
            done = False
        if done:
            kept.job, kept.since = "", time.monotonic()
            return
        self._forget(kept)
        if kept.job:
            # Killed with a job in its hands. Had it begun, that is over; had it not, this one begins it.
            with contextlib.suppress(OSError):  # no memory or process is left: it begins when it is found to be late
                self._fork(kept.job)

    def _let_go(self) -> None:
        """Those that have waited long enough leave when they see that we have closed."""
        for kept in [kept for kept in self._kept.values() if not kept.job and time.monotonic() - kept.since > _KEPT_SECONDS]:
            self._forget(kept)

    def _forget(self, kept: _Kept) -> None:
        self._selector.unregister(kept.channel)
        del self._kept[kept.channel]
        kept.channel.close()

    def _be_supervisor(self, folder: str, channel: socket.socket | None = None) -> NoReturn:
        code = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervisor.detach(Path(folder) / "supervisor.log")
            kept = -1 if channel is None else os.dup2(channel.detach(), supervisor.CHANNEL)
            close_descriptors(above=supervisor.CHANNEL if kept >= 0 else 2)
            os.environ.clear()
            supervisor.supervise(Path(folder), self._start)
            while kept >= 0 and (following := supervisor.next_job(kept)):
                supervisor.supervise(following, self._start)
            code = 0
        except BaseException:  # this is a fork: nothing may return into the zygote's loop
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stderr.flush()
            os._exit(code)

    def _start(self, program: Program, output: int) -> tuple[int, str]:
        if (why := why_not_fork(program, started_with=self._baseline.started_with, loaded=self._loaded)) is not None:
            return start_by_exec(program, output), f"exec: {why}"
        with holding_signals():
            pid = os.fork()
            if pid == 0:
                forked.become_script(program, output, self._baseline)
        with contextlib.suppress(OSError):  # it has done so itself, or has ended
            os.setpgid(pid, pid)
        return pid, "fork"


def preload(names: Sequence[str]) -> None:
    """Import those of `names` that this environment has; one that fails is left to the programs that want it."""
    for name in names:
        try:
            if importlib.util.find_spec(name.partition(".")[0]) is not None:
                importlib.import_module(name)
        except Exception:  # whatever a library does when it is imported; the programs that import it will see it too
            print(f"cannot preload {name}", file=sys.stderr)  # noqa: T201
            traceback.print_exc()


def baseline_after(names: Sequence[str], started_with: Mapping[str, str]) -> forked.Baseline:
    """Import `names` as quietly as can be and note what that has changed."""
    # BLAS would start threads when it is loaded, and a fork does not take threads along; each fork sets its own count.
    quiet = {"OPENBLAS_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    os.environ.update(quiet)
    preload(names)
    rehearse()
    facts.prepare()
    _finalise_nothing_of_ours()
    changed = {name: value for name, value in os.environ.items() if started_with.get(name) != value and name not in quiet}
    return forked.Baseline(
        started_with=started_with,
        set_by_imports=changed,
        modules=frozenset(sys.modules),
        last_module=next(reversed(sys.modules)),
        set_blas_threads=forked.blas_thread_setters(),
        path=tuple(sys.path),
    )


def _finalise_nothing_of_ours() -> None:
    """What imports have left to be finalised at exit is the zygote's, not each fork's: a temporary folder that all
    share, or the 170 operator libraries of torch, whose orderly end would cost a fork 40 ms, and to look through them 2 ms."""
    for finaliser in list(weakref.finalize._registry):  # type: ignore[attr-defined] # there is no other way to them
        finaliser.detach()


def main(arguments: Sequence[str], started_with: Mapping[str, str]) -> int:
    descriptor, address, names = arguments
    os.setsid()
    os.chdir("/")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    listener = socket.socket(fileno=int(descriptor))
    baseline = baseline_after([name for name in names.split(",") if name], started_with)
    gc.collect()
    gc.freeze()  # so that a collection in a fork does not copy every page it shares with us
    Zygote(listener, Path(address), baseline).serve()
    return 0
