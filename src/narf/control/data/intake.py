"""Takes many objects in one request: a stream of frames, each the SHA-256 (64 hex digits), the size (16 hex digits), the bytes."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from narf.data.folder import no_space
from narf.data.objects import Incoming, ObjectStore
from narf.domain.errors import BadInput

_HEAD = 80


class Intake:
    """Feed it blocks of the stream, cut anywhere, then `finish`. Each object is kept as soon as it is whole."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._stack = ExitStack()
        self._head = b""
        self._incoming: Incoming | None = None
        self._digest, self._size = "", 0
        self.stored = 0

    def feed(self, block: bytes) -> None:
        """Raises BadInput: the bytes are not what their frame says. LimitReached: the disk is full."""
        rest = memoryview(block)
        try:
            while rest or (self._incoming is not None and self._incoming.size == self._size):
                rest = self._content(rest) if self._incoming is not None else self._heading(rest)
        except OSError as error:
            raise no_space(error, Path(self._objects.root)) from error

    def finish(self) -> int:
        """How many objects came. Raises BadInput: the stream broke off inside one."""
        self.feed(b"")
        if self._incoming is not None or self._head:
            raise BadInput("The upload broke off.", remedy="Send it again: what arrived whole is kept.", code="torn_upload")
        return self.stored

    def close(self) -> None:
        self._stack.close()

    def _heading(self, rest: memoryview) -> memoryview:
        need = _HEAD - len(self._head)
        self._head += bytes(rest[:need])
        if len(self._head) == _HEAD:
            text = self._head.decode("latin-1")
            if any(character not in "0123456789abcdef" for character in text):
                raise BadInput("The upload is not a stream of framed objects.", remedy="Use the narf client.", code="bad_frame")
            self._digest, self._size, self._head = text[:64], int(text[64:], 16), b""
            self._incoming = self._stack.enter_context(self._objects.receive())
        return rest[need:]

    def _content(self, rest: memoryview) -> memoryview:
        incoming = self._incoming
        assert incoming is not None
        need = self._size - incoming.size
        incoming.write(rest[:need])
        if incoming.size == self._size:
            if incoming.sha256 != self._digest:
                raise BadInput("A file was changed while it was being sent.", remedy="Import again.", code="changed_while_read")
            incoming.keep()
            self.stored += 1
            self._incoming = None
            self._stack.close()
        return rest[need:]
