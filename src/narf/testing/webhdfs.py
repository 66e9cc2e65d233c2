"""A small server of the WebHDFS protocol over a folder, for tests: the calls that reading needs, as Hadoop 3 answers them.

No real HDFS can be had from a package registry, so this is our reading of the protocol, not proof against a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from narf.testing.http_server import http_server

_PREFIX = "/webhdfs/v1"


@contextmanager
def webhdfs_server(root: Path, *, user: str = "") -> Iterator[str]:
    """The address of a server for the files of `root`. With `user`, others are refused."""

    class Handler(_Handler):
        folder = root
        allowed = user

    with http_server(Handler) as address:
        yield address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder = Path()
    allowed = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name.lower(): values[0] for name, values in parse_qs(url.query).items()}
        place = self.folder / unquote(url.path).removeprefix(_PREFIX).strip("/")
        operation = query.get("op", "").upper()
        if self.allowed and query.get("user.name") != self.allowed:
            self._refuse(403, "AccessControlException", f"Permission denied: user={query.get('user.name', 'dr.who')}")
        elif not place.exists():
            self._refuse(404, "FileNotFoundException", f"File does not exist: /{place.relative_to(self.folder)}")
        elif operation == "GETFILESTATUS":
            self._say({"FileStatus": _status(place, "")})
        elif operation in ("LISTSTATUS", "LISTSTATUS_BATCH"):
            self._list(place, operation, query.get("startafter", ""))
        elif operation == "OPEN" and query.get("noredirect") == "true":
            self._say({"Location": f"http://{self.headers['Host']}{self.path.replace('noredirect=true', 'datanode=true')}"})
        elif operation == "OPEN" and "datanode" not in query:
            self.send_response(307)
            self.send_header("Location", f"http://{self.headers['Host']}{self.path}&datanode=true")
            self.send_header("Content-Length", "0")
            self.end_headers()
        elif operation == "OPEN":
            self._open(place, query)
        else:
            self._refuse(400, "IllegalArgumentException", f"Invalid value for webhdfs parameter op: {operation}")

    def _list(self, place: Path, operation: str, after: str) -> None:
        entries = sorted(place.iterdir()) if place.is_dir() else [place]
        rows = [_status(entry, entry.name if place.is_dir() else "") for entry in entries if entry.name > after]
        if operation == "LISTSTATUS":
            self._say({"FileStatuses": {"FileStatus": rows}})
            return
        page = rows[:3]  # small on purpose: clients must ask for the rest
        self._say(
            {"DirectoryListing": {"partialListing": {"FileStatuses": {"FileStatus": page}}, "remainingEntries": len(rows) - len(page)}}
        )

    def _open(self, place: Path, query: dict[str, str]) -> None:
        data = place.read_bytes()
        start = int(query.get("offset", 0))
        end = start + int(query["length"]) if query.get("length") else len(data)
        self._send(200, data[start:end], "application/octet-stream")

    def _say(self, body: dict[str, Any]) -> None:
        self._send(200, json.dumps(body).encode(), "application/json")

    def _refuse(self, status: int, kind: str, message: str) -> None:
        body = {"RemoteException": {"exception": kind, "javaClassName": f"org.apache.hadoop.{kind}", "message": message}}
        self._send(status, json.dumps(body).encode(), "application/json")

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""


def _status(place: Path, name: str) -> dict[str, Any]:
    status = place.stat()
    return {
        "accessTime": int(status.st_atime * 1000),
        "blockSize": 134_217_728,
        "childrenNum": 0,
        "fileId": status.st_ino,
        "group": "supergroup",
        "length": status.st_size if place.is_file() else 0,
        "modificationTime": int(status.st_mtime * 1000),
        "owner": "hdfs",
        "pathSuffix": name,
        "permission": "644",
        "replication": 1,
        "storagePolicy": 0,
        "type": "FILE" if place.is_file() else "DIRECTORY",
    }
