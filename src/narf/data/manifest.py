"""The manifest of a dataset version: which files it consists of, and how two versions differ.

The id of a version is the hash of its content alone (paths, sizes, digests), so the same content has
the same id wherever and however often it is imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from narf.domain.errors import BadInput

_DIGEST = re.compile(r"[0-9a-f]{64}")


class FileEntry(NamedTuple):
    """One file of a version. `rows` where it is part of the version's table.

    A tuple, because a version may have a hundred thousand: a frozen dataclass takes five times as long to make.
    """

    path: str
    size: int
    sha256: str
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a version, sorted by path."""

    files: tuple[FileEntry, ...]

    @property
    def id(self) -> str:
        hasher = hashlib.sha256(b"narf.dataset.v1\n")
        for entry in self.files:
            hasher.update(f"{entry.sha256} {entry.size} {entry.path}\0".encode())
        return hasher.hexdigest()

    @property
    def size_bytes(self) -> int:
        return sum(entry.size for entry in self.files)

    @property
    def rows(self) -> int | None:
        counted = [entry.rows for entry in self.files if entry.rows is not None]
        return sum(counted) if counted else None

    def to_json(self) -> bytes:
        rows = [[e.path, e.size, e.sha256] if e.rows is None else [e.path, e.size, e.sha256, e.rows] for e in self.files]
        return json.dumps({"format": "narf.dataset.v1", "files": rows}, ensure_ascii=False, separators=(",", ":")).encode()


def read_manifest(data: bytes) -> Manifest:
    """The manifest that `to_json` wrote.

    Raises:
        BadInput: it is none, or names a file outside its folder.
    """
    try:
        document = json.loads(data)
        files = [FileEntry(*row) for row in document["files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("This is not a manifest of a dataset version.", remedy="Import the data again.") from error
    return make_manifest(files)


def make_manifest(files: Iterable[FileEntry]) -> Manifest:
    """The manifest of `files`, in any order.

    Raises:
        BadInput: there is none, two have one path, one is also a folder of another, or a path leads out of the folder.
    """
    entries = tuple(sorted(files, key=lambda entry: entry.path))
    if not entries:
        raise BadInput("There are no files to make a version of.", remedy="Check the path: the folder is empty, or nothing matches.")
    for entry in entries:
        check_path(entry.path)
        if not isinstance(entry.size, int) or entry.size < 0 or not _DIGEST.fullmatch(str(entry.sha256)):
            raise BadInput(f"The entry of {entry.path!r} has no valid size and SHA-256.", field="files")
    check_apart(entry.path for entry in entries)
    return Manifest(entries)


def check_apart(paths: Iterable[str]) -> None:
    """Raises BadInput: two of these paths are the same, or one is also a folder of another."""
    seen: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        if path in seen:
            raise BadInput(f"Two files are named {path!r}.", remedy="A path may stand once in a version.", field="files", code="path_twice")
        seen.add(path)
        parent = path.rpartition("/")[0]
        while parent and parent not in folders:
            folders.add(parent)
            parent = parent.rpartition("/")[0]
    if both := seen & folders:
        raise BadInput(f"{min(both)!r} is a file and a folder at once.", field="files", code="path_twice")


def check_path(path: str) -> str:
    """`path`, if it names a file below a folder on every file system.

    Raises:
        BadInput: it is absolute, leads upwards, is too long or not UTF-8.
    """
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise BadInput(
            f"The file name {shown_path(path)} is not valid UTF-8.", remedy="Rename the file, then import again.", code="bad_path"
        ) from error
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise BadInput(f"{path[:200]!r} does not lead to a file inside the dataset.", remedy="Use relative paths.", code="bad_path")
    if size > 4000 or (size > 255 and any(len(part.encode()) > 255 for part in parts)):
        raise BadInput(f"The path {path[:80]!r}… is too long.", remedy="A name has at most 255 bytes, a path 4,000.", code="bad_path")
    return path


def shown_path(path: str) -> str:
    """`path` so that it can be printed, whatever bytes it has."""
    return repr(path.encode("utf-8", "surrogateescape"))[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChanges:
    added: tuple[FileEntry, ...]
    removed: tuple[FileEntry, ...]
    changed: tuple[tuple[FileEntry, FileEntry], ...]  # (before, after)
    unchanged: int


def compare(before: Manifest, after: Manifest) -> FileChanges:
    """What happened to the files from `before` to `after`."""
    old = {entry.path: entry for entry in before.files}
    new = {entry.path: entry for entry in after.files}
    changed = tuple((old[path], entry) for path, entry in new.items() if path in old and old[path].sha256 != entry.sha256)
    added = tuple(entry for path, entry in new.items() if path not in old)
    removed = tuple(entry for path, entry in old.items() if path not in new)
    return FileChanges(added=added, removed=removed, changed=changed, unchanged=len(new) - len(added) - len(changed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the platform knows of a version's content beyond its files. All of it is plain JSON data.

    kind: "table" if its tabular files share one schema, else "files".
    schema: [{"name", "type", "nullable"}] of a table. statistics: by column, see `narf.data.statistics`.
    """

    kind: str = "files"
    format: str = ""  # of the tabular files: parquet, csv, arrow
    schema: tuple[Mapping[str, Any], ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
