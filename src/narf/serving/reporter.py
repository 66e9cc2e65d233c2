"""Tells the control plane where this replica is and, every few seconds, what it predicted. Serving never waits for it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import os
import urllib.request
from http.client import HTTPException
from typing import Any

import orjson

from narf.serving.application import ReplicaApplication

_log = logging.getLogger(__name__)
_REPORT_SECONDS = 2.0
_LAST_WORDS_SECONDS = 2.0


class Reporter:
    """Does nothing where there is no control plane (NARF_URL and NARF_WORKLOAD_ID unset)."""

    def __init__(self, application: ReplicaApplication, *, revision: str) -> None:
        self._application, self._revision = application, revision
        self._url, self._token = os.environ.get("NARF_URL", ""), os.environ.get("NARF_TOKEN", "")
        self._workload = os.environ.get("NARF_WORKLOAD_ID", "")
        self._task: asyncio.Task[None] | None = None
        self._address = ""
        self._untold = asyncio.Event()  # the control plane does not know the address, or no longer

    async def start(self, address: str) -> None:
        self._address = address
        self._untold.set()
        if self._url and self._workload:
            self._task = asyncio.create_task(self._report_for_ever())

    def tell_again(self) -> None:
        """The control plane asks anew for what this replica serves already."""
        self._untold.set()

    def leave(self, sentence: str, at_once: bool) -> bool:
        """From any thread: this replica is to be replaced. True when that is known, or there is nobody to tell."""
        if not (self._url and self._workload):
            return True
        return self._send(f"/api/v1/replicas/{self._workload}/leaving", {"sentence": sentence, "at_once": at_once}) is not None

    def last_words(self, sentence: str, revision: str = "") -> None:
        """From any thread: this process ends now, and why. revision: the model that made it end, where that is known."""
        if self._url and self._workload:
            body = {"sentence": sentence, "at_once": True, "revision": revision}
            self._send(f"/api/v1/replicas/{self._workload}/leaving", body, seconds=_LAST_WORDS_SECONDS)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.to_thread(self._report)

    async def _report_for_ever(self) -> None:
        pause = 0.1
        while True:
            if self._untold.is_set():
                self._untold.clear()
                body = {"url": self._address, "revision": self._revision}
                if await asyncio.to_thread(self._send, f"/api/v1/replicas/{self._workload}/address", body) is None:
                    self._untold.set()
                    pause = min(pause * 2, 5.0)
                    await asyncio.sleep(pause)
                    continue
                pause = 0.1
            elif any(served.recorder.has_news for served in self._application.models.values()):
                await asyncio.to_thread(self._report)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._untold.wait(), _REPORT_SECONDS)

    def _report(self) -> None:
        for name, served in self._application.models.items():
            report = served.recorder.report()
            if report is not None:
                report["records"] = base64.b64encode(report["records"]).decode()
                answer = self._send(f"/api/v1/replicas/{self._workload}/predictions", {"model": name, "revision": self._revision, **report})
                if answer and answer.get("reference"):
                    served.recorder.compare_with(answer["reference"])

    def _send(self, path: str, value: dict[str, Any], *, seconds: float = 10.0) -> dict[str, Any] | None:
        """The answer; None: the control plane did not take it."""
        request = urllib.request.Request(
            self._url + path,
            data=orjson.dumps(value),
            headers={"content-type": "application/json", "authorization": f"Bearer {self._token}"},
            method="POST",
        )
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                said: dict[str, Any] = orjson.loads(answer.read() or b"{}")
                return said
        except (OSError, HTTPException, ValueError) as error:
            _log.warning("the control plane did not take %s: %s", path, error)
            return None
