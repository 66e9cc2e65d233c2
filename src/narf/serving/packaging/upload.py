"""Sends a finished package, or why there is none, to the platform."""

from __future__ import annotations

import json
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import BinaryIO, cast

from narf.domain.errors import Unavailable
from narf.serving.transfer import pack

_SECONDS = 300


def send_package(folder: Path, url: str, token: str) -> None:
    with tempfile.TemporaryFile() as file:
        pack(folder, cast(BinaryIO, file))
        size = file.tell()
        file.seek(0)
        headers = {"content-type": "application/x-tar", "content-length": str(size)}
        _send(urllib.request.Request(url, data=file, headers=headers, method="PUT"), token)


def send_failure(sentence: str, url: str, token: str) -> None:
    body = json.dumps({"error": sentence[:9000]}).encode()
    _send(urllib.request.Request(f"{url}/failure", data=body, headers={"content-type": "application/json"}, method="POST"), token)


def _send(request: urllib.request.Request, token: str) -> None:
    request.add_header("authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS):
            return
    except urllib.error.HTTPError as error:
        raise Unavailable(f"The platform answered {error.code}: {error.read(500).decode('utf-8', 'replace')}") from error
    except OSError as error:
        raise Unavailable(f"The platform at {request.host} cannot be reached: {error}.") from error
