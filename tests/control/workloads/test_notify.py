"""Whoever waits for a workload hears of its end, through real servers; a receiver that is away holds nothing up."""

from __future__ import annotations

import json
import queue
import socketserver
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from narf.control.hosts import hosts_of_webhooks
from narf.control.webhooks import Webhooks
from narf.control.workloads.notify import Desktop, Email, Notifications, Webhook
from narf.domain.workload import EndReason, Program, Resources, Workload, WorkloadKind, WorkloadState

WEBHOOKS = Webhooks(hosts_of_webhooks("", "127.0.0.1"))


def ended(**fields: object) -> Workload:
    given = {
        "id": "w1", "project": "vision", "owner": "ada", "name": "digits", "kind": WorkloadKind.TRAINING,
        "created_at": datetime(2026, 1, 1, tzinfo=UTC), "resources": Resources(), "program": Program(script="train.py"),
        "state": WorkloadState.FAILED, "end_reason": EndReason.USER_ERROR, "exit_code": 3,
    }  # fmt: skip
    return Workload(**(given | fields))  # type: ignore[arg-type]


class Receiver:
    """An HTTP server that fails as often as it is told, then accepts."""

    def __init__(self, failures: int = 0) -> None:
        self.got: queue.Queue[dict] = queue.Queue()
        self.failures = failures
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                receiver.failures -= 1
                self.send_response(503 if receiver.failures >= 0 else 204)
                self.end_headers()
                if receiver.failures < 0:
                    receiver.got.put(body)

            def log_message(self, *_: object) -> None: ...

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def notify() -> Iterator:
    started: list[Notifications] = []

    def start(*notifiers) -> Notifications:
        made = Notifications(notifiers, retry_seconds=0.01)
        made.start()
        started.append(made)
        return made

    yield start
    for made in started:
        made.close()


def test_a_webhook_is_told_what_ended_and_why(notify):
    receiver = Receiver()
    notify(Webhook(lambda workload: f"https://narf/p/{workload.project}/workloads/{workload.id}", WEBHOOKS)).ended(
        ended(webhook=receiver.url)
    )
    said = receiver.got.get(timeout=10)
    assert (said["workload_id"], said["state"], said["exit_code"]) == ("w1", "failed", 3)
    assert said["sentence"] and said["sentence"] in said["text"]
    assert said["url"] == "https://narf/p/vision/workloads/w1"


def test_a_receiver_that_fails_is_tried_again(notify):
    receiver = Receiver(failures=2)
    notify(Webhook(lambda _: "", WEBHOOKS)).ended(ended(webhook=receiver.url))
    assert receiver.got.get(timeout=10)["workload_id"] == "w1"


def test_one_that_is_away_does_not_keep_the_next_from_being_told(notify):
    receiver = Receiver()
    notifications = notify(Webhook(lambda _: "", WEBHOOKS))
    notifications.ended(ended(id="first", webhook="http://127.0.0.1:9/closed"))
    notifications.ended(ended(id="second", webhook=receiver.url))
    assert receiver.got.get(timeout=10)["workload_id"] == "second"


def test_a_mail_goes_to_the_owner_and_trials_send_none(notify):
    mails: queue.Queue[str] = queue.Queue()

    class Relay(socketserver.StreamRequestHandler):
        """As much of SMTP as a client needs to hand a mail over."""

        def handle(self) -> None:
            self.wfile.write(b"220 relay\r\n")
            while line := self.rfile.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    self.wfile.write(b"354 go\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    mails.put(b"".join(lines).decode())
                self.wfile.write(b"250 ok\r\n" if verb != b"QUIT" else b"221 bye\r\n")
                if verb == b"QUIT":
                    return

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Relay)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    relay = f"127.0.0.1:{server.server_address[1]}"
    notifications = notify(Email(relay=relay, domain="bank.example", sender="narf@bank.example"))
    notifications.ended(ended(id="trial", parent="study:s"))
    notifications.ended(ended())
    mail = mails.get(timeout=10)
    assert "To: ada@bank.example" in mail and "Subject: digits failed" in mail and "(w1)" in mail
    assert mails.empty()


def test_the_desktop_is_told_through_its_own_program(notify, tmp_path: Path):
    said = tmp_path / "said"
    program = tmp_path / "notify-send"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {said}.new && mv {said}.new {said}\n')
    program.chmod(0o755)
    desktop = Desktop(str(program))
    desktop.tell(ended(name="<b>digits</b> -x"))
    lines = said.read_text().splitlines()
    assert lines[:2] == ["--app-name=Narf", "--"]
    assert lines[2] == "<b>digits</b> -x failed" and "&lt;" not in lines[2]


def test_a_machine_without_a_screen_has_no_desktop_to_tell(tmp_path: Path):
    assert Desktop.found({"PATH": str(tmp_path), "DISPLAY": ":0"}) is None  # no program for it
    (tmp_path / "notify-send").write_text("#!/bin/sh\n")
    (tmp_path / "notify-send").chmod(0o755)
    assert Desktop.found({"PATH": str(tmp_path)}) is None
    assert Desktop.found({"PATH": str(tmp_path), "DISPLAY": ":0"}) == Desktop(str(tmp_path / "notify-send"))
