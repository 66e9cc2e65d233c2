"""HTTP of retention: disk use, and the collection of what is no longer kept."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel

from narf.control.access.rules import ADMIN, SIGNED_IN, Rules
from narf.control.retention.service import RetentionService

RULES: Rules = {("GET", "/api/v1/disk"): SIGNED_IN, ("POST", "/api/v1/gc"): ADMIN}


class DiskOut(BaseModel):
    parts: dict[str, int]
    free_bytes: int
    total_bytes: int
    warnings: list[str]


class SweptOut(BaseModel):
    deleted: dict[str, int]
    freed_bytes: int
    dry_run: bool


def router(retention: RetentionService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["retention"])

    @routes.get("/disk", response_model=DiskOut)
    def disk() -> DiskOut:
        """What the platform keeps on this disk, and what is left of it."""
        return DiskOut(**asdict(retention.disk()))

    @routes.post("/gc", response_model=SweptOut)
    def sweep(dry_run: bool = False) -> SweptOut:
        """Delete what the retention policy no longer keeps; with `dry_run`, only say what that would be."""
        return SweptOut(**asdict(retention.sweep(dry_run=dry_run)))

    return routes
