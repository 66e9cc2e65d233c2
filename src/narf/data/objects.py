"""A content-addressed store of files: what is put in is named by its SHA-256 and never changes.

Code snapshots and dataset files live here. Putting the same bytes twice stores them once. An object
appears under its name by an atomic rename, so a kill at any moment leaves nothing half-visible.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from narf.domain.errors import NotFound

_BLOCK = 1 << 20


class ObjectStore:
    """Objects in `root`/ab/cdef..., read-only files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"

    def put(self, data: bytes) -> str:
        """Store `data`; its SHA-256 in hex."""
        digest = hashlib.sha256(data).hexdigest()
        if not self.has(digest):
            with self._new() as file:
                file.write(data)
            self._keep(Path(file.name), digest)
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
        self._keep(Path(file.name), digest)
        return digest, size

    def put_file(self, path: Path) -> tuple[str, int]:
        """Store a copy of the file at `path`; its SHA-256 in hex and its size in bytes."""
        with path.open("rb") as stream:
            return self.put_stream(stream)

    def has(self, digest: str) -> bool:
        return self._place(digest).exists()

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Those that are not here, each once, in the order given."""
        return [digest for digest in dict.fromkeys(digests) if not self.has(digest)]

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

    def _place(self, digest: str) -> Path:
        assert len(digest) == 64 and all(c in "0123456789abcdef" for c in digest), "not a SHA-256 in hex"
        return self.root / digest[:2] / digest[2:]

    def _new(self) -> tempfile._TemporaryFileWrapper[bytes]:
        self._incoming.mkdir(parents=True, exist_ok=True)
        return tempfile.NamedTemporaryFile(dir=self._incoming, delete=False)

    def _keep(self, temporary: Path, digest: str) -> None:
        place = self._place(digest)
        if place.exists():
            temporary.unlink()
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary.chmod(0o444)
        os.replace(temporary, place)
