"""The zygote: a process that has imported the heavy libraries once and forks a supervisor for each job.

It is handed a listening socket, so that jobs can be sent while the libraries are still being imported. Before
a fork it has one thread, has run no parallel region and has not touched a GPU. A client sends the path of a
job's folder and gets it back once the fork has been made.
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
from pathlib import Path
from typing import NoReturn

from narf.backends.local import forked, pages, shipping, supervisor
from narf.backends.local.faithful import why_not_fork
from narf.backends.local.program import Program, close_descriptors, start_by_exec
from narf.backends.local.rehearsal import rehearse
from narf.training import hooks, shipper
from narf.training.hooks import facts

_LONELY_SECONDS = 60.0  # without a client: long enough for the control plane to be started again
_LOOK_SECONDS = 5.0
# What only the forks use is imported now: every one of them would pay for it.
_NEEDED = (shipping, shipper, *(importlib.import_module(f"narf.training.hooks.{name}") for name in hooks._HOOKS))


class Zygote:
    """Serves one listening socket until it has been without clients for a while, or its address is gone."""

    def __init__(self, listener: socket.socket, address: Path, baseline: forked.Baseline) -> None:
        self._listener, self._address, self._baseline = listener, address, baseline
        self._loaded = frozenset(name.partition(".")[0] for name in baseline.modules)
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._clients: set[socket.socket] = set()
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
                    self._answer(key.fileobj)
            if self._clients:
                lonely_since = time.monotonic()
            elif time.monotonic() - lonely_since > _LONELY_SECONDS:
                return

    def _patience(self) -> float:
        """How long to wait for a message. While there are chores, one is done and nobody waits for the next."""
        if self._chores is not None and next(self._chores, self) is None:
            return 0.0
        self._chores = None
        return _LOOK_SECONDS

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
                self._fork(message.decode("utf-8", "surrogateescape"))
                client.send(message)
                return
        except OSError:
            traceback.print_exc()  # the fork or the client failed: it hears so by losing us, and starts the job otherwise
        self._selector.unregister(client)
        self._clients.discard(client)
        client.close()

    def _fork(self, folder: str) -> None:
        if os.fork() == 0:
            self._be_supervisor(folder)

    def _be_supervisor(self, folder: str) -> NoReturn:
        code = 1
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            supervisor.detach(Path(folder) / "supervisor.log")
            close_descriptors()
            os.environ.clear()
            supervisor.supervise(Path(folder), self._start)
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
    share, or the 170 operator libraries of torch, whose orderly end would cost a fork 40 ms."""
    for finaliser in list(weakref.finalize._registry):  # type: ignore[attr-defined] # there is no other way to them
        finaliser.atexit = False


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
