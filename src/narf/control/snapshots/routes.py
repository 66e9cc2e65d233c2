"""HTTP of code snapshots."""

from __future__ import annotations

import tempfile

from anyio import to_thread
from fastapi import APIRouter, Request

from narf.control.access.rules import Rules, in_project
from narf.control.snapshots.service import MOST_BYTES, SnapshotFile, SnapshotService
from narf.domain.access import Role
from narf.domain.errors import LimitReached
from narf.wire.workloads import GitSnapshotIn, GitSnapshotOut, SnapshotCheck, SnapshotIn, SnapshotOut

RULES: Rules = {
    ("POST", "/api/v1/projects/{project}/snapshots/check"): in_project(Role.DEVELOPER),
    ("PUT", "/api/v1/projects/{project}/objects/{sha256}"): in_project(Role.DEVELOPER),
    ("POST", "/api/v1/projects/{project}/snapshots"): in_project(Role.DEVELOPER),
    ("POST", "/api/v1/projects/{project}/snapshots/git"): in_project(Role.DEVELOPER),
}


def router(snapshots: SnapshotService) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/projects/{project}", tags=["snapshots"])

    @routes.post("/snapshots/check", response_model=SnapshotCheck)
    def check(project: str, body: SnapshotIn) -> SnapshotCheck:
        """Which contents of a folder must still be sent."""
        return SnapshotCheck(missing=snapshots.missing(_files(body)))

    @routes.put("/objects/{sha256}", status_code=204)
    async def put(project: str, sha256: str, request: Request) -> None:
        """Send the content of one file."""
        with tempfile.SpooledTemporaryFile(max_size=1 << 20) as file:
            size = 0
            async for block in request.stream():
                size += len(block)
                if size > MOST_BYTES:
                    raise LimitReached(
                        f"A file of a code snapshot has at most {MOST_BYTES / 1e6:,.0f} MB.", remedy="Give data with --data."
                    )
                file.write(block)
            file.seek(0)
            await to_thread.run_sync(snapshots.put, sha256, file)

    @routes.post("/snapshots", response_model=SnapshotOut, status_code=201)
    def create(project: str, body: SnapshotIn) -> SnapshotOut:
        """Make a snapshot of files whose contents are all here. The same files give the same id."""
        return SnapshotOut(id=snapshots.create(_files(body)))

    @routes.post("/snapshots/git", response_model=GitSnapshotOut, status_code=201)
    def from_git(project: str, body: GitSnapshotIn) -> GitSnapshotOut:
        """Make a snapshot of a git repository (http, https or ssh) at a branch, tag or commit. It is fetched now and kept."""
        made = snapshots.from_git(body.url, body.ref, body.folder)
        return GitSnapshotOut(id=made.id, commit=made.commit, url=made.url, paths=list(made.paths))

    return routes


def _files(body: SnapshotIn) -> list[SnapshotFile]:
    return [SnapshotFile(path=f.path, sha256=f.sha256, size=f.size, mode=f.mode) for f in body.files]
