"""Keeps the gateways of this machine: starts them, finds those that are still there, replaces one that died within moments.

They share one port, so that the others answer while one is started again.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1
_END_SECONDS = 12.0  # a gateway that was told to end has given up by then on what it still answers
_FREE_SECONDS = 2.0  # what a process that was killed had open is closed by then


class GatewayKeeper:
    """token: makes, or finds again, the gateways' own token. `folder` has a gateway.json (where it is) of each; `log` is of all.

    end_seconds: what was told to end and is still there after so long is killed.
    """

    def __init__(
        self,
        folder: Path,
        log: Path,
        host: str,
        port: int,
        url: str,
        token: Callable[[], str],
        *,
        count: int = 1,
        end_seconds: float = _END_SECONDS,
    ) -> None:
        self._folder, self._log, self._host, self._port = folder, log, host, port
        self._url, self._token, self._end_seconds = url, token, end_seconds
        self._slots = [
            _Slot(number, folder / ("gateway.json" if number == 1 else f"gateway-{number}.json")) for number in range(1, count + 1)
        ]
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="gateway-keeper", daemon=True)

    @property
    def address(self) -> str:
        """Where the gateways listen, "" while there is none."""
        return next((url for slot in self._slots if (url := str(slot.announced().get("url", "")))), "")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the gateways; what they are answering is finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)
        for slot in self._slots:
            slot.terminate()
        until = time.monotonic() + self._end_seconds
        for slot in self._slots:
            slot.end(until)

    def _keep(self) -> None:
        self._adopt()
        while True:
            for slot in self._slots:
                if slot.is_alive():
                    continue
                if self._stopping.is_set():
                    return
                if time.monotonic() >= slot.not_before:
                    self._replace(slot)
            if self._stopping.wait(_LOOK_SECONDS):
                return

    def _adopt(self) -> None:
        """Those that outlived a control plane at this same address go on; one of another, one too many, or one that hangs is ended.

        That is waited for: until it has, it holds the port that callers know.
        """
        ours = {slot.announcement: slot for slot in self._slots}
        ended = []
        for place in self._folder.glob("gateway*.json"):
            known = _read(place)
            pid = int(known.get("pid", 0))
            if pid and _is_gateway(pid):
                if place in ours and known.get("control") == self._url and _answers(str(known.get("url"))):
                    ours[place].adopted = pid
                    continue
                _tell(pid, signal.SIGTERM)
                ended.append(pid)
            if place not in ours:
                place.unlink(missing_ok=True)
        until = time.monotonic() + self._end_seconds
        for pid in ended:
            _end(pid, until)

    def _replace(self, slot: _Slot) -> None:
        slot.adopted = None
        began = time.monotonic()
        try:
            self._start(slot)
        except OSError:
            _log.exception("gateway %d could not be started", slot.number)
        failed_at_once = time.monotonic() - began < 1 and not slot.is_alive()
        slot.failures = slot.failures + 1 if failed_at_once else 0
        slot.not_before = time.monotonic() + (2.0 if slot.failures >= 5 else 0.0)

    def _start(self, slot: _Slot) -> None:
        known = (_port(other.announced()) for other in self._slots if other is not slot and other.is_alive())
        shared = next((port for port in known if port), 0)
        own = _port(slot.announced())  # callers know that address
        slot.announcement.unlink(missing_ok=True)
        if own and not shared:
            _wait(lambda: _is_free(self._host, own), time.monotonic() + _FREE_SECONDS)
        # The port that the others have; else one that nobody has: ports are shared by all of one account's processes that ask for it,
        # and another platform's gateways may ask, too.
        wanted = [own, self._port, 0] if own else [self._port, 0]
        candidates = [shared] if shared else [port for port in dict.fromkeys(wanted) if _is_free(self._host, port)]
        for port in candidates:
            arguments = [sys.executable, "-m", "narf.serving.gateway", "--host", self._host, "--port", str(port), "--reuse-port"]
            arguments += ["--slot", str(slot.number), "--announce", str(slot.announcement)]
            environment = {**os.environ, "NARF_URL": self._url, "NARF_TOKEN": self._token()}
            with self._log.open("ab") as log:
                slot.process = subprocess.Popen(
                    arguments, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            until = time.monotonic() + 10
            while slot.process.poll() is None and time.monotonic() < until and not self._stopping.is_set():
                if slot.announcement.exists():
                    _log.info("gateway %d is at %s", slot.number, self.address)
                    return
                time.sleep(0.01)
            if self._stopping.is_set():
                return
            _log.warning("gateway %d did not start on port %d; its log is %s", slot.number, port, self._log)


class _Slot:
    """The place of one gateway: the process that is in it, started by us or found."""

    def __init__(self, number: int, announcement: Path) -> None:
        self.number, self.announcement = number, announcement
        self.process: subprocess.Popen[bytes] | None = None
        self.adopted: int | None = None
        self.failures = 0
        self.not_before = 0.0

    def is_alive(self) -> bool:
        if self.adopted is not None:
            return _is_gateway(self.adopted)
        return self.process is not None and self.process.poll() is None

    def announced(self) -> dict[str, Any]:
        return _read(self.announcement)

    def terminate(self) -> None:
        pid = self.adopted if self.adopted is not None else self.process.pid if self.process is not None else None
        if pid is not None and self.is_alive():
            _tell(pid, signal.SIGTERM)

    def end(self, until: float) -> None:
        """It was told to end; after `until` it is killed."""
        if self.adopted is not None:
            _end(self.adopted, until)
        elif self.process is not None:
            try:
                self.process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.announcement.unlink(missing_ok=True)


def _tell(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _end(pid: int, until: float) -> None:
    """Wait for a gateway that is not our child and was told to end; kill it after `until`."""
    if not _wait(lambda: not _is_gateway(pid), until):
        _log.warning("gateway process %d does not end; it is killed", pid)
        _tell(pid, signal.SIGKILL)
        _wait(lambda: not _is_gateway(pid), time.monotonic() + _FREE_SECONDS)


def _wait(is_so: Callable[[], bool], until: float) -> bool:
    """Whether it is so, by `until` at the latest (a monotonic time)."""
    while not is_so():
        if time.monotonic() >= until:
            return False
        time.sleep(0.01)
    return True


def _read(announcement: Path) -> dict[str, Any]:
    try:
        value = json.loads(announcement.read_text(encoding="utf-8"))
        return value if isinstance(value, dict) else {}
    except (FileNotFoundError, ValueError):
        return {}


def _port(announced: dict[str, Any]) -> int:
    return int(str(announced.get("url", ":0")).rpartition(":")[2] or 0)


def _is_free(host: str, port: int) -> bool:
    """Whether nobody listens there, not even one who shares."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _is_gateway(pid: int) -> bool:
    """Whether this process is one of ours: ids are used again."""
    try:
        return b"narf.serving.gateway" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=1):
            return True
    except (OSError, HTTPException, ValueError):
        return False
