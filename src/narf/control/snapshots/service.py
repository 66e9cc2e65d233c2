"""Code snapshots: what was submitted is what runs, even if the folder changes afterwards.

A snapshot is a manifest in the content-addressed store; its SHA-256 is its id. Clients send only the files that the
store does not have yet.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, BinaryIO, cast

from narf.control.hosts import Hosts
from narf.control.snapshots import git
from narf.data.objects import ObjectStore
from narf.domain.errors import BadInput, LimitReached, NotFound

MOST_FILES = 20_000
MOST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFile:
    """`path` is relative, with '/' between its parts; `mode` are the permission bits."""

    path: str
    sha256: str
    size: int
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class FromGit:
    """A snapshot that came from a repository: at which commit, with which files."""

    id: str
    commit: str
    url: str
    paths: tuple[str, ...]


class SnapshotService:
    """hosts: where code may be fetched from."""

    def __init__(self, objects: ObjectStore, hosts: Hosts = Hosts()) -> None:
        self._objects, self._hosts = objects, hosts

    def missing(self, files: Sequence[SnapshotFile]) -> list[str]:
        """The digests that must be sent before `create` can succeed. The others are kept for it, however old they are."""
        self._check(files)
        return self._objects.touch(file.sha256 for file in files)

    def put(self, digest: str, stream: IO[bytes]) -> None:
        """Store one file's content.

        Raises:
            BadInput: the bytes are not those that `digest` names.
        """
        _check_digest(digest)
        if self._objects.put_stream(cast(BinaryIO, stream))[0] != digest:
            raise BadInput("The file changed while it was being sent.", remedy="Submit again.", code="digest_mismatch")

    def create(self, files: Sequence[SnapshotFile]) -> str:
        """The id of the snapshot of these files. Creating it twice gives the same id.

        Raises:
            BadInput: content is missing, or a path leaves the folder.
        """
        if missing := self.missing(files):
            raise BadInput(f"The content of {len(missing)} files was not sent.", remedy="Send it, then create the snapshot.")
        rows = [{"path": f.path, "sha256": f.sha256, "size": f.size, "mode": f.mode} for f in sorted(files, key=lambda f: f.path)]
        return self._objects.put(json.dumps({"files": rows}, separators=(",", ":")).encode())

    def from_git(
        self, url: str, ref: str = "", folder: str = "", *, limits: git.Limits = git.Limits(files=MOST_FILES, fetched_bytes=MOST_BYTES)
    ) -> FromGit:
        """The snapshot of a repository at `ref` ("": its default branch), or of one folder of it.

        Raises:
            BadInput: the address, the ref or the folder is wrong, or nothing is fetched from that host.
            LimitReached: the repository is too large, or does not come in time.
        """
        inside = folder.strip().strip("/")
        with git.fetched(url, ref, limits, self._hosts) as checkout:
            blobs = [blob for blob in checkout.blobs() if not inside or blob.path.startswith(inside + "/")]
            if not blobs:
                what = f"folder {inside[:200]!r}" if inside else "file"
                raise BadInput(f"The repository has no {what}.", remedy="Correct the folder.", field="folder", code="unknown_folder")
            files: list[SnapshotFile] = []

            def take(blob: git.Blob, stream: IO[bytes]) -> None:
                digest, size = self._objects.put_stream(cast(BinaryIO, stream))
                path = blob.path[len(inside) + 1 :] if inside else blob.path
                files.append(SnapshotFile(path=path, sha256=digest, size=size, mode=blob.mode))

            checkout.contents(blobs, take)
            return FromGit(self.create(files), checkout.commit, git.checked_url(url), tuple(sorted(file.path for file in files)))

    def files(self, snapshot: str) -> list[SnapshotFile]:
        _check_digest(snapshot)
        return [SnapshotFile(**row) for row in json.loads(self._objects.get(snapshot))["files"]]

    def read(self, snapshot: str, path: str) -> bytes:
        """The content of one file of a snapshot."""
        for file in self.files(snapshot):
            if file.path == path:
                return self._objects.get(file.sha256)
        raise NotFound("file", path)

    def content(self, file: SnapshotFile) -> bytes:
        return self._objects.get(file.sha256)

    def _check(self, files: Sequence[SnapshotFile]) -> None:
        total = sum(file.size for file in files)
        if len(files) > MOST_FILES or total > MOST_BYTES:
            raise LimitReached(
                f"The folder has {len(files):,} files and {total / 1e6:,.0f} MB; a code snapshot may have {MOST_FILES:,} and {MOST_BYTES / 1e6:,.0f}.",
                remedy="Name what is not code (data, checkpoints) in a .narfignore file, and give data with --data.",
            )
        seen: set[str] = set()
        for file in files:
            _check_digest(file.sha256)
            parts = file.path.split("/")
            if not file.path or file.path.startswith("/") or "\0" in file.path or any(part in ("", ".", "..") for part in parts):
                raise BadInput(f"The path {file.path[:200]!r} leaves the folder.", field="files", code="bad_path")
            if file.path in seen:
                raise BadInput(f"The path {file.path[:200]!r} stands twice.", field="files", code="bad_path")
            seen.add(file.path)


def _check_digest(digest: str) -> None:
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise BadInput("A digest is 64 hexadecimal digits (SHA-256).", field="sha256", code="bad_digest")
