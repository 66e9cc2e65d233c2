"""Where a replica listens, so that gateways reach it: on this machine alone, or in the network that it shares with the control plane.

There anybody could ask it, and it does not know who may. So it answers only below a path that nobody can guess, which the control
plane tells the gateways.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from narf.serving.http.message import Request, problem

_LOOPBACK = "127.0.0.1"
_HEALTH = (b"/healthz", b"/readyz", b"/v2/health/live", b"/v2/health/ready")


def own_address(control: str) -> str:
    """The address by which this machine reaches the control plane at this URL: others there reach it by the same one. Loopback where there is none."""
    parts = urlsplit(control)
    if not parts.hostname:
        return _LOOPBACK
    try:
        family, kind, _, _, place = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(place)  # sends nothing
            found = str(probe.getsockname()[0])
    except OSError:
        return _LOOPBACK
    return _LOOPBACK if is_loopback(found) else found


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Hidden:
    """`application` below `path`, which is part of the address that is told; elsewhere only whether the process lives."""

    def __init__(self, application: Callable[[Request], None]) -> None:
        self._application = application
        self.path = f"/{secrets.token_urlsafe(24)}"
        self._prefix = self.path.encode() + b"/"

    def __call__(self, request: Request) -> None:
        path = request.path
        length = len(self._prefix)
        if hmac.compare_digest(path[:length], self._prefix):
            request.path = path[length - 1 :]
            self._application(request)
        elif path in _HEALTH:
            self._application(request)
        else:
            request.reply(
                problem(404, "Endpoints are asked through the gateway.", remedy="See its address: narf endpoints", code="not_found")
            )
