"""The caller of a request, as a FastAPI dependency. The access middleware put it there."""

from __future__ import annotations

from fastapi import Request

from narf.domain.access import Principal


def caller(request: Request) -> Principal:
    principal: Principal = request.state.principal
    return principal
