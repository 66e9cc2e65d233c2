"""Keeps the gateway's process of this machine: starts it, finds one that is still there, replaces one that died within moments."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 0.1


class GatewayKeeper:
    """token: makes, or finds again, the gateway's own token. `folder` has gateway.json (where it is) and its log."""

    def __init__(self, folder: Path, log: Path, host: str, port: int, url: str, token: Callable[[], str]) -> None:
        self._folder, self._log, self._host, self._port = folder, log, host, port
        self._url, self._token = url, token
        self._process: subprocess.Popen[bytes] | None = None
        self._adopted: int | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="gateway-keeper", daemon=True)

    @property
    def announcement(self) -> Path:
        return self._folder / "gateway.json"

    @property
    def address(self) -> str:
        """Where the gateway listens, "" while there is none."""
        return str(self._announced().get("url", ""))

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the gateway; what it is answering is finished."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(5)
        pid = self._process.pid if self._process is not None else self._adopted
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        if self._process is not None:
            try:
                self._process.wait(12)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self.announcement.unlink(missing_ok=True)

    def _keep(self) -> None:
        failures = 0
        self._adopted = self._still_there()
        while not self._stopping.wait(_LOOK_SECONDS if failures < 5 else 2.0):
            if self._is_alive():
                continue
            self._adopted = None
            began = time.monotonic()
            try:
                self._start()
            except OSError:
                _log.exception("the gateway could not be started")
            failures = failures + 1 if time.monotonic() - began < 1 and not self._is_alive() else 0

    def _is_alive(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        return self._adopted is not None and _is_gateway(self._adopted)

    def _start(self) -> None:
        old = self._announced()
        port = int(str(old.get("url", ":0")).rpartition(":")[2]) or self._port  # callers know that address
        self.announcement.unlink(missing_ok=True)
        for candidate in dict.fromkeys((port, self._port, 0)):
            arguments = [
                sys.executable,
                "-m",
                "narf.serving.gateway",
                "--host",
                self._host,
                "--port",
                str(candidate),
                "--announce",
                str(self.announcement),
            ]
            environment = {**os.environ, "NARF_URL": self._url, "NARF_TOKEN": self._token()}
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    arguments, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
                )
            until = time.monotonic() + 10
            while self._process.poll() is None and time.monotonic() < until and not self._stopping.is_set():
                if self.announcement.exists():
                    _log.info("the gateway is at %s", self.address)
                    return
                time.sleep(0.01)
            if self._stopping.is_set():
                return
            _log.warning("the gateway did not start on port %d; its log is %s", candidate, self._log)

    def _still_there(self) -> int | None:
        """The process id of a gateway that outlived a control plane at this same address; one of another is ended."""
        known = self._announced()
        pid = int(known.get("pid", 0))
        if not pid or not _is_gateway(pid):
            return None
        if known.get("control") == self._url and _answers(str(known.get("url"))):
            return pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        return None

    def _announced(self) -> dict[str, Any]:
        try:
            value = json.loads(self.announcement.read_text(encoding="utf-8"))
            return value if isinstance(value, dict) else {}
        except (FileNotFoundError, ValueError):
            return {}


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
    except (urllib.error.URLError, OSError, ValueError):
        return False
