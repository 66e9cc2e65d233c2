"""Payloads that an endpoint's policy keeps: taken as they pass through the gateway, sent to the control plane in blocks.

Off unless an endpoint says otherwise. Never in the way of an answer, and bounded: what is more than a few MiB a second is not kept.
"""

from __future__ import annotations

import base64
import random
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from narf.serving.http.message import Request, Response

MOST_BYTES = 256 << 10  # of a request or a response; of more, the beginning
_MOST_WAITING_BYTES = 4 << 20  # of all endpoints, between two reports


@dataclass(frozen=True, slots=True)
class KeepPolicy:
    """share: of all predictions, 0 to 1. errors: all that were answered with 400 and above."""

    share: float = 0.0
    errors: bool = False

    def takes(self, status: int, draw: float) -> bool:
        """draw: 0 <= draw < 1."""
        return (self.errors and status >= 400) or draw < self.share


def keep_policy(value: Mapping[str, Any] | None) -> KeepPolicy | None:
    """None: nothing is kept."""
    policy = KeepPolicy(float(value.get("percent", 0.0)) / 100, bool(value.get("errors", False))) if value else KeepPolicy()
    return policy if policy.share > 0 or policy.errors else None


class Payloads:
    def __init__(self) -> None:
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._bytes = 0
        self._random = random.Random()
        self.dropped = 0

    def see(self, endpoint_id: str, policy: KeepPolicy, prediction: bytes, revision: str, request: Request, response: Response) -> None:
        if not policy.takes(response.status, self._random.random()):
            return
        asked, answered = request.body[:MOST_BYTES], response.body[:MOST_BYTES]
        size = len(asked) + len(answered)
        if self._bytes + size > _MOST_WAITING_BYTES:
            self.dropped += 1
            return
        self._bytes += size
        self._waiting.setdefault(endpoint_id, []).append(
            {
                "id": prediction.decode(),
                "revision": revision,
                "status": response.status,
                "request_type": request.headers.get(b"content-type", b"").decode("latin-1"),
                "request_json_bytes": request.headers.get(b"inference-header-content-length", b"").decode("latin-1"),
                "request": base64.b64encode(asked).decode(),
                "request_bytes": len(request.body),
                "response_type": response.content_type.decode("latin-1"),
                "response": base64.b64encode(answered).decode(),
                "response_bytes": len(response.body),
            }
        )

    def take(self) -> dict[str, str]:
        """What has come together, by endpoint: base64 of the packed block that the control plane stores as it is."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        return {endpoint: base64.b64encode(zlib.compress(orjson.dumps(items), 1)).decode() for endpoint, items in waiting.items()}
