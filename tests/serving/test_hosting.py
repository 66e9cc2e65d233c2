"""A shared process, as a process, and a small control plane that says what it is to hold."""

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
from packages import linear, with_processing

ROW = {"inputs": [[1, 2, 3, 4]]}
SLOW = """
import time
def preprocess(inputs):
    if inputs["x"][0, 0] >= 100:
        time.sleep(1 if inputs["x"][0, 0] == 100 else 1000)
    return inputs
"""


class Control:
    """What it is to hold, by revision; `told` is what it said, in order. cut: how many answers from now on break off in the middle."""

    def __init__(self, folder):
        self.models, self.told, self.number, self.cut = {}, [], 0, 0
        self.changed = threading.Condition()
        self._folder = folder
        control = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                known = self.path.partition("known=")[2].partition("&")[0]
                with control.changed:
                    control.changed.wait_for(lambda: str(control.number) != known, timeout=2)
                    body = json.dumps({"version": str(control.number), "models": list(control.models.values())}).encode()
                    broken, control.cut = control.cut > 0, max(0, control.cut - 1)
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[:5] if broken else body)
                self.close_connection = broken

            def do_POST(self):
                value = json.loads(self.rfile.read(int(self.headers["content-length"])))
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"{}")
                with control.changed:
                    control.told.append((self.path.rpartition("/")[2], value))
                    control.changed.notify_all()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.server.handle_error = lambda *_: None  # the process was killed
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def hold(self, revision, folder=None, *, state="starting", timeout=30.0):
        folder = folder or linear(self._folder / revision)
        with self.changed:
            self.models[revision] = {
                "revision": revision, "state": state, "name": revision, "version": "1", "folder": str(folder),
                "fallback": "", "timeout_seconds": timeout,
            }  # fmt: skip
        self.another()

    def let_go(self, revision):
        with self.changed:
            del self.models[revision]
        self.another()

    def another(self):
        with self.changed:
            self.number += 1
            self.changed.notify_all()

    def hears(self, kind, revision, times=1):
        """Waits until it was told `kind` of this revision so many times; the last of it."""

        def said():
            return [value for what, value in self.told if what == kind and value["revision"] == revision]

        with self.changed:
            assert self.changed.wait_for(lambda: len(said()) >= times, timeout=20), self.told
            return said()[times - 1]


@pytest.fixture
def control(tmp_path):
    made = Control(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def process(control, tmp_path):
    environment = {**os.environ, "NARF_URL": control.url, "NARF_TOKEN": "t", "NARF_WORKLOAD_ID": "wl-1"}
    command = [
        sys.executable,
        "-m",
        "narf.serving.replica",
        "--hosted",
        "--announce",
        tmp_path / "r.json",
        "--scratch",
        tmp_path / "scratch",
    ]
    process = subprocess.Popen([*command, "--hang-seconds", "1", "--timeout", "1"], env=environment, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def asks(url, **how):
    return httpx.post(f"{url}/predict", timeout=30, **(how or {"json": ROW}))


def test_a_model_that_is_asked_for_again_before_it_was_let_go_of_says_again_where_it_is(control, process):
    control.hold("rev-a")
    first = control.hears("address", "rev-a")["url"]
    control.hold("rev-a", state="ready")
    before = len(control.told)
    control.another()
    control.hold("rev-b")
    control.hears("address", "rev-b")
    assert [what for what, value in control.told[before:] if value["revision"] == "rev-a" and what == "address"] == []
    control.hold("rev-a", state="starting")  # forgotten and asked for between two questions: it holds it all the time
    said = sum(what == "address" and value["revision"] == "rev-a" for what, value in control.told)
    assert control.hears("address", "rev-a", times=said + 1)["url"] == first
    assert asks(first).status_code == 200


def test_a_model_that_is_asked_for_again_while_it_is_let_go_of_is_taken_in_again(control, process):
    control.hold("rev-a", with_processing(control._folder / "slow", SLOW))
    url = control.hears("address", "rev-a")["url"]
    answers = []
    asking = threading.Thread(target=lambda: answers.append(asks(url, json={"inputs": [[100, 0, 0, 0]]}).status_code))
    asking.start()
    time.sleep(0.3)
    said = sum(what == "address" for what, _ in control.told)
    control.let_go("rev-a")
    time.sleep(0.3)  # it finishes what it has begun
    control.hold("rev-a", control._folder / "slow")
    control.hears("address", "rev-a", times=said + 1)
    asking.join()
    assert answers == [200] and asks(url).status_code == 200


def test_answers_that_break_off_leave_everything_as_it_is_and_it_asks_again(control, process):
    control.hold("rev-a")
    url = control.hears("address", "rev-a")["url"]
    control.cut = 3
    control.hold("rev-b")
    control.hears("address", "rev-b")
    assert control.cut == 0 and asks(url).status_code == 200


def test_a_model_that_hangs_ends_its_process_which_says_whose_fault_it_was(control, process):
    control.hold("rev-a", with_processing(control._folder / "slow", SLOW))
    control.hold("rev-b")
    urls = {revision: control.hears("address", revision)["url"] for revision in ("rev-a", "rev-b")}
    answers = []

    def hang():
        answers.append(asks(urls["rev-a"], json={"inputs": [[101, 0, 0, 0]]}, headers={"narf-timeout-ms": "300"}).status_code)

    hanging = threading.Thread(target=hang)
    hanging.start()
    neighbour = [asks(urls["rev-b"]).status_code for _ in range(20)]
    hanging.join()
    assert (answers, set(neighbour)) == ([504], {200})
    said = control.hears("leaving", "rev-a")
    assert said["at_once"] and "'rev-a' has been at the same requests for" in said["sentence"]
    assert process.wait(10) == 70
