"""Reads a folder of files for a dataset version: which files there are, and their bytes into the object store.

What was read before and has not been touched since is not read again: a `Seen` remembers the digest of each
file under its size, time, inode and change time.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from narf.data.manifest import FileEntry, check_path, shown_path
from narf.domain.errors import BadInput, LimitReached, Unavailable

_BLOCK = 1 << 20
_RACY_NS = 2_000_000_000  # a file younger than this when it was read may change within one tick of its clock


@dataclass(frozen=True, slots=True)
class Found:
    """A file below the folder: its path there, where its bytes are, and what the file system says of it."""

    path: str
    place: str
    status: os.stat_result


def scan(folder: Path, pattern: str = "") -> list[Found]:
    """The regular files below `folder` in order of path, or those whose relative path matches `pattern`.

    A symbolic link counts as the file it leads to, if that is inside the folder. Hidden files (.git, .DS_Store) count
    as all others: a version is what was in the folder.

    Raises:
        BadInput: there is no such folder, a name is not UTF-8, a link leads out of the folder or to a folder, or
            there is something that is no file.
    """
    root = os.path.realpath(folder)
    if not os.path.isdir(root):
        raise BadInput(f"There is no folder {str(folder)!r}.", remedy="Check the path.", field="path")
    found = [entry for entry in _walk(root, root, "") if not pattern or matches(entry.path, pattern)]
    if not found:
        what = f"Nothing in {str(folder)!r} matches {pattern!r}." if pattern else f"The folder {str(folder)!r} has no files."
        raise BadInput(what, remedy="Check the path and the pattern.", field="path")
    return sorted(found, key=lambda entry: entry.path)


def _walk(root: str, folder: str, prefix: str) -> Iterator[Found]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except PermissionError as error:
        raise BadInput(f"The folder {folder!r} may not be read.", remedy="Give read permission, or leave it out.") from error
    for entry in entries:
        path = prefix + entry.name
        check_path(path)
        if entry.is_symlink():
            yield _linked(root, path, entry.path)
        elif entry.is_dir(follow_symlinks=False):
            yield from _walk(root, entry.path, path + "/")
        elif entry.is_file(follow_symlinks=False):
            yield Found(path, entry.path, entry.stat(follow_symlinks=False))
        else:
            raise BadInput(f"{path!r} is neither a file nor a folder.", remedy="Remove it, or choose files with a pattern.")


def _linked(root: str, path: str, place: str) -> Found:
    target = os.path.realpath(place)
    if not target.startswith(root + os.sep):
        raise BadInput(
            f"The link {path!r} leads out of the folder, to {shown_path(target)}.",
            remedy="Copy the file into the folder, or remove the link.",
            code="link_outside",
        )
    if not os.path.exists(target):
        raise BadInput(f"The link {path!r} leads nowhere.", remedy="Remove it, or restore its target.", code="link_broken")
    if not os.path.isfile(target):
        raise BadInput(f"The link {path!r} leads to a folder.", remedy="Copy the folder instead of linking it.", code="link_to_folder")
    return Found(path, target, os.stat(target))


def matches(path: str, pattern: str) -> bool:
    """As in a shell: `*` stays inside a folder, `**` does not; a pattern without "/" matches the name at any depth."""
    if "/" not in pattern:
        return fnmatchcase(path.rpartition("/")[2], pattern)
    return _parts_match(path.split("/"), pattern.split("/"))


def _parts_match(parts: list[str], patterns: list[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_parts_match(parts[skip:], patterns[1:]) for skip in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _parts_match(parts[1:], patterns[1:])


class Seen:
    """Digests of files as they were last read, kept in one small file beside the cache. Losing it costs time only."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = {}
        self._new: dict[str, list[int | str]] = {}
        if path is not None and path.exists():
            try:
                self._known = json.loads(path.read_bytes())
            except ValueError:
                self._known = {}  # torn by a kill: everything is read again

    def digest_of(self, found: Found) -> str | None:
        known = self._known.get(found.place)
        if known is None or known[:-1] != _fingerprint(found.status):
            return None
        self._new[found.place] = known
        return str(known[-1])

    def remember(self, found: Found, digest: str, now_ns: int) -> None:
        if now_ns - max(found.status.st_mtime_ns, found.status.st_ctime_ns) > _RACY_NS:
            self._new[found.place] = [*_fingerprint(found.status), digest]

    def save(self) -> None:
        """Keep what this pass saw, and nothing older."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(self._new, separators=(",", ":")))
        os.replace(temporary, self._path)


def _fingerprint(status: os.stat_result) -> list[int | str]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def read_whole(found: Found, take: Callable[[bytes], object]) -> tuple[str, int]:
    """Give the bytes of a file to `take`, block by block; their SHA-256 and count.

    Raises:
        BadInput: the file was changed while it was read, or may not be read.
    """
    hasher, size = hashlib.sha256(), 0
    try:
        descriptor = os.open(found.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(found, error) from error
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        if not _same(os.fstat(file.fileno()), found.status):
            raise changed_while_read(found.path)
        while block := file.read(_BLOCK):
            hasher.update(block)
            take(block)
            size += len(block)
            if size > found.status.st_size:
                break  # it grows: perhaps faster than we read
        if size != found.status.st_size or not _same(os.fstat(file.fileno()), found.status):
            raise changed_while_read(found.path)
    return hasher.hexdigest(), size


def changed_while_read(path: str) -> BadInput:
    return BadInput(
        f"The file {path!r} was changed while it was being read.",
        remedy="Let the writer finish, then import again.",
        code="changed_while_read",
    )


def _unreadable(found: Found, error: OSError) -> BadInput:
    if error.errno in (errno.ENOENT, errno.ELOOP):
        return changed_while_read(found.path)
    return BadInput(f"The file {found.path!r} cannot be read: {error.strerror}.", remedy="Give read permission, or leave it out.")


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return _fingerprint(one) == _fingerprint(other) and stat.S_ISREG(one.st_mode)


def no_space(error: OSError, where: Path) -> LimitReached | Unavailable:
    """What to tell a person when writing below `where` failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return LimitReached(
            f"The disk that holds {str(where)!r} is full; nothing of this import was kept.",
            remedy="Free some space (narf data gc), then import again: it goes on where it stopped.",
        )
    return Unavailable(f"Writing below {str(where)!r} failed: {error.strerror}.", remedy="Check the disk, then import again.")


def entry_of(found: Found, digest: str) -> FileEntry:
    return FileEntry(found.path, found.status.st_size, digest)
