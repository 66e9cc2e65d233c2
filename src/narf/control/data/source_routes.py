"""HTTP of sources and imports."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends

from narf.control.access.caller import caller
from narf.control.access.rules import SIGNED_IN, Rules, in_project, of
from narf.control.data.sources import DataSource, Import, Request, SourceService
from narf.data.sources.connector import Selection
from narf.data.sources.opening import all_kinds
from narf.domain.access import Principal, Role
from narf.wire.data import (
    ColumnOut,
    ImportIn,
    ImportOut,
    SelectionIn,
    SourceIn,
    SourceOut,
    SourcePreviewIn,
    SourcePreviewOut,
    SourceTestOut,
)
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor

_P = "/api/v1/projects/{project}"
RULES: Rules = {
    ("GET", "/api/v1/source-kinds"): SIGNED_IN,
    ("GET", _P + "/sources"): in_project(Role.VIEWER),
    ("GET", _P + "/sources/{name}"): in_project(Role.VIEWER),
    ("PUT", _P + "/sources/{name}"): in_project(Role.MAINTAINER),
    ("DELETE", _P + "/sources/{name}"): in_project(Role.MAINTAINER),
    ("POST", _P + "/sources/{name}/test"): in_project(Role.DEVELOPER),
    ("POST", _P + "/sources/{name}/preview"): in_project(Role.DEVELOPER),
    ("POST", _P + "/datasets/{name}/imports"): in_project(Role.DEVELOPER),
    ("GET", _P + "/imports"): in_project(Role.VIEWER),
    ("GET", "/api/v1/imports/{import}"): of("import", Role.VIEWER),
    ("POST", "/api/v1/imports/{import}/cancel"): of("import", Role.DEVELOPER),
}


def router(sources: SourceService) -> APIRouter:
    routes = APIRouter(tags=["data"])

    @routes.get("/api/v1/source-kinds")
    def kinds() -> dict[str, list[dict[str, Any]]]:
        """The kinds of source that can be set up here, with their options; `tested`: our own tests run it."""
        found = sorted(all_kinds().items())
        return {
            "items": [
                {"kind": name, "required": kind.required, "optional": kind.optional, "tested": kind.tested, "for_admins": kind.for_admins}
                for name, kind in found
            ]
        }

    @routes.get(_P + "/sources", response_model=Page[SourceOut])
    def list_sources(project: str, limit: Limit = 50, cursor: str = "") -> Page[SourceOut]:
        found = sources.of_project(project, after=str(decode_cursor(cursor, 1)[0]) if cursor else "", limit=limit + 1)
        following = encode_cursor(found[limit - 1].name) if len(found) > limit else None
        return Page(items=[_source(source) for source in found[:limit]], next=following)

    @routes.get(_P + "/sources/{name}", response_model=SourceOut)
    def show_source(project: str, name: str) -> SourceOut:
        return _source(sources.source(project, name))

    @routes.put(_P + "/sources/{name}", response_model=SourceOut)
    def set_source(project: str, name: str, body: SourceIn, principal: Principal = Depends(caller)) -> SourceOut:
        """Set up a source. Its secrets are named, not given: "secret:NAME"."""
        return _source(sources.add(project, name, body.kind, body.options, by=principal, description=body.description))

    @routes.delete(_P + "/sources/{name}", status_code=204)
    def remove_source(project: str, name: str, principal: Principal = Depends(caller)) -> None:
        sources.remove(project, name, by=principal.user)

    @routes.post(_P + "/sources/{name}/test", response_model=SourceTestOut)
    def test_source(project: str, name: str) -> SourceTestOut:
        """Reach it with its credentials."""
        return SourceTestOut(ok=True, detail=sources.test(project, name))

    @routes.post(_P + "/sources/{name}/preview", response_model=SourcePreviewOut)
    def preview_source(project: str, name: str, body: SourcePreviewIn) -> SourcePreviewOut:
        """Schema, first rows and statistics of a selection, or what there is to select. Nothing is copied."""
        found = sources.preview(project, name, _selection(body), body.limit)
        return SourcePreviewOut(
            columns=[ColumnOut(**column) for column in found.columns],
            rows=found.rows,
            statistics=found.statistics,
            entries=found.entries,
            total_rows=found.total_rows,
        )

    @routes.post(_P + "/datasets/{name}/imports", response_model=ImportOut, status_code=202)
    def start_import(project: str, name: str, body: ImportIn, principal: Principal = Depends(caller)) -> ImportOut:
        """Import from a source in the background; ask for its state at /imports/{id}."""
        request = Request(
            selection=_selection(body), tags=body.tags, checks=[check.model_dump() for check in body.checks], same_schema=body.same_schema
        )
        return _import(sources.start(project, name, body.source, request, by=principal.user))

    @routes.get(_P + "/imports", response_model=Page[ImportOut])
    def list_imports(project: str, limit: Limit = 50, dataset: str = "") -> Page[ImportOut]:
        """The newest first."""
        return Page(items=[_import(one) for one in sources.imports_of(project, limit=limit, dataset=dataset)])

    _import_routes(routes, sources)
    return routes


def _import_routes(routes: APIRouter, sources: SourceService) -> None:
    """Of one import. (The path parameter is a keyword of Python, so it is read from the request.)"""
    from fastapi import Path

    @routes.get("/api/v1/imports/{import}", response_model=ImportOut)
    def show_import(import_id: str = Path(alias="import")) -> ImportOut:
        return _import(sources.find_import(import_id))

    @routes.post("/api/v1/imports/{import}/cancel", response_model=ImportOut)
    def cancel_import(import_id: str = Path(alias="import"), principal: Principal = Depends(caller)) -> ImportOut:
        return _import(sources.cancel(import_id, by=principal.user))


def _selection(body: SelectionIn) -> Selection:
    return Selection(path=body.path, pattern=body.pattern, table=body.table, query=body.query)


def _source(source: DataSource) -> SourceOut:
    return SourceOut(
        id=source.name,
        project=source.project,
        name=source.name,
        kind=source.kind,
        options=dict(source.options),
        description=source.description,
        tested=source.tested,
        created_by=source.created_by,
        created_at=source.created_at,
    )


def _import(one: Import) -> ImportOut:
    return ImportOut(
        id=one.id,
        project=one.project,
        dataset=one.dataset,
        source=one.source,
        state=one.state.value,
        version=f"v{one.version}" if one.version else None,
        rows=one.rows,
        files=one.files,
        size_bytes=one.size_bytes,
        detail=one.detail,
        remedy=one.remedy,
        created_by=one.created_by,
        created_at=one.created_at,
        started_at=one.started_at,
        ended_at=one.ended_at,
    )
