"""`narf.run`: a run outside the platform, in a script started by hand or in a notebook.

The run is created on the control plane over MLflow's protocol; what is logged goes to a spool, as on the platform, and a process of
its own ships it, so that a kill of this one loses nothing. Without a control plane the spool stays in `~/.narf/offline` and is
delivered by the next `narf.run` that reaches one.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

from narf.training import recorder as recorders
from narf.training.recorder import Recorder


@contextlib.contextmanager
def run(
    name: str | None = None,
    *,
    experiment: str = "Default",
    params: Mapping[str, Any] | None = None,
    tags: Mapping[str, Any] | None = None,
    url: str | None = None,
    token: str | None = None,
) -> Iterator[Recorder]:
    """Record what the block logs as a run, named `name`, of `experiment`.

        with narf.run("baseline", params={"lr": 0.1}):
            narf.log(loss=0.3)

    `url` and `token` default to NARF_URL and NARF_TOKEN, else to the control plane of this machine. On the platform the block
    logs into the run that is already there.
    """
    existing = recorders.current()
    if existing is not None:
        _describe(existing, params, tags)
        yield existing
        return
    server = _Server(*_address(url, token))
    offline = os.path.join(_home(), "offline")
    run_id = server.create_run(experiment, name)
    folder = os.path.join(offline, run_id or f"unsent-{int(time.time())}-{os.urandom(4).hex()}")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "run.json"), "w") as file:
        json.dump({"experiment": experiment, "name": name, "run_id": run_id, "url": server.url, "pid": os.getpid()}, file)
    recorder = Recorder(folder)
    recorders.use(recorder)
    shipper = _start_shipper(folder, server, run_id) if run_id else None  # without one, the next run delivers
    if run_id:
        _deliver_unsent(offline, folder, server)
    else:
        sys.stderr.write(f"narf: {server.trouble}; the run is kept in {folder} and delivered by the next one that reaches it\n")
    _describe(recorder, params, tags)
    status = "FAILED"
    try:
        yield recorder
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        recorder.end()
        recorders.use(None)
        if shipper is None or run_id is None:
            _keep(folder, status)
        else:
            _finish(folder, server, run_id, shipper, status)


def _describe(recorder: Recorder, params: Mapping[str, Any] | None, tags: Mapping[str, Any] | None) -> None:
    for name, value in (params or {}).items():
        recorder.param(name, value)
    for name, value in (tags or {}).items():
        recorder.tag(name, value)


def _home() -> str:
    return os.environ.get("NARF_HOME") or os.path.join(os.path.expanduser("~"), ".narf")


def _address(url: str | None, token: str | None) -> tuple[str, str]:
    """Where the control plane is: as given, by the environment, or the one that is up on this machine."""
    url = url or os.environ.get("NARF_URL")
    token = token or os.environ.get("NARF_TOKEN") or ""
    if url:
        return url.rstrip("/"), token
    with contextlib.suppress(OSError, ValueError):
        with open(os.path.join(_home(), "run", "server.json")) as file:
            server = json.load(file)
        return str(server["url"]).rstrip("/"), token or str(server.get("token", ""))
    return "http://127.0.0.1:8321", token


class _Server:
    """The few calls of MLflow's protocol that a run needs."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.trouble = ""

    def create_run(self, experiment: str, name: str | None) -> str | None:
        """The id of a new run; None when the control plane cannot be reached or refuses. Why is in `trouble`."""
        try:
            return self._create_run(experiment, name)
        except urllib.error.HTTPError as error:
            self.trouble = f"{self.url} refuses: {error.code} {_message(error)}. Check NARF_TOKEN and NARF_PROJECT"
        except (OSError, ValueError, KeyError) as error:
            self.trouble = f"no control plane at {self.url} ({error})"
        return None

    def _create_run(self, experiment: str, name: str | None) -> str:
        try:
            found = self._call("GET", "experiments/get-by-name?experiment_name=" + urllib.parse.quote(experiment, safe=""))
            experiment_id = found["experiment"]["experiment_id"]
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            experiment_id = self._call("POST", "experiments/create", {"name": experiment})["experiment_id"]
        tags = [{"key": "mlflow.source.name", "value": sys.argv[0] or "notebook"}, {"key": "mlflow.source.type", "value": "LOCAL"}]
        body = {"experiment_id": experiment_id, "start_time": int(time.time() * 1000), "run_name": name or "", "tags": tags}
        return str(self._call("POST", "runs/create", body)["run"]["info"]["run_id"])

    def end_run(self, run_id: str, status: str) -> None:
        self._call("POST", "runs/update", {"run_id": run_id, "status": status, "end_time": int(time.time() * 1000)})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"{self.url}/api/2.0/mlflow/{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if project := os.environ.get("NARF_PROJECT"):
            request.add_header("X-MLFLOW-WORKSPACE", project)
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, json.dumps(body).encode() if body is not None else None, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")


def _message(error: urllib.error.HTTPError) -> str:
    try:
        body = json.loads(error.read())
        return str(body.get("message") or body.get("detail") or error.reason)
    except (OSError, ValueError, AttributeError):
        return str(error.reason)


def _start_shipper(folder: str, server: _Server, run_id: str) -> subprocess.Popen[bytes]:
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "shipper.py")
    environment = {**os.environ, "NARF_TOKEN": server.token}
    command = [sys.executable, script, folder, server.url, run_id, str(os.getpid())]
    # In a session of its own, with no hold on the terminal: Ctrl-C must not stop the delivery, nor the delivery whoever waits for the script.
    null = subprocess.DEVNULL
    return subprocess.Popen(command, env=environment, stdin=null, stdout=null, stderr=null, start_new_session=True)


def _finish(folder: str, server: _Server, run_id: str, shipper: subprocess.Popen[bytes], status: str) -> None:
    """Ship the rest here, so that the run is complete when the block is left; what the server does not take stays on disk."""
    from narf.training.shipper import Shipper

    shipper.terminate()
    shipper.wait()
    rest = Shipper(folder, server.url, server.token, run_id)
    is_delivered = rest.ship_all(time.monotonic() + 30.0)
    with contextlib.suppress(OSError):
        server.end_run(run_id, status)
    if is_delivered and not rest.is_refused:
        _delete(folder)
        return
    _keep(folder, status)
    for problem in rest.problems:
        sys.stderr.write(f"narf: {problem}\n")
    sys.stderr.write(f"narf: what was not delivered stays in {folder}; the next run tries again\n")


def _keep(folder: str, status: str) -> None:
    """Leave the folder to a later run, which tells the control plane how this one ended."""
    with contextlib.suppress(OSError), open(os.path.join(folder, "ended"), "w") as file:
        file.write(status)


def _deliver_unsent(offline: str, current: str, server: _Server) -> None:
    """Send what earlier runs could not: those whose process is gone."""
    from narf.training.shipper import Shipper, lives

    for name in sorted(os.listdir(offline)):
        folder = os.path.join(offline, name)
        try:
            with open(os.path.join(folder, "run.json")) as file:
                about = json.load(file)
            has_ended = os.path.exists(os.path.join(folder, "ended"))
            if folder == current or about["url"] != server.url or (lives(int(about["pid"])) and not has_ended):
                continue
            run_id = about["run_id"] or server.create_run(about["experiment"], about["name"])
            if run_id is None:
                continue
            if run_id != about["run_id"]:  # written down: a delivery that is interrupted goes on with the same run
                with open(os.path.join(folder, "run.json"), "w") as file:
                    json.dump({**about, "run_id": run_id}, file)
            shipper = Shipper(folder, server.url, server.token, run_id)
            if shipper.ship_all(time.monotonic() + 10.0) and not shipper.is_refused:
                status = "KILLED"
                with contextlib.suppress(OSError):
                    with open(os.path.join(folder, "ended")) as file:
                        status = file.read() or status
                server.end_run(run_id, status)
                _delete(folder)
        except (OSError, ValueError, KeyError):
            continue  # the next run tries again


def _delete(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
