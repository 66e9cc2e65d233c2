"""HTTP of datasets and their versions."""

from __future__ import annotations

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import FileResponse

from narf.control.access.caller import caller
from narf.control.access.rules import ADMIN, Rules, in_project
from narf.control.data.intake import Intake
from narf.control.data.lineage import Direction, Graph, Lineage, Node, NodeKind
from narf.control.data.service import DatasetService
from narf.control.data.store import DatasetVersion
from narf.data.manifest import FileEntry
from narf.data.reference import Reference, parse_reference
from narf.domain.access import Principal, Role
from narf.domain.errors import NotAllowed
from narf.wire.data import (
    ColumnOut,
    DatasetChange,
    DatasetOut,
    DiffOut,
    EdgeOut,
    FileOut,
    FolderOut,
    GcOut,
    LineageOut,
    NodeOut,
    ObjectsIn,
    ObjectsMissing,
    PreviewOut,
    ReadIn,
    TagIn,
    VerifyOut,
    VersionIn,
    VersionOut,
    VersionRow,
)
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor

_P = "/api/v1/projects/{project}"
_D = _P + "/datasets/{name}"
_V = _D + "/versions/{version}"
_see = in_project(Role.VIEWER, workload_may=True)
_make = in_project(Role.DEVELOPER, workload_may=True)
RULES: Rules = {
    ("POST", _P + "/data/missing"): _make,
    ("PUT", _P + "/data/objects"): _make,
    ("GET", _P + "/datasets"): _see,
    ("GET", _D): _see,
    ("PATCH", _D): in_project(Role.DEVELOPER),
    ("GET", _D + "/versions"): _see,
    ("POST", _D + "/versions"): _make,
    ("GET", _V): _see,
    ("DELETE", _V): in_project(Role.MAINTAINER),
    ("GET", _V + "/files"): _see,
    ("GET", _V + "/files/{path:path}"): _see,
    ("GET", _V + "/preview"): _see,
    ("POST", _V + "/folder"): _see,
    ("POST", _V + "/reads"): _see,
    ("POST", _V + "/verify"): in_project(Role.DEVELOPER),
    ("GET", _D + "/diff"): _see,
    ("PUT", _D + "/tags/{tag}"): in_project(Role.DEVELOPER),
    ("DELETE", _D + "/tags/{tag}"): in_project(Role.DEVELOPER),
    ("GET", _P + "/lineage"): in_project(Role.VIEWER),
    ("POST", "/api/v1/data/gc"): ADMIN,
}
_BLOCK = 1 << 20


def router(datasets: DatasetService, lineage: Lineage) -> APIRouter:
    routes = APIRouter(tags=["data"])
    _upload_routes(routes, datasets)
    _dataset_routes(routes, datasets)
    _version_routes(routes, datasets)

    @routes.get(_P + "/lineage", response_model=LineageOut)
    def show_lineage(
        project: str, kind: NodeKind, id: str, direction: Direction = Direction.BOTH, depth: int = Query(10, ge=1, le=50)
    ) -> LineageOut:
        """What the object came from and what came of it, as a graph."""
        return _graph(lineage.graph(project, Node(kind, id), direction, depth=depth))

    @routes.post("/api/v1/data/gc", response_model=GcOut)
    def gc(dry_run: bool = False) -> GcOut:
        """Delete what no version needs any more."""
        return GcOut(**datasets.gc(dry_run=dry_run), dry_run=dry_run)

    return routes


def _upload_routes(routes: APIRouter, datasets: DatasetService) -> None:
    @routes.post(_P + "/data/missing", response_model=ObjectsMissing)
    def missing(project: str, body: ObjectsIn) -> ObjectsMissing:
        """Which contents must still be sent."""
        return ObjectsMissing(missing=datasets.missing(body.sha256))

    @routes.put(_P + "/data/objects")
    async def put_objects(project: str, request: Request) -> dict[str, int]:
        """Send contents, many in one stream: each its SHA-256 (64 hex digits), its size (16 hex digits) and its bytes."""
        intake, gathered = Intake(datasets.objects), bytearray()
        try:
            async for block in request.stream():
                gathered += block
                if len(gathered) >= _BLOCK:
                    await to_thread.run_sync(intake.feed, bytes(gathered))
                    gathered.clear()
            await to_thread.run_sync(intake.feed, bytes(gathered))
            return {"stored": await to_thread.run_sync(intake.finish)}
        finally:
            await to_thread.run_sync(intake.close)


def _dataset_routes(routes: APIRouter, datasets: DatasetService) -> None:
    @routes.get(_P + "/datasets", response_model=Page[DatasetOut])
    def list_datasets(project: str, limit: Limit = 50, cursor: str = "", search: str = "") -> Page[DatasetOut]:
        after = str(decode_cursor(cursor, 1)[0]) if cursor else ""
        found = datasets.datasets(project, after=after, limit=limit + 1, text=search)
        items = [_dataset(datasets, project, one.name) for one in found[:limit]]
        return Page(items=items, next=encode_cursor(found[limit - 1].name) if len(found) > limit else None)

    @routes.get(_D, response_model=DatasetOut)
    def show_dataset(project: str, name: str) -> DatasetOut:
        return _dataset(datasets, project, name)

    @routes.patch(_D, response_model=DatasetOut)
    def change_dataset(project: str, name: str, body: DatasetChange, principal: Principal = Depends(caller)) -> DatasetOut:
        datasets.describe(project, name, body.description, by=principal.user)
        return _dataset(datasets, project, name)

    @routes.get(_D + "/versions", response_model=Page[VersionRow])
    def list_versions(project: str, name: str, limit: Limit = 50, cursor: str = "", removed: bool = False) -> Page[VersionRow]:
        before = int(decode_cursor(cursor, 1)[0]) if cursor else None
        found = datasets.versions(project, name, before=before, limit=limit + 1, removed=removed)
        return Page(
            items=[version_row(one) for one in found[:limit]], next=encode_cursor(found[limit - 1].number) if len(found) > limit else None
        )

    @routes.post(_D + "/versions", response_model=VersionOut, status_code=201)
    def publish(project: str, name: str, body: VersionIn, principal: Principal = Depends(caller)) -> VersionOut:
        """Make a version of files whose contents were sent. The same content as the latest version gives that version."""
        run = body.run_id or principal.run_id
        if principal.run_id is not None and run != principal.run_id:
            raise NotAllowed("A run may speak for itself only.", remedy="Leave run_id out.")
        made = datasets.publish(
            project,
            name,
            [FileEntry(file.path, file.size, file.sha256) for file in body.files],
            by=principal.user,
            provenance=body.provenance,
            tags=body.tags,
            checks=[check.model_dump() for check in body.checks],
            description=body.description,
            edges=[Node(NodeKind.RUN, run)] if run else [],
        )
        return version_out(made.version, created=made.created)

    @routes.get(_D + "/diff", response_model=DiffOut)
    def diff(project: str, name: str, before: str, after: str = "latest", key: list[str] = Query(default=[])) -> DiffOut:
        """What changed between two versions. With `key` columns, rows are matched by them."""
        found = datasets.diff(project, Reference(name, before), _other(name, after), key=key)
        return DiffOut(**{**found, "before": version_row(found["before"]), "after": version_row(found["after"])})

    @routes.put(_D + "/tags/{tag}", response_model=VersionOut)
    def set_tag(project: str, name: str, tag: str, body: TagIn, principal: Principal = Depends(caller)) -> VersionOut:
        """Move a tag to a version."""
        return version_out(datasets.tag(project, name, tag, body.version, by=principal.user))

    @routes.delete(_D + "/tags/{tag}", status_code=204)
    def remove_tag(project: str, name: str, tag: str, principal: Principal = Depends(caller)) -> None:
        datasets.untag(project, name, tag, by=principal.user)


def _version_routes(routes: APIRouter, datasets: DatasetService) -> None:
    def find(project: str, name: str, version: str) -> DatasetVersion:
        return datasets.version(project, _other(name, version))

    @routes.get(_V, response_model=VersionOut)
    def show_version(project: str, name: str, version: str) -> VersionOut:
        """`version` is v3, latest, a tag, or the beginning of the id."""
        return version_out(find(project, name, version))

    @routes.delete(_V, status_code=204)
    def remove_version(project: str, name: str, version: str, principal: Principal = Depends(caller)) -> None:
        datasets.remove(project, _other(name, version), by=principal.user)

    @routes.get(_V + "/files", response_model=Page[FileOut])
    def list_files(project: str, name: str, version: str, limit: int = Query(500, ge=1, le=100_000), cursor: str = "") -> Page[FileOut]:
        start = int(decode_cursor(cursor, 1)[0]) if cursor else 0
        files = datasets.manifest(find(project, name, version)).files
        some = [_file(entry) for entry in files[start : start + limit]]
        return Page(items=some, next=encode_cursor(start + limit) if start + limit < len(files) else None)

    @routes.get(_V + "/files/{path:path}")
    def get_file(project: str, name: str, version: str, path: str) -> FileResponse:
        """The bytes of one file; ranges are understood."""
        entry, place = datasets.file(find(project, name, version), path)
        headers = {"ETag": f'"{entry.sha256}"', "X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox"}
        return FileResponse(place, media_type="application/octet-stream", filename=path.rpartition("/")[2], headers=headers)

    @routes.get(_V + "/preview", response_model=PreviewOut)
    def preview(project: str, name: str, version: str, limit: int = Query(20, ge=1, le=500)) -> PreviewOut:
        """The first rows of a table, the first files of any."""
        found = find(project, name, version)
        files = [_file(entry) for entry in datasets.manifest(found).files[:limit]]
        return PreviewOut(columns=_columns(found), rows=datasets.preview(found, limit), total_rows=found.rows, files=files)

    @routes.post(_V + "/folder", response_model=FolderOut)
    def place(project: str, name: str, version: str) -> FolderOut:
        """Place the files as a read-only folder on the platform's machine, for programs that run there."""
        return FolderOut(folder=datasets.folder_for(project, find(project, name, version).name))

    @routes.post(_V + "/reads", status_code=204)
    def record_read(project: str, name: str, version: str, body: ReadIn, principal: Principal = Depends(caller)) -> None:
        if principal.run_id is not None and body.run_id != principal.run_id:
            raise NotAllowed("A run may speak for itself only.", remedy="Send its own run_id.")
        datasets.record_read(find(project, name, version), body.run_id)

    @routes.post(_V + "/verify", response_model=VerifyOut)
    def verify(project: str, name: str, version: str) -> VerifyOut:
        """Read every byte again and compare with the digests."""
        found = find(project, name, version)
        return VerifyOut(files=found.files, size_bytes=found.size_bytes, damaged=datasets.verify(found))


def _other(name: str, selector: str) -> Reference:
    return parse_reference(f"{name}@{selector}")


def _dataset(datasets: DatasetService, project: str, name: str) -> DatasetOut:
    found = datasets.dataset(project, name)
    count, latest, tags = datasets.summary(project, name)
    return DatasetOut(
        id=found.name,
        project=found.project,
        name=found.name,
        description=found.description,
        versions=count,
        latest=version_row(latest) if latest else None,
        tags={tag: f"v{number}" for tag, number in tags.items()},
        created_by=found.created_by,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )


def version_row(version: DatasetVersion) -> VersionRow:
    return VersionRow(
        id=version.id,
        dataset=version.dataset,
        version=f"v{version.number}",
        number=version.number,
        kind=version.kind,
        files=version.files,
        rows=version.rows,
        size_bytes=version.size_bytes,
        tags=list(version.tags),
        created_by=version.created_by,
        created_at=version.created_at,
        removed_at=version.removed_at,
    )


def version_out(version: DatasetVersion, *, created: bool | None = None) -> VersionOut:
    return VersionOut(
        **version_row(version).model_dump(),
        project=version.project,
        format=version.format,
        columns=_columns(version),
        statistics=dict(version.statistics),
        provenance=dict(version.provenance),
        checks=[dict(check) for check in version.checks],
        iceberg=dict(version.iceberg) if version.iceberg else None,
        created=created,
    )


def _columns(version: DatasetVersion) -> list[ColumnOut]:
    return [ColumnOut(**column) for column in version.columns]


def _file(entry: FileEntry) -> FileOut:
    return FileOut(path=entry.path, size=entry.size, sha256=entry.sha256, rows=entry.rows)


def _graph(graph: Graph) -> LineageOut:
    return LineageOut(
        nodes=[NodeOut(kind=node.kind, id=node.id, label=node.id.rpartition("/")[2]) for node in graph.nodes],
        edges=[
            EdgeOut(source=str(edge.source), target=str(edge.target), relation=edge.relation, created_at=edge.created_at)
            for edge in graph.edges
            if edge.created_at is not None
        ],
        truncated=graph.truncated,
    )
