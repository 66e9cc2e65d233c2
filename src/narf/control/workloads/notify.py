"""Tells people when a workload has ended: a webhook of the workload's own, and adapters for every workload of a platform.

A notification is tried a few times, in its own thread, and never holds anything up. What it says is in the API as well.
"""

from __future__ import annotations

import html
import logging
import queue
import shutil
import smtplib
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import Protocol
from urllib.parse import urlsplit

from narf.control.webhooks import Webhooks
from narf.domain.errors import BadInput
from narf.domain.workload import Workload

_log = logging.getLogger(__name__)
_TRIES, _TIMEOUT_SECONDS, _MOST_WAITING = 3, 10.0, 10_000


class Notifier(Protocol):
    """One way to tell. `tell` may block for some seconds and raises OSError when it did not work, to be tried again."""

    def tell(self, workload: Workload) -> None: ...


class Webhook:
    """POSTs JSON to the address the workload names; workloads without one are passed over."""

    def __init__(self, url_of_page: Callable[[Workload], str], webhooks: Webhooks) -> None:
        self._page, self._webhooks = url_of_page, webhooks

    def tell(self, workload: Workload) -> None:
        if not workload.webhook:
            return
        try:
            self._webhooks.post(workload.webhook, message_of(workload) | {"url": self._page(workload)})
        except BadInput as error:
            if error.code == "unreachable":  # its name means nothing just now
                raise OSError(str(error)) from error
            _log.warning("nothing is sent of %s: %s", workload.id, error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Email:
    """Mails the owner of a training or study that ended, at <owner>@<domain>, through an SMTP relay ("host:port")."""

    relay: str
    domain: str
    sender: str

    def tell(self, workload: Workload) -> None:
        if workload.parent:
            return  # trials and replicas speak through their study and endpoint
        mail = EmailMessage()
        mail["From"], mail["To"] = self.sender, f"{workload.owner}@{self.domain}"
        mail["Subject"] = f"{workload.name} {workload.state}"
        mail.set_content(f"{workload.name} ({workload.id}) in project {workload.project}: {workload.sentence()}\n")
        split = urlsplit(f"//{self.relay}")
        with smtplib.SMTP(split.hostname or "localhost", split.port or 25, timeout=_TIMEOUT_SECONDS) as smtp:
            smtp.send_message(mail)


@dataclass(frozen=True, slots=True)
class Desktop:
    """Shows it on the screen of the person whose machine this is; `program` is its notify-send."""

    program: str

    @classmethod
    def found(cls, environ: Mapping[str, str]) -> Desktop | None:
        """The desktop of this session; None where there is no screen, or no program to reach it."""
        if not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
            return None
        program = shutil.which("notify-send", path=environ.get("PATH"))
        return cls(program) if program else None

    def tell(self, workload: Workload) -> None:
        if workload.parent:
            return
        words = ["--app-name=Narf", "--", f"{workload.name} {workload.state}", html.escape(workload.sentence())]  # the body takes markup
        try:
            subprocess.run(
                [self.program, *words], check=True, timeout=_TIMEOUT_SECONDS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        except subprocess.SubprocessError as error:
            raise OSError(str(error)) from error


def message_of(workload: Workload) -> dict[str, object]:
    """What a notification says."""
    return {
        "event": "workload.ended",
        "workload_id": workload.id,
        "run_id": workload.run_id,
        "name": workload.name,
        "project": workload.project,
        "owner": workload.owner,
        "state": workload.state.value,
        "reason": workload.end_reason.value if workload.end_reason else None,
        "exit_code": workload.exit_code,
        "sentence": workload.sentence(),
        "text": f"{workload.name} {workload.state}: {workload.sentence()}",  # the field that chat systems show
    }


class Notifications:
    """A queue and one thread. `ended` returns at once; call it once for each workload that has ended."""

    def __init__(self, notifiers: Sequence[Notifier], retry_seconds: float = 5.0) -> None:
        self._notifiers, self._retry_seconds = notifiers, retry_seconds
        self._queue: queue.Queue[Workload | None] = queue.Queue(_MOST_WAITING)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=_TIMEOUT_SECONDS)

    def ended(self, workload: Workload) -> None:
        try:
            self._queue.put_nowait(workload)
        except queue.Full:
            _log.warning("too many notifications wait; that of %s is dropped", workload.id)

    def _run(self) -> None:
        while (workload := self._queue.get()) is not None:
            for notifier in self._notifiers:
                self._tell(notifier, workload)

    def _tell(self, notifier: Notifier, workload: Workload) -> None:
        for tries in range(1, _TRIES + 1):
            try:
                notifier.tell(workload)
                return
            except (OSError, ValueError, smtplib.SMTPException) as error:
                _log.warning("notification of %s by %s failed (%d of %d): %s", workload.id, type(notifier).__name__, tries, _TRIES, error)
            if self._stopping.wait(self._retry_seconds * tries):
                return
