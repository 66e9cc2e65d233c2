"""Alerts of endpoints, as webhooks: sent in the background, tried a few times, never in anybody's way."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from typing import Any

from narf.control.endpoints.store import Endpoint
from narf.control.webhooks import Webhooks
from narf.domain.errors import BadInput

_log = logging.getLogger(__name__)
_TRIES = 3
_SELDOM = timedelta(minutes=10)


class Alerts:
    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._told: dict[tuple[str, str], datetime] = {}
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="alerts")

    def send(self, endpoint: Endpoint, kind: str, sentence: str, **details: Any) -> None:
        """`{"kind", "endpoint", "project", "sentence", ...}` to the endpoint's webhook, where it has one."""
        if endpoint.webhook:
            body = {"kind": kind, "endpoint": endpoint.name, "project": endpoint.project, "sentence": sentence, **details}
            self._executor.submit(self._post, endpoint.webhook, body)

    def send_seldom(self, endpoint: Endpoint, kind: str, sentence: str, now: datetime, **details: Any) -> None:
        """The same, at most once in ten minutes for one endpoint and kind: what goes wrong once often does so again at once."""
        told = self._told.get((endpoint.id, kind))
        if told is None or now - told >= _SELDOM:
            self._told[endpoint.id, kind] = now
            self.send(endpoint, kind, f"{endpoint.name}: {sentence}", **details)

    def close(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _post(self, url: str, body: dict[str, Any]) -> None:
        for attempt in range(_TRIES):
            try:
                self._webhooks.post(url, body)
                return
            except (OSError, ValueError, BadInput) as error:
                _log.warning("the alert to %s failed: %s", url, error)
                if isinstance(error, BadInput) and error.code != "unreachable":
                    return  # the server does not go there
                time.sleep(0.5 * 2**attempt)
