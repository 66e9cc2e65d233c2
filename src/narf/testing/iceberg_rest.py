"""A small server of the Iceberg REST catalogue protocol over another catalogue, for tests: the calls that reading needs.

It follows the published OpenAPI description (configuration, OAuth2 client credentials, namespaces, tables), with pages of two
entries so that clients must ask for the rest. It is our reading of the protocol, not proof against a vendor's server.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from narf.testing.http_server import http_server

_PAGE = 2
_SEPARATOR = "\x1f"  # between the levels of a namespace


@contextmanager
def iceberg_rest_server(
    catalog: Any, *, token: str = "", credential: str = "", prefix: str = "", table_config: Mapping[str, str] | None = None
) -> Iterator[str]:
    """The address of a server for the tables of `catalog` (a pyiceberg catalogue).

    token: what callers must bear. credential: "ID:SECRET", for which the token is given. prefix: what the configuration tells
    clients to put into paths. table_config: given with each table, as servers give short-lived keys for its files.
    """
    lock = threading.Lock()

    class Handler(_Handler):
        tables, alone = catalog, lock
        wanted_token, wanted_credential, wanted_prefix, config = token, credential, prefix, dict(table_config or {})

    with http_server(Handler) as address:
        yield address


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    tables: Any
    alone: threading.Lock
    wanted_token = wanted_credential = wanted_prefix = ""
    config: Mapping[str, str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        if not self.path.endswith("/v1/oauth/tokens"):
            self._refuse(406, "UnsupportedOperationException", "This catalogue only reads.")
        elif f"{form.get('client_id')}:{form.get('client_secret')}" != self.wanted_credential:
            self._say(401, {"error": "invalid_client", "error_description": "Credentials are not valid"})
        else:
            self._say(200, {"access_token": self.wanted_token, "token_type": "bearer", "expires_in": 3600})

    def do_GET(self) -> None:
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if self.wanted_token and self.headers.get("Authorization") != f"Bearer {self.wanted_token}":
            self._refuse(401, "NotAuthorizedException", "Not authorized")
            return
        parts = [unquote(part) for part in url.path.strip("/").split("/")]
        if parts == ["v1", "config"]:
            self._say(200, {"defaults": {}, "overrides": {"prefix": self.wanted_prefix} if self.wanted_prefix else {}})
            return
        if self.wanted_prefix and parts[1:2] != [self.wanted_prefix]:
            self._refuse(404, "NoSuchWarehouseException", f"There is no {url.path}")
            return
        try:
            with self.alone:
                self._answer(parts[2:] if self.wanted_prefix else parts[1:], query)
        except NoSuchNamespaceError as error:
            self._refuse(404, "NoSuchNamespaceException", str(error))
        except NoSuchTableError as error:
            self._refuse(404, "NoSuchTableException", str(error))

    def _answer(self, parts: list[str], query: dict[str, str]) -> None:
        if parts == ["namespaces"]:
            parent = tuple(query["parent"].split(_SEPARATOR)) if query.get("parent") else ()
            self._page("namespaces", [list(space) for space in self.tables.list_namespaces(parent)], query)
        elif len(parts) == 3 and parts[2] == "tables":
            found = self.tables.list_tables(tuple(parts[1].split(_SEPARATOR)))
            self._page("identifiers", [{"namespace": list(table[:-1]), "name": table[-1]} for table in found], query)
        elif len(parts) == 4 and parts[2] == "tables":
            table = self.tables.load_table((*parts[1].split(_SEPARATOR), parts[3]))
            metadata = json.loads(table.metadata.model_dump_json())
            self._say(200, {"metadata-location": table.metadata_location, "metadata": metadata, "config": self.config})
        else:
            self._refuse(404, "NotFoundException", f"There is no {'/'.join(parts)}")

    def _page(self, name: str, items: list[Any], query: dict[str, str]) -> None:
        start = int(query.get("pageToken") or 0)
        more = {"next-page-token": str(start + _PAGE)} if start + _PAGE < len(items) else {}
        self._say(200, {name: items[start : start + _PAGE]} | more)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        self._say(status, {"error": {"message": message, "type": kind, "code": status}})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Quiet."""
