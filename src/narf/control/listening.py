"""Where the control plane listens, and the file that tells the commands of this machine where that is."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime
from pathlib import Path

from narf.control.first_start import LocalAdmin
from narf.domain.errors import NarfError


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise NarfError(
            f"The address {host}:{port} cannot be used: {error.strerror}.",
            remedy="Another program listens there. Choose a port: narf up --port 0",
            code="port_in_use",
        ) from error
    sock.setblocking(False)
    return sock


def url_of(sock: socket.socket, host: str) -> str:
    """The address under which programs of this machine reach a server that listens here for `host`."""
    port = sock.getsockname()[1]
    host = host if host not in ("0.0.0.0", "::") else "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def write_server_file(place: Path, url: str, admin: LocalAdmin, now: datetime) -> None:
    """Only this account may read it: it holds the token of the local user."""
    body = {"url": url, "token": admin.token, "user": admin.user, "pid": os.getpid(), "started_at": now.isoformat()}
    temporary = place.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(body, file)
    os.replace(temporary, place)


def known_token(place: Path) -> str:
    """The token of the process before this one; empty when there was none."""
    try:
        return str(json.loads(place.read_text()).get("token", ""))
    except (FileNotFoundError, ValueError):
        return ""
