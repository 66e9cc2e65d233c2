"""The control plane's side of the zygotes: starts them, sends them jobs, and never loses one when a zygote dies."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import narf

_log = logging.getLogger(__name__)
_MOST_ZYGOTES = 3  # each keeps a copy of the libraries in memory
_PATIENCE_SECONDS = 60.0  # for an answer, the time of the imports included
_MOST_DEATHS = 2  # without a single answer: this environment cannot have a zygote, for now
_GIVE_UP_SECONDS = 60.0
_ROOT = Path(narf.__file__).parents[1]

Otherwise = Callable[[str], None]
"""Starts the job with this id without a zygote."""


class ZygoteClient:
    """The zygote of one interpreter, started when it is first needed, started again when it has died."""

    def __init__(self, run: Path, python: str, preload: Sequence[str], environment: Mapping[str, str], otherwise: Otherwise) -> None:
        self._run, self._python, self._preload = run, python, ",".join(preload)
        self._environment = dict(environment) | {"PYTHONUNBUFFERED": "1"}
        variables = sorted(f"{name}={value}" for name, value in self._environment.items())
        key = hashlib.sha256("\0".join([python, self._preload, _version(), *variables]).encode())
        self._name = f"zygote-{key.hexdigest()[:12]}"
        self._otherwise = otherwise
        self._lock = threading.Lock()
        self._connection: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._waiting: OrderedDict[str, float] = OrderedDict()  # jobs sent and not yet forked, and until when
        self._deaths = 0
        self._try_again_at = 0.0

    def warm(self) -> bool:
        """Have the zygote running, or on its way; false when this environment cannot have one."""
        with self._lock:
            return self._connected() is not None

    def fork(self, jobs: Path, job_id: str, series: str = "") -> bool:
        """Hand the job over, unless the zygote cannot take it. What is handed over will be started, if need be otherwise."""
        with self._lock:
            connection = self._connected()
            if connection is None:
                return False
            try:
                connection.send(os.fsencode(jobs / job_id) + (b"\0" + series.encode() if series else b""))
            except OSError:
                return False  # it has died; whoever waits for its answers sees to the rest
            self._waiting[job_id] = time.monotonic() + _PATIENCE_SECONDS
            return True

    def holds(self, job_id: str) -> bool:
        """Whether the job has been handed over and not been forked yet."""
        with self._lock:
            return job_id in self._waiting

    def close(self) -> None:
        """Let go. The zygote ends when nobody else has come for a while."""
        with self._lock:
            connection, self._connection = self._connection, None
            if self._process is not None:
                self._process.returncode = self._process.returncode or 0  # it ends by itself
        if connection is not None:
            connection.shutdown(socket.SHUT_RDWR)

    def pid(self) -> int | None:
        """The process, as far as we started it."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    # -- with the lock held

    def _connected(self) -> socket.socket | None:
        if self._connection is None and (self._deaths < _MOST_DEATHS or time.monotonic() >= self._try_again_at):
            self._connection = self._connect()
            thread = threading.Thread(target=self._listen, args=(self._connection,), name=self._name, daemon=True)
            thread.start()
        return self._connection

    def _connect(self) -> socket.socket:
        """A connection to the zygote that runs already, or to one that is started now."""
        with open(self._run / f"{self._name}.lock", "a") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            folder = os.open(self._run, os.O_RDONLY | os.O_CLOEXEC)
            try:
                # Through the descriptor: a socket's path may have 107 bytes at most, a home can be deeper.
                address = f"/proc/self/fd/{folder}/{self._name}" if sys.platform == "linux" else str(self._run / self._name)
                try:
                    return _call(address)
                except OSError:
                    (self._run / self._name).unlink(missing_ok=True)
                    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                        listener.bind(address)
                        listener.listen(64)
                        self._start(listener)
                        return _call(address)
            finally:
                os.close(folder)

    def _start(self, listener: socket.socket) -> None:
        arguments = [str(_ROOT), str(listener.fileno()), str(self._run / self._name), self._preload]
        with open(self._run / f"{self._name}.log", "ab") as log:
            self._process = subprocess.Popen(
                [self._python, str(Path(__file__).with_name("zygote_entry.py")), *arguments],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[listener.fileno()],
            )

    # -- in the listening thread

    def _listen(self, connection: socket.socket) -> None:
        connection.settimeout(1.0)
        while True:
            try:
                answer = connection.recv(1 << 16)
            except TimeoutError:
                if self._is_stuck():
                    break
                continue
            except OSError:
                break
            if not answer:
                break
            with self._lock:
                self._waiting.pop(os.path.basename(os.fsdecode(answer)), None)
                self._deaths = 0
        self._mourn(connection)

    def _is_stuck(self) -> bool:
        with self._lock:
            return any(until < time.monotonic() for until in self._waiting.values())

    def _mourn(self, connection: socket.socket) -> None:
        """The zygote is gone: what it has not answered for is started without it. A job that it did start starts once all the same."""
        with self._lock:
            closed_by_us = self._connection is not connection
            if not closed_by_us:
                self._connection = None
                self._deaths += 1
                self._try_again_at = time.monotonic() + _GIVE_UP_SECONDS
            waiting, self._waiting = list(self._waiting), OrderedDict()
            connection.close()
            if self._process is not None and not closed_by_us:
                self._process.kill()
                self._process.wait()
        if not closed_by_us:
            _log.warning("the zygote of %s ended; see %s", self._python, self._run / f"{self._name}.log")
        for job_id in waiting:
            self._otherwise(job_id)


class Zygotes:
    """A zygote for each interpreter, the most recently used ones."""

    def __init__(self, run: Path, preload: Sequence[str], otherwise: Otherwise) -> None:
        self._run, self._preload, self._otherwise = run, tuple(preload), otherwise
        self._clients: OrderedDict[str, ZygoteClient] = OrderedDict()

    def of(self, python: str, environment: Mapping[str, str]) -> ZygoteClient:
        """The zygote of the interpreter `python`, whose programs' variables begin with `environment`."""
        if python not in self._clients:
            if len(self._clients) >= _MOST_ZYGOTES:
                self._clients.popitem(last=False)[1].close()
            self._clients[python] = ZygoteClient(self._run, python, self._preload, environment, self._otherwise)
        self._clients.move_to_end(python)
        return self._clients[python]

    def hold(self, job_id: str) -> bool:
        """Whether one of them has the job in its hands."""
        return any(client.holds(job_id) for client in self._clients.values())

    def close(self) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()


def _call(address: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(address)
    except OSError:
        connection.close()
        raise
    return connection


def _version() -> str:
    """Changes with our code, so that a zygote of an older Narf is not used."""
    sources = [*Path(__file__).parent.glob("*.py"), *(_ROOT / "narf" / "training").rglob("*.py")]
    return hashlib.sha256("".join(f"{path.name}{path.stat().st_mtime_ns}" for path in sorted(sources)).encode()).hexdigest()
