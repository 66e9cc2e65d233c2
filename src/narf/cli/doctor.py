"""`narf doctor`: checks this machine and the platform, and says what to mend."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import Connection, find_server, home
from narf.domain.errors import NarfError

doctor = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state` is ok, warning or broken; `remedy` says what to do about the last two."""

    id: str
    state: str
    says: str
    remedy: str = ""


@doctor.command(epilog="Example: narf doctor")
def doctor_(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Look at everything that commonly goes wrong. Exit code 1 if something is broken."""
    findings = [check() for check in _CHECKS]
    if as_json:
        output.print_items([{"id": f.id, "state": f.state, "detail": f.says, "remedy": f.remedy} for f in findings])
    else:
        for finding in findings:
            print(f"{finding.state:<8} {finding.id:<12} {finding.says}")
            if finding.remedy:
                print(f"{'':<21} {finding.remedy}")
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    return Finding("python", "ok", f"Python {platform.python_version()} at {sys.executable} on {platform.system()} {platform.machine()}")


def _home() -> Finding:
    place = home()
    try:
        place.mkdir(parents=True, exist_ok=True)
        probe = place / f".probe{os.getpid()}"
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        return Finding("home", "broken", f"{place} cannot be written: {error.strerror}.", "Choose another folder with NARF_HOME.")
    free = shutil.disk_usage(place).free
    if free < 5 << 30:
        return Finding("home", "warning", f"{place} has only {output.size(free)} free.", "Free some: narf gc")
    return Finding("home", "ok", f"{place}, {output.size(free)} free")


def _packages() -> Finding:
    extras = {"server": "mlflow", "training": "lightning", "tuning": "optuna", "serving": "onnxruntime", "data": "pyiceberg", "ray": "ray"}
    missing = [extra for extra, module in extras.items() if importlib.util.find_spec(module) is None]
    if missing:
        return Finding("packages", "warning", f"Not installed: {', '.join(missing)}.", f"pip install 'narf[{','.join(missing)}]'")
    return Finding("packages", "ok", "all parts are installed")


def _platform() -> Finding:
    try:
        found = find_server()
        if found is None:
            return Finding("platform", "warning", "Narf is not up.", "Start it: narf up")
        with Connection(*found) as connection:
            ready: dict[str, Any] = connection.request("GET", "/readyz").json()
            me = connection.get("/api/v1/me")
            disk: dict[str, Any] = connection.get("/api/v1/disk")
    except NarfError as error:
        return Finding("platform", "broken", error.sentence, error.remedy)
    failing = [name for name, holds in ready["checks"].items() if not holds]
    if failing:
        return Finding(
            "platform", "broken", f"Up at {found[0]}, but not ready: {', '.join(failing)}.", f"See {home() / 'log' / 'control.log'}"
        )
    if disk["warnings"]:
        return Finding("platform", "warning", " ".join(disk["warnings"]))
    return Finding("platform", "ok", f"up at {found[0]}, you are {me['user']}")


def _gpus() -> Finding:
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        pynvml.nvmlShutdown()
    except Exception as error:  # NVML fails in many ways where there is no driver; each means the same here
        return Finding("gpus", "ok", f"none found ({type(error).__name__}); try the scheduler with: narf up --simulate-gpus 8")
    return Finding("gpus", "ok", f"{count} found")


def _fork() -> Finding:
    if not hasattr(os, "fork"):
        return Finding("fork", "broken", "This system cannot fork.", "On Windows, use WSL.")
    return Finding("fork", "ok", "warm starts are possible")


_CHECKS: tuple[Callable[[], Finding], ...] = (_python, _home, _packages, _fork, _gpus, _platform)
