"""The gateway as a process, and a small control plane that says what its table is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

CALLERS = {
    "Bearer dev": {"user": "dev", "roles": {"bank": "developer"}, "projects": None},
    "Bearer viewer": {"user": "viewer", "roles": {"bank": "viewer"}, "projects": None},
    "Bearer other": {"user": "other", "roles": {"shop": "admin"}, "projects": None},
    "Bearer admin": {"user": "admin", "roles": {"": "admin"}, "projects": None},
    "Bearer narrow": {"user": "admin", "roles": {"": "admin"}, "projects": ["shop"]},
}


class Control:
    """Serves /api/v1/gateway/* as the control plane does, from plain values."""

    def __init__(self):
        self.endpoints, self.number, self.reports, self.on_report = [], 0, [], lambda report: None
        self.payloads = []
        self.changed = threading.Condition()
        self.is_gone = False
        self.knows = threading.Event()  # no table is given before it is set
        self.knows.set()
        control = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self, status, value):
                if control.is_gone:
                    self.close_connection = True
                    return
                body = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                if self.path == "/api/v1/gateway/caller":
                    caller = CALLERS.get(self.headers["authorization"])
                    self.answer(200 if caller else 401, caller or {})
                    return
                control.knows.wait(20)
                known = self.path.partition("known=")[2].partition("&")[0]
                with control.changed:
                    control.changed.wait_for(lambda: str(control.number) != known, timeout=5)
                    self.answer(200, {"version": str(control.number), "endpoints": control.endpoints})

            def do_POST(self):
                report = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if self.path.endswith("/payloads"):
                    control.payloads.append(report["endpoints"])
                    self.answer(200, {})
                    return
                control.reports.append(report)
                self.answer(200, {})
                control.on_report(report)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # a gateway that was killed
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def set(self, *revisions, name="digits", **changes):
        """One endpoint with these (weight, [replica urls])."""
        parts = [
            {
                "id": f"rev-{n}",
                "number": n,
                "model": "m",
                "version": str(n),
                "weight": weight,
                "replicas": [{"id": f"wl-{url}", "url": url} for url in urls],
            }
            for n, (weight, urls) in enumerate(revisions, 1)
        ]
        with self.changed:
            self.number += 1
            self.endpoints = [
                {"id": "ep-1", "name": name, "project": "bank", "max_replicas": 2, "timeout_seconds": 30, "revisions": parts, **changes}
            ]
            self.changed.notify_all()


@pytest.fixture
def control():
    control = Control()
    yield control
    control.server.shutdown()
    control.server.server_close()


@pytest.fixture
def gateway(control, tmp_path):
    """`gateway()` starts the process; `.url` is where."""
    processes = []

    def start(*arguments, ready=True):
        announce = tmp_path / f"gateway-{len(processes)}.json"
        environment = {**os.environ, "NARF_URL": control.url, "NARF_TOKEN": "gateway"}
        process = subprocess.Popen(
            [sys.executable, "-m", "narf.serving.gateway", "--port", "0", "--announce", announce, *arguments],
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        processes.append(process)
        until = time.monotonic() + 20
        while not announce.exists() and time.monotonic() < until:
            time.sleep(0.005)
        client = httpx.Client(base_url=json.loads(announce.read_text())["url"], headers={"authorization": "Bearer dev"}, timeout=30)
        client.process = process
        while ready and client.get("/readyz").status_code != 200 and time.monotonic() < until:
            time.sleep(0.005)
        return client

    yield start
    for process in processes:
        process.kill()
        process.wait()
