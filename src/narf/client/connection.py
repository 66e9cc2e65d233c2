"""The typed HTTP client: the SDK, the command line and drivers use nothing else to reach the platform.

Where the platform is and who asks is found, in this order, in: arguments, NARF_URL and NARF_TOKEN, the context file of
`narf login` (~/.config/narf/context.json), and the server that `narf up` left in NARF_HOME.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from narf.domain import errors
from narf.domain.errors import NarfError, NotSignedIn, Unavailable

_ERRORS: dict[int, type[NarfError]] = {
    401: errors.NotSignedIn,
    403: errors.NotAllowed,
    409: errors.Conflict,
    422: errors.BadInput,
    429: errors.LimitReached,
    501: errors.NarfError,
    503: errors.Unavailable,
}
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)


class Connection:
    """One platform as one principal. Answers are parsed JSON; problems are raised as the `NarfError` they were there."""

    def __init__(self, url: str, token: str = "", *, transport: httpx.BaseTransport | None = None) -> None:
        self.url, self.token = url.rstrip("/"), token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        local = self.url.startswith(("http://127.", "http://localhost", "http://[::1]"))
        self._http = httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=_TIMEOUT,
            transport=transport,
            trust_env=not local,  # a proxy of the bank must not catch calls to this machine
            follow_redirects=False,
        )

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(self.request("GET", path, params=_query(query)))

    def post(self, path: str, body: Any = None, *, headers: dict[str, str] | None = None, **query: Any) -> Any:
        return self._answer(self.request("POST", path, json=body, params=_query(query), headers=headers))

    def put(self, path: str, body: Any = None, *, content: Any = None, **query: Any) -> Any:
        if content is not None:
            return self._answer(self.request("PUT", path, content=content, params=_query(query)))
        return self._answer(self.request("PUT", path, json=body, params=_query(query)))

    def patch(self, path: str, body: Any = None) -> Any:
        return self._answer(self.request("PATCH", path, json=body))

    def delete(self, path: str, **query: Any) -> Any:
        return self._answer(self.request("DELETE", path, params=_query(query)))

    def items(self, path: str, *, most: int | None = None, **query: Any) -> Iterator[dict[str, Any]]:
        """Every item of a list, page after page, at most `most` of them."""
        cursor, seen = "", 0
        while True:
            limit = min(500, most - seen) if most is not None else 500
            page = self.get(path, limit=limit, cursor=cursor, **query)
            for item in page["items"]:
                yield item
                seen += 1
                if most is not None and seen >= most:
                    return
            cursor = page["next"]
            if not cursor:
                return

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        """The bare response, of a success or a problem.

        Raises:
            Unavailable: nobody answers there.
        """
        try:
            return self._http.request(method, path, **arguments)
        except httpx.TransportError as error:
            reason = str(error) or type(error).__name__
            raise Unavailable(
                f"No Narf answers at {self.url} ({reason}).", remedy="Start it with: narf up. Or name another with NARF_URL."
            ) from error
        except ValueError as error:
            if "JSON" not in str(error):
                raise
            raise errors.BadInput("A number that was given is infinite or no number (nan).", remedy="Give a finite one.") from error

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self.close()

    def _answer(self, response: httpx.Response) -> Any:
        if response.is_success:
            return response.json() if response.content else None
        raise problem(response)


def problem(response: httpx.Response) -> NarfError:
    """The error that a problem+json response says."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    body = body if isinstance(body, dict) else {}
    sentence = str(body.get("detail") or f"The server answered {response.status_code}.")
    kind = _ERRORS.get(response.status_code, errors.BadInput if response.status_code < 500 else NarfError)
    if response.status_code == 404:
        error: NarfError = errors.NotFound("thing", response.url.path)
        error.sentence = sentence
        error.remedy = str(body.get("remedy", ""))
    elif kind is errors.LimitReached:
        retry = response.headers.get("retry-after", "")
        error = errors.LimitReached(
            sentence, remedy=str(body.get("remedy", "")), retry_after_seconds=float(retry) if retry.isdigit() else None
        )
    else:
        error = kind(sentence, remedy=str(body.get("remedy", "")), field=body.get("field"))
    error.args = (f"{error.sentence} {error.remedy}".strip(),)
    error.code = str(body.get("code", error.code))
    return error


def home() -> Path:
    return Path(os.environ.get("NARF_HOME") or Path.home() / ".narf").expanduser().absolute()


def context_file() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "narf" / "context.json"


def find_server() -> tuple[str, str] | None:
    """(url, token) of the platform that this user works with; None: nothing was started or chosen."""
    if url := os.environ.get("NARF_URL"):
        return url, os.environ.get("NARF_TOKEN", "")
    places = [home() / "run" / "server.json"]
    if not os.environ.get("NARF_HOME"):
        places.insert(0, context_file())
    for place in places:
        try:
            known = json.loads(place.read_text())
            return str(known["url"]), os.environ.get("NARF_TOKEN") or str(known.get("token", ""))
        except FileNotFoundError:
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise errors.BadInput(f"{place} is damaged ({error}).", remedy="Delete it, then: narf up") from error
    return None


def connect(url: str | None = None, token: str | None = None) -> Connection:
    """A connection to the platform that is up.

    Raises:
        Unavailable: none was started or chosen.
    """
    if url is not None:
        return Connection(url, token or "")
    found = find_server()
    if found is None:
        raise Unavailable("No Narf is running here.", remedy="Start it: narf up")
    if not found[1] and not token:
        raise NotSignedIn(f"There is no token for {found[0]}.", remedy="Set NARF_TOKEN, or: narf login URL")
    return Connection(found[0], token or found[1])


def default_project() -> str:
    return os.environ.get("NARF_PROJECT") or "default"


def _query(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ""}
