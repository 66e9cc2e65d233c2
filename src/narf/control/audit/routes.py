"""HTTP of the audit log."""

from __future__ import annotations

from fastapi import APIRouter, Query

from narf.control.access.rules import ADMIN, Rules, in_project
from narf.control.audit import store
from narf.control.database import Database
from narf.domain.access import Role
from narf.wire.access import AuditEntry
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor

RULES: Rules = {
    ("GET", "/api/v1/audit"): ADMIN,
    ("GET", "/api/v1/projects/{project}/audit"): in_project(Role.MAINTAINER),
}


def router(database: Database) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["audit"])

    @routes.get("/audit", response_model=Page[AuditEntry])
    def everything(limit: Limit = 50, cursor: str = Query("", max_length=500)) -> Page[AuditEntry]:
        """Every change, newest first."""
        return _page(None, limit, cursor)

    @routes.get("/projects/{project}/audit", response_model=Page[AuditEntry])
    def of_project(project: str, limit: Limit = 50, cursor: str = Query("", max_length=500)) -> Page[AuditEntry]:
        """The changes in one project, newest first."""
        return _page(project, limit, cursor)

    def _page(project: str | None, limit: int, cursor: str) -> Page[AuditEntry]:
        before = int(decode_cursor(cursor, 1)[0]) if cursor else None
        with database.read() as connection:
            found = store.list_entries(connection, project=project, before=before, limit=limit + 1)
        items = [
            AuditEntry(id=e.id, created_at=e.at, who=e.who, action=e.action, kind=e.kind, name=e.name, project=e.project, detail=e.detail)
            for e in found[:limit]
        ]
        return Page(items=items, next=encode_cursor(items[-1].id) if len(found) > limit else None)

    return routes
