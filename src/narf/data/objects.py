"""A content-addressed store of files: what is put in is named by its SHA-256 and never changes.

Code snapshots and dataset files live here. Putting the same bytes twice stores them once. An object
appears under its name by an atomic rename, so a kill at any moment leaves nothing half-visible.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from narf.domain.errors import NotFound

_BLOCK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{64}")


class ObjectStore:
    """Objects in `root`/ab/cdef..., read-only files."""

    def __init__(self, root: Path) -> None:
        self.root, self._root = root, str(root)
        self._incoming = root / "incoming"

    def put(self, data: bytes) -> str:
        """Store `data`; its SHA-256 in hex."""
        digest = hashlib.sha256(data).hexdigest()
        if self.touch([digest]):
            with self._new() as file:
                file.write(data)
                self.keep(file, digest)
        return digest

    def put_stream(self, stream: BinaryIO) -> tuple[str, int]:
        """Store what `stream` yields to its end; its SHA-256 in hex and its size in bytes."""
        hasher, size = hashlib.sha256(), 0
        with self._new() as file:
            while block := stream.read(_BLOCK):
                hasher.update(block)
                file.write(block)
                size += len(block)
            digest = hasher.hexdigest()
            self.keep(file, digest)
        return digest, size

    def put_from(self, read: Callable[[Callable[[bytes], object]], tuple[str, int]]) -> tuple[str, int]:
        """Store what `read` gives to the function it is called with. `read` returns the digest and size of all that;
        when it raises, nothing is kept."""
        with self._new() as file:
            digest, size = read(file.write)
            self.keep(file, digest)
        return digest, size

    @contextmanager
    def receive(self) -> Iterator[Incoming]:
        """An object that arrives in pieces. What is not kept by the end is gone."""
        with self._new() as file:
            yield Incoming(self, file)

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a copy of the file at `path`; its SHA-256 in hex and its size in bytes."""
        with path.open("rb") as stream:
            return self.put_stream(stream)

    def has(self, digest: str) -> bool:
        return os.path.exists(self._name(digest))

    def touch(self, digests: Iterable[str]) -> list[str]:
        """Mark these as wanted now, which keeps `sweep` away from them; those that are not here."""
        absent = []
        for digest in dict.fromkeys(digests):
            try:
                os.utime(self._name(digest))
            except FileNotFoundError:
                absent.append(digest)
        return absent

    def path(self, digest: str) -> Path:
        """The object as a local read-only file.

        Raises:
            NotFound: it is not here.
        """
        place = self._place(digest)
        if not place.exists():
            raise NotFound("object", digest)
        return place

    def get(self, digest: str) -> bytes:
        return self.path(digest).read_bytes()

    def is_intact(self, digest: str) -> bool:
        """Whether the object is here and its bytes still have its digest."""
        place = self._place(digest)
        if not place.exists():
            return False
        with place.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest

    def discard(self, digest: str) -> None:
        """Forget an object, because it is damaged: the next import of its bytes stores them anew."""
        self._place(digest).unlink(missing_ok=True)

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        for folder in sorted(self.root.glob("[0-9a-f][0-9a-f]")):
            with os.scandir(folder) as entries:
                for entry in entries:
                    yield folder.name + entry.name, entry.stat()

    def sweep(self, wanted: set[str], *, unused_for_seconds: float, dry_run: bool = False) -> tuple[int, int]:
        """Delete what is not `wanted` and was not put or touched lately; how many objects and bytes."""
        oldest, count, size = time.time() - unused_for_seconds, 0, 0
        for digest, status in self.all():
            if digest in wanted or status.st_mtime > oldest:
                continue
            count, size = count + 1, size + status.st_size
            if not dry_run:
                self.discard(digest)
        if self._incoming.exists() and not dry_run:
            for left in self._incoming.iterdir():  # what a killed import had not finished
                if left.stat().st_mtime <= oldest:
                    left.unlink(missing_ok=True)
        return count, size

    def _place(self, digest: str) -> Path:
        return Path(self._name(digest))

    def _name(self, digest: str) -> str:
        """As text: a version may have a hundred thousand of them, and a `Path` each would be most of the time."""
        assert _DIGEST.fullmatch(digest), "not a SHA-256 in hex"
        return f"{self._root}/{digest[:2]}/{digest[2:]}"

    @contextmanager
    def _new(self) -> Iterator[BinaryIO]:
        """A file to fill and `keep`; what is not kept, because of an error, is removed."""
        self._incoming.mkdir(parents=True, exist_ok=True)
        place = self._incoming / secrets.token_hex(12)
        try:
            with place.open("xb") as file:
                yield file
        finally:
            place.unlink(missing_ok=True)

    def keep(self, file: BinaryIO, digest: str) -> None:
        """Give a whole file of `_new` its name."""
        file.flush()
        place = self._place(digest)
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        os.chmod(file.name, 0o444)
        os.replace(file.name, place)


class Incoming:
    """An object on its way in: `write` its pieces, then `keep` it."""

    def __init__(self, objects: ObjectStore, file: BinaryIO) -> None:
        self._objects, self._file, self._hasher = objects, file, hashlib.sha256()
        self.size = 0

    def write(self, block: bytes | memoryview) -> None:
        self._hasher.update(block)
        self._file.write(block)
        self.size += len(block)

    @property
    def sha256(self) -> str:
        return self._hasher.hexdigest()

    def keep(self) -> str:
        digest = self.sha256
        self._objects.keep(self._file, digest)
        return digest
