"""Alerts of endpoints, as webhooks: sent in the background, tried a few times, never in anybody's way."""

from __future__ import annotations

import json
import logging
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from narf.control.endpoints.store import Endpoint

_log = logging.getLogger(__name__)
_TRIES = 3


class Alerts:
    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="alerts")

    def send(self, endpoint: Endpoint, kind: str, sentence: str, **details: Any) -> None:
        """`{"kind", "endpoint", "project", "sentence", ...}` to the endpoint's webhook, where it has one."""
        if endpoint.webhook:
            body = {"kind": kind, "endpoint": endpoint.name, "project": endpoint.project, "sentence": sentence, **details}
            self._executor.submit(_post, endpoint.webhook, body)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _post(url: str, body: dict[str, Any]) -> None:
    for attempt in range(_TRIES):
        request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=5):
                return
        except (urllib.error.URLError, OSError, ValueError) as error:
            _log.warning("the alert to %s failed: %s", url, error)
            time.sleep(0.5 * 2**attempt)
