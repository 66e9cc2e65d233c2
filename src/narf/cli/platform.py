"""`narf up`, `down`, `status`, `open`, `login`: the platform on this machine."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import Connection, connect, context_file, find_server, home
from narf.domain.errors import BadInput, NarfError, Unavailable

up = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
down = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
status = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
open_page = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
login = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_START_SECONDS, _STOP_SECONDS = 60.0, 20.0


@up.command(epilog="Example: narf up --simulate-gpus 8")
def up_(
    open_browser: Annotated[bool, typer.Option("--open", help="Open the page in a browser, signed in.")] = False,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "",
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
    simulate_gpus: Annotated[int | None, typer.Option(min=0, help="Pretend this machine has so many GPUs.")] = None,
    as_json: Json = False,
) -> None:
    """Start everything on this machine, in the background."""
    given = {"NARF_HOST": host, "NARF_PORT": "" if port is None else str(port)}
    if simulate_gpus is not None:
        given["NARF_SIMULATE_GPUS"] = str(simulate_gpus)
    began = time.monotonic()
    server, started = start({name: value for name, value in given.items() if value})
    if as_json:
        output.print_json({"id": "local", "url": server["url"], "pid": server["pid"], "started": started})
    else:
        verb = f"Narf is up ({time.monotonic() - began:.1f} s)" if started else "Narf is up already"
        print(f"{verb}: {server['url']}")
        print("Sign in by a one-time link: narf open        Run something: narf run train.py")
    if open_browser:
        _open(server["url"], server["token"])


@down.command(epilog="Example: narf down --all")
def down_(
    everything: Annotated[
        bool, typer.Option("--all", help="Pause what runs, too: it saves its state, and the next `narf up` goes on with it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Stop the platform. What runs goes on, and is found again by the next `narf up`."""
    with _only_one():
        server = _read_server()
        stopped = server is not None and _is_alive(server["pid"])
        if server is not None and stopped:
            os.kill(server["pid"], signal.SIGTERM)
            deadline = time.monotonic() + _STOP_SECONDS
            while _is_alive(server["pid"]) and time.monotonic() < deadline:
                time.sleep(0.05)
            if _is_alive(server["pid"]):
                os.kill(server["pid"], signal.SIGKILL)
        _end_gateways()
        jobs = _jobs(pause=everything)
    if as_json:
        output.print_json({"id": "local", "stopped": stopped, **jobs})
        return
    print("Narf is down." if stopped else "Narf was not up.")
    if jobs["paused"]:
        print(f"{_counted(jobs['paused'])} paused; narf up goes on with what was running.")
    if jobs["running"]:
        print(f"{_counted(len(jobs['running']))} still running; narf down --all pauses that too.")


def _end_gateways() -> None:
    """Those that their control plane could not end, because it was killed."""
    for place in (home() / "run").glob("gateway*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError):  # it is gone, or being written
            pid = int(json.loads(place.read_text(encoding="utf-8"))["pid"])
            if b"narf.serving.gateway" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGTERM)
            place.unlink()


def _jobs(*, pause: bool) -> dict[str, Any]:
    """What runs on this machine, by job id, and how many were paused."""
    command = [sys.executable, "-m", "narf.backends.local.pausing", str(home()), *(["--pause"] if pause else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise Unavailable(f"What runs here could not be looked at: {done.stderr.strip()[-300:]}") from None
    return answer


def _counted(jobs: int) -> str:
    return "1 job is" if jobs == 1 else f"{jobs} jobs are"


@status.command(epilog="Example: narf status --json")
def status_(as_json: Json = False) -> None:
    """Is it up, where, and what runs."""
    found = find_server()
    if found is None:
        raise Unavailable("Narf is not up.", remedy="Start it: narf up")
    with Connection(*found) as connection:
        me = connection.get("/api/v1/me")
        ready = connection.request("GET", "/readyz").json()
        projects = list(connection.items("/api/v1/projects", most=500))
        live = {p["name"]: _alive_counts(connection, p["name"]) for p in projects}
    body = {
        "id": "local",
        "url": found[0],
        "user": me["user"],
        "ready": ready["status"] == "ready",
        "checks": ready["checks"],
        "workloads": live,
    }
    if as_json:
        output.print_json(body)
        return
    print(f"Narf is {ready['status']} at {found[0]}, you are {me['user']}.")
    for name, counts in live.items():
        shown = ", ".join(f"{count} {state}" for state, count in counts.items() if count) or "nothing runs or waits"
        print(f"  {name}: {shown}")


@open_page.command(epilog="Example: narf open")
def open_(print_only: Annotated[bool, typer.Option("--print", help="Only print the link.")] = False, as_json: Json = False) -> None:
    """Open the web page, signed in by a link that works once."""
    found = find_server()
    if found is None:
        raise Unavailable("Narf is not up.", remedy="Start it: narf up")
    with Connection(*found) as connection:
        link = f"{found[0]}/login?code={connection.post('/api/v1/links')['code']}"
    if as_json:
        output.print_json({"url": link})
    elif print_only or not _browse(link):
        print(link)


@login.command(epilog="Example: narf login https://narf.bank.example --token narf_...")
def login_(
    url: str,
    token: Annotated[str, typer.Option(help="An API token; asked for when not given.")] = "",
    as_json: Json = False,
) -> None:
    """Work with a platform elsewhere: its address and your token are kept for the commands that follow."""
    token = token or typer.prompt("Token", hide_input=True)
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"{url[:100]!r} is no address.", remedy="It begins with https://", field="url")
    with connect(url, token) as connection:
        me = connection.get("/api/v1/me")
    place = context_file()
    place.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"url": url.rstrip("/"), "token": token}, file)
    if as_json:
        output.print_json({"id": me["user"], "url": url})
    else:
        print(f"You are {me['user']} at {url}.")


def start(environment: dict[str, str] | None = None, *, quiet: bool = False) -> tuple[dict[str, Any], bool]:
    """Start the control plane unless it is up; what server.json says, and whether it was started now.

    Two of these at once start one platform: the second waits for the first.

    Raises:
        NarfError: it did not come up; the sentence says why.
    """
    with _only_one():
        server = _read_server()
        if server is not None and _is_alive(server["pid"]) and _answers(server["url"]):
            return server, False
        if not quiet:
            output.say("starting Narf ...")
        place = home()
        log = place / "log" / "control.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        _rotate(log)
        with log.open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "narf.bootstrap"],
                env={**os.environ, **(environment or {}), "NARF_HOME": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                cwd="/",
                start_new_session=True,
            )
        return _wait(process, log), True


def is_up() -> bool:
    server = _read_server()
    return server is not None and _is_alive(server["pid"])


def _wait(process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise _failure(log)
        server = _read_server()
        if server is not None and server["pid"] == process.pid and _answers(server["url"]):
            return server
        time.sleep(0.05)
    process.terminate()
    raise Unavailable(f"Narf did not come up within {_START_SECONDS:.0f} s.", remedy=f"Its log says more: {log}")


def _failure(log: Path) -> NarfError:
    """What the process said before it ended."""
    lines = log.read_text(errors="replace").splitlines()[-50:]
    for line in reversed(lines):
        try:
            said = json.loads(line)["error"]
            error = Unavailable(str(said["detail"]), remedy=str(said["remedy"]))
            error.code = str(said["code"])
            return error
        except (ValueError, KeyError, TypeError):
            continue
    last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
    return Unavailable(f"Narf ended while it started: {last[:300]}", remedy=f"Its log says more: {log}")


def _read_server() -> dict[str, Any] | None:
    try:
        server: dict[str, Any] = json.loads((home() / "run" / "server.json").read_text())
        return server if isinstance(server.get("pid"), int) else None
    except (FileNotFoundError, ValueError):
        return None


def _answers(url: str) -> bool:
    with Connection(url) as connection:
        try:
            return connection.request("GET", "/healthz").is_success
        except Unavailable:
            return False


def _is_alive(pid: int) -> bool:
    """Whether it runs and is ours: a pid may have been given to another program since."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    command = Path(f"/proc/{pid}/cmdline")
    if not command.exists():
        return not Path("/proc/self").exists()
    return b"narf.bootstrap" in command.read_bytes()


@contextmanager
def _only_one() -> Iterator[None]:
    """One `up` or `down` at a time for a home."""
    folder = home() / "run"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "up.lock").open("w")
    except OSError as error:
        raise BadInput(
            f"The folder {home()} cannot be written: {error.strerror}.", remedy="Choose another with NARF_HOME.", code="home_unwritable"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _rotate(log: Path) -> None:
    if log.exists() and log.stat().st_size > 20 << 20:
        os.replace(log, log.with_suffix(".log.1"))


def _alive_counts(connection: Connection, project: str) -> dict[str, int]:
    states = ("queued", "admitted", "starting", "running", "preempting")
    counts = dict.fromkeys(states, 0)
    for item in connection.items(f"/api/v1/projects/{project}/workloads", state=list(states)):
        counts[item["state"]] += 1
    return counts


def _open(url: str, token: str) -> None:
    with Connection(url, token) as connection:
        link = f"{url}/login?code={connection.post('/api/v1/links')['code']}"
    if not _browse(link):
        print(link)


def _browse(link: str) -> bool:
    """Without a display there is no browser to open; then the link is printed."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return False
    return webbrowser.open(link)
