"""Errors as HTTP says them: application/problem+json. The only place that knows status codes of errors."""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from narf.domain import errors

_STATUS: dict[type[errors.NarfError], tuple[int, str]] = {
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Conflict"),
    errors.BadInput: (422, "Bad input"),
    errors.NotSignedIn: (401, "Not signed in"),
    errors.NotAllowed: (403, "Not allowed"),
    errors.LimitReached: (429, "Limit reached"),
    errors.Unavailable: (503, "Unavailable"),
    errors.MissingExtra: (501, "Not installed"),
}


def problem_of(error: errors.NarfError) -> tuple[int, dict[str, Any]]:
    """The status code and the body that say `error`."""
    status, title = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), (500, "Our mistake"))
    return status, {
        "type": "about:blank",
        "title": title,
        "status": status,
        "code": error.code,
        "detail": error.sentence,
        "remedy": error.remedy,
        "field": error.field,
    }


def response_of(error: errors.NarfError) -> Response:
    status, body = problem_of(error)
    headers = {}
    if isinstance(error, errors.NotSignedIn):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, errors.LimitReached) and error.retry_after_seconds is not None:
        headers["Retry-After"] = str(max(1, round(error.retry_after_seconds)))
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = "5"
    return Response(json.dumps(body), status, headers, "application/problem+json")


async def send_problem(error: errors.NarfError, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request that no handler saw. A WebSocket is closed with code 4000 + status."""
    if scope["type"] == "websocket":
        status, _ = problem_of(error)
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status, "reason": error.sentence[:120]})
        return
    await response_of(error)(scope, receive, send)
