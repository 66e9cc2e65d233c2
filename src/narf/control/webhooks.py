"""Webhooks: posts JSON to the address that a user named, if the server may go there (`narf.control.hosts`).

The address that was looked at is the one that is connected to, and redirections are not followed: they would lead elsewhere.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from narf.control.hosts import Hosts
from narf.domain.errors import BadInput


@dataclass(frozen=True, slots=True)
class Webhooks:
    hosts: Hosts
    timeout_seconds: float = 10.0

    def check(self, url: str) -> None:
        """Whether it may be sent to. A host that cannot be found now may be found later.

        Raises:
            BadInput: it is no address, or one that the server does not go to.
        """
        host, port = _parts(url)
        try:
            self.hosts.checked(host, port, by_proxy=True)
        except BadInput as error:
            raise BadInput(error.sentence, remedy=error.remedy, field="webhook", code=error.code) from None

    def post(self, url: str, body: Mapping[str, Any]) -> None:
        """Send it once.

        Raises:
            OSError: it did not work, to be tried again. BadInput: the server does not go there.
        """
        host, port = _parts(url)
        scheme = urlsplit(url).scheme
        headers = {"Content-Type": "application/json", "User-Agent": "narf"}
        data = json.dumps(body).encode()
        by_proxy = bool(urllib.request.getproxies().get(scheme)) and not urllib.request.proxy_bypass(host)
        address = self.hosts.checked(host, port, by_proxy=by_proxy)
        if by_proxy:
            request = urllib.request.Request(url, data, headers, method="POST")
            with urllib.request.build_opener(_NoRedirection).open(request, timeout=self.timeout_seconds) as answer:
                answer.read(1)
            return
        connection = _Connection(scheme, host, port, address or host, self.timeout_seconds)
        try:
            parts = urlsplit(url)
            connection.request("POST", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), data, headers)
            status = connection.getresponse().status
        except http.client.HTTPException as error:
            raise OSError(f"it answered what is no HTTP: {type(error).__name__}") from error
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise OSError(f"it answered {status}")


def _parts(url: str) -> tuple[str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        if not parts.hostname or any(character.isspace() for character in url):
            raise ValueError
    except (ValueError, KeyError):
        raise BadInput(f"{url[:200]!r} is no address to notify.", remedy="It begins with https://", field="webhook") from None
    return parts.hostname, port


class _Connection(http.client.HTTPConnection):
    """To this address, whatever the name means now; the name is what the other side and its certificate are asked for."""

    def __init__(self, scheme: str, host: str, port: int, address: str, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self.default_port = {"http": 80, "https": 443}[scheme]
        self._address, self._is_https = address, scheme == "https"

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._is_https:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None
