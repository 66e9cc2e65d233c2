"""A small control plane that speaks the spool contract, and can die and come back on the same port."""

from __future__ import annotations

import contextlib
import gzip
import json
import re
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from tests.training.warm_process import WarmProcess

from narf.training.spool import RECORD_BYTES, read_events, unpack_points, verified_length


class ControlPlane:
    """Stores spools and artifacts of runs in memory, as `docs/architecture/contracts.md` says the real one does."""

    def __init__(self) -> None:
        self.files: dict[tuple[str, str, str], bytearray] = {}
        self.artifacts: dict[tuple[str, str], bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.faults: list[int | str] = []  # statuses to answer with, or "drop after storing", first ones first
        self.statuses: dict[str, str] = {}  # of the runs that were made here
        self.forbidden = False  # every block gets 401
        self.early_points = 0  # blocks with a point that came before its key
        self.refused = ""  # the spool whose blocks get 409, whatever they hold
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        plane = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None: ...

            def answer(self, status: int, body: dict[str, object]) -> None:
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def do_GET(self) -> None:
                plane.handle_mlflow(self, {})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path.startswith("/api/2.0/mlflow/"):
                    return plane.handle_mlflow(self, json.loads(body))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                with plane._lock:
                    plane.handle_block(self, body)

            def do_PUT(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with plane._lock:
                    plane.handle_artifact(self, body)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def __init__(self, *arguments: object) -> None:
                self.open_sockets: list[object] = []
                super().__init__(*arguments)  # type: ignore[arg-type]

            def process_request(self, request, client_address):  # type: ignore[no-untyped-def]
                self.open_sockets.append(request)
                super().process_request(request, client_address)

        self._server = Server(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            for connection in list(self._server.open_sockets):
                with contextlib.suppress(OSError):
                    connection.shutdown(2)  # type: ignore[attr-defined]
            self._server.server_close()
            self._server = None

    def handle_block(self, handler, body: bytes) -> None:  # type: ignore[no-untyped-def]
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            return handler.answer(fault, {"title": "fault", "detail": "a fault of the test"})
        split = urllib.parse.urlsplit(handler.path)
        self.requests.append(("POST", handler.path))
        if match := re.fullmatch(r"/api/v1/runs/([^/]+)/shipments", split.path):
            return self.handle_shipment(handler, match[1], body, fault)
        match = re.fullmatch(r"/api/v1/runs/([^/]+)/spools/([0-9a-f]{16})/(events|points)", split.path)
        assert match, handler.path
        if self.forbidden:
            return handler.answer(401, {"code": "unauthenticated", "detail": "a fault of the test"})
        if match[2] == self.refused:
            return handler.answer(409, {"code": "deleted", "detail": "a fault of the test"})
        offset = int(urllib.parse.parse_qs(split.query)["offset"][0])
        stored = self.files.setdefault((match[1], match[2], match[3]), bytearray())
        if offset > len(stored):
            return handler.answer(409, {"offset": len(stored)})
        whole = verified_length(body) if match[3] == "points" else read_events(body)[1]
        assert whole == len(body), "only whole records may be sent"
        new = body[len(stored) - offset :]
        if match[3] == "points":
            known = {event["id"] for event in self.events(match[1], match[2]) if event["type"] == "key"}
            if not {point.key for point in unpack_points(bytes(new))} <= known:
                self.early_points += 1
                return handler.answer(409, {"code": "unknown_key", "detail": "a point came before its key"})
        stored += new
        if fault == "drop after storing":
            handler.close_connection = True
            handler.connection.shutdown(2)
            return None
        return handler.answer(200, {"offset": len(stored)})

    def handle_shipment(self, handler, run: str, body: bytes, fault: object) -> None:  # type: ignore[no-untyped-def]
        """All parts or none: each is answered as if it came alone, on what would be stored."""
        head, _, data = body.partition(b"\n")
        before = {name: bytearray(content) for name, content in self.files.items()}
        offsets, answers = [], []

        class Alone:
            close_connection = False

            def answer(self, status: int, body: dict[str, object]) -> None:
                answers.append((status, body))

        artifacts = {}
        for part in json.loads(head)["parts"]:
            piece, data = data[: part["size"]], data[part["size"] :]
            if part["kind"] == "artifact":
                artifacts[run, part["path"]] = piece
                continue
            alone = Alone()
            alone.path = f"/api/v1/runs/{run}/spools/{part['spool']}/{part['kind']}?offset={part['offset']}"  # type: ignore[attr-defined]
            faults, self.faults = self.faults, []
            self.handle_block(alone, piece)
            self.faults = faults
            self.requests.pop()
            if answers[-1][0] != 200:
                self.files = before
                return handler.answer(*answers[-1])
            offsets.append(answers[-1][1]["offset"])
        self.artifacts |= artifacts
        if fault == "drop after storing":
            handler.close_connection = True
            handler.connection.shutdown(2)
            return None
        return handler.answer(200, {"offsets": offsets})

    def handle_mlflow(self, handler, body: dict[str, str]) -> None:  # type: ignore[no-untyped-def]
        """What `narf.run` asks of MLflow's API. Faults are for it as for blocks."""
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            return handler.answer(fault, {"message": "a fault of the test"})
        call = urllib.parse.urlsplit(handler.path).path.removeprefix("/api/2.0/mlflow/")
        if call == "experiments/get-by-name":
            return handler.answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})
        if call == "experiments/create":
            return handler.answer(200, {"experiment_id": "1"})
        if call == "runs/create":
            self.statuses[f"run{len(self.statuses)}"] = "RUNNING"
            return handler.answer(200, {"run": {"info": {"run_id": list(self.statuses)[-1]}}})
        assert call == "runs/update", call
        self.statuses[body["run_id"]] = body["status"]
        return handler.answer(200, {})

    def handle_artifact(self, handler, body: bytes) -> None:  # type: ignore[no-untyped-def]
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, int):
            return handler.answer(fault, {"title": "fault", "detail": "a fault of the test"})
        match = re.fullmatch(r"/api/v1/runs/([^/]+)/artifacts/(.+)", handler.path)
        assert match, handler.path
        self.requests.append(("PUT", handler.path))
        self.artifacts[match[1], urllib.parse.unquote(match[2])] = body
        return handler.answer(200, {})

    # -- what arrived ----------------------------------------------------------------------------------------------------

    def events(self, run: str, spool_id: str | None = None) -> list[dict[str, object]]:
        found: list[dict[str, object]] = []
        for (of_run, spool, kind), content in list(self.files.items()):
            if of_run == run and kind == "events" and spool_id in (None, spool):
                found += read_events(bytes(content))[0]
        return found

    def points(self, run: str) -> dict[str, list[tuple[int, float]]]:
        """(step, value) of each metric, in the order of arrival within each spool."""
        series: dict[str, list[tuple[int, float]]] = {}
        for (of_run, spool, kind), content in list(self.files.items()):
            if of_run == run and kind == "points":
                assert len(content) % RECORD_BYTES == 0
                names = {event["id"]: str(event["name"]) for event in self.events(run, spool) if event["type"] == "key"}
                for point in unpack_points(bytes(content)):
                    series.setdefault(names[point.key], []).append((point.step, point.value))
        return series

    def params(self, run: str) -> dict[str, str]:
        return {str(event["name"]): str(event["value"]) for event in self.events(run) if event["type"] == "param"}

    def tags(self, run: str) -> dict[str, str]:
        return {str(event["name"]): str(event["value"]) for event in self.events(run) if event["type"] == "tag"}


@pytest.fixture
def control_plane():
    plane = ControlPlane()
    plane.start()
    yield plane
    plane.stop()


@pytest.fixture(scope="session")
def warm():
    """Runs a script under the launcher in a fork of a process that has imported torch and Lightning once."""
    process = WarmProcess()
    yield process
    process.close()


@pytest.fixture
def cold():
    """Runs a script under the launcher in a process of its own: (exit code, output)."""

    def run(script, *arguments, cwd, timeout=60.0, **environment):
        import os
        import subprocess
        import sys

        from narf.training import launcher

        own = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_"))}
        result = subprocess.run(
            [sys.executable, launcher.__file__, str(script), *map(str, arguments)],
            cwd=cwd,
            env={**own, **{name: str(value) for name, value in environment.items()}},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        return result.returncode, result.stdout

    return run


class Spool:
    """What stands in a spool folder."""

    def __init__(self, folder):
        self.events = [event for file in sorted(folder.glob("*.events")) for event in read_events(file.read_bytes())[0]]
        self.points: dict[str, list[tuple[int, float]]] = {}
        for file in sorted(folder.glob("*.points")):
            names = {e["id"]: e["name"] for e in read_events(file.with_suffix(".events").read_bytes())[0] if e["type"] == "key"}
            for point in unpack_points(file.read_bytes()):
                self.points.setdefault(names[point.key], []).append((point.step, point.value))

    def named(self, type_):
        return {event["name"]: event["value"] for event in self.events if event["type"] == type_}

    @property
    def artifacts(self):
        return {event["path"]: event for event in self.events if event["type"] == "artifact"}

    @property
    def notes(self):
        return [event["text"] for event in self.events if event["type"] == "note"]

    def steps(self, name):
        return [step for step, _ in self.points[name]]


@pytest.fixture
def read_spool():
    return Spool
