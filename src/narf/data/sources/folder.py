"""A folder on the platform's machine (a mounted share) as a source."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from narf.data.folder import Found, scan
from narf.data.sources.connector import FILES, Lacking, RemoteFile, RemoteStream, gone
from narf.domain.errors import BadInput


class FolderConnector(Lacking):
    abilities = frozenset({FILES})

    def __init__(self, name: str, options: Mapping[str, str], _secrets: Mapping[str, str]) -> None:
        self.name, self._root = name, Path(options["path"])

    def test(self) -> str:
        return f"{sum(1 for _ in self.list_files()):,} files are there."

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        if not self._root.is_dir():
            raise gone(self.name, f"folder {str(self._root)!r}")
        wanted = path.strip("/")
        try:
            inside = scan(self._root)
        except BadInput as error:
            raise BadInput(f"The source {self.name!r}: {error.sentence}", remedy=error.remedy, code=error.code) from error
        found = [_remote(one) for one in inside if not wanted or one.path == wanted or one.path.startswith(wanted + "/")]
        if wanted and not found:
            raise gone(self.name, f"files below {wanted!r}")
        return iter(found)

    def stat(self, path: str) -> RemoteFile:
        place = self._inside(path)
        status = place.stat()
        return _remote(Found(path, str(place), status))

    @contextmanager
    def open(self, path: str) -> Iterator[RemoteStream]:
        with self._inside(path).open("rb") as stream:
            yield cast(RemoteStream, stream)

    def _inside(self, path: str) -> Path:
        root = self._root.resolve()
        place = (root / path).resolve()
        if not place.is_relative_to(root):
            raise BadInput(f"{path!r} leads out of the source {self.name!r}.", remedy="Name a file inside it.", code="link_outside")
        if not place.is_file():
            raise gone(self.name, f"file {path!r}")
        return place


def _remote(found: Found) -> RemoteFile:
    status = found.status
    mark = f"{status.st_mtime_ns}-{status.st_ctime_ns}-{status.st_ino}"
    return RemoteFile(found.path, status.st_size, mark, datetime.fromtimestamp(status.st_mtime, UTC))
