"""A platform as a process of its own, which a test may kill, and a script that draws a curve."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

CURVE = """
import argparse, math, time
import narf
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1, help="learning rate")
parser.add_argument("--optimizer", choices=["sgd", "adam"], default="sgd")
parser.add_argument("--steps", type=int, default=40)
parser.add_argument("--pause", type=float, default=0.0)
asked = parser.parse_args()
for step in range(asked.steps):
    loss = math.exp(-asked.lr * step) + (0.1 if asked.optimizer == "sgd" else 0.0)
    narf.log(loss=loss, step=step)
    print("step", step, "loss", round(loss, 4), flush=True)
    time.sleep(asked.pause)
"""


def until(check: Callable[[], Any], seconds: float = 60) -> Any:
    """What `check` gives once it is true."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {check}"
        time.sleep(0.1)


@dataclass
class Served:
    """A platform as a process, which can be killed and started again at the same address."""

    home: Path
    port: int = 0
    process: subprocess.Popen[bytes] | None = None
    known: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        place = self.home / "run/server.json"
        place.unlink(missing_ok=True)
        settings = {
            "NARF_HOME": str(self.home),
            "NARF_PORT": str(self.port),
            "NARF_GATEWAY_PORT": "0",
            "NARF_SIMULATE_GPUS": "4",
            "NARF_GIT_HOSTS": "127.0.0.1",
        }
        log = (self.home / "server.log").open("ab")
        self.process = subprocess.Popen([sys.executable, "-m", "narf.bootstrap"], env=os.environ | settings, cwd=self.home, stdout=log, stderr=log)  # fmt: skip
        until(place.exists, 90)
        self.known = json.loads(until(place.read_text))
        self.port = int(self.known["url"].rsplit(":", 1)[1])
        until(self._answers, 90)

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        # Zygotes outlive the control plane, which would find them again; here nobody comes back.
        for left in psutil.process_iter(["cmdline"]):
            if any(part.startswith(f"{self.home}/run/zygote") for part in left.info["cmdline"] or ()):
                left.kill()

    @property
    def url(self) -> str:
        return self.known["url"]

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def ask(self, method: str, path: str, **arguments: Any) -> Any:
        answer = httpx.request(
            method, f"{self.url}/api/v1{path}", headers={"Authorization": f"Bearer {self.known['token']}"}, timeout=60, **arguments
        )
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    def link(self) -> str:
        return f"/login?code={self.ask('POST', '/links')['code']}"
