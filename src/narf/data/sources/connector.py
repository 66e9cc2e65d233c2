"""The boundary to places that data comes from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from narf.domain.errors import BadInput, NarfError, Unavailable

if TYPE_CHECKING:
    import pyarrow as pa

FILES, TABLES, QUERIES = "files", "tables", "queries"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a source. `mark` changes when the content does, as well as the source can tell (an ETag, a time)."""

    path: str
    size: int
    mark: str = ""
    modified_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What of a source: files below `path` that match `pattern`, or a `table`, or a `query`."""

    path: str = ""
    pattern: str = ""
    table: str = ""
    query: str = ""

    @property
    def is_tabular(self) -> bool:
        return bool(self.table or self.query)


class RemoteStream(Protocol):
    """Bytes of one file; `read` may give fewer than asked for before the end; `seek` may be missing where `seekable()` is false."""

    def read(self, size: int = -1, /) -> bytes: ...

    def seekable(self) -> bool: ...


class Connector(Protocol):
    """A place that data comes from, open: credentials are in it, so it is never printed or kept.

    Made by the control plane for one use and closed after it; files are opened by up to `parallel` threads at once, all else is
    called by one. Every call may block for as
    long as the place takes. `abilities` says which calls make sense: FILES has `list_files`, `stat` and `open`; TABLES has
    `tables` and `read` of a table; QUERIES has `read` of a query. Errors of the place are raised as NarfErrors that name the
    source and say what to do; `narf.testing.connector` holds the suite that an implementation passes.
    """

    name: str
    abilities: frozenset[str]
    parallel: int

    def test(self) -> str:
        """Reach the place with its credentials and look; a sentence about what is there."""
        ...

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        """All files below `path` (which may be one file), as deep as they are; their paths are relative to the source's root."""
        ...

    def stat(self, path: str) -> RemoteFile: ...

    def open(self, path: str) -> AbstractContextManager[RemoteStream]: ...

    def tables(self) -> list[str]: ...

    def read(self, selection: Selection) -> AbstractContextManager[pa.RecordBatchReader]:
        """The rows of a table or query, in batches, in constant memory. Nothing at the source is changed."""
        ...

    def close(self) -> None: ...


class Lacking:
    """What a connector inherits for the calls it has no ability for."""

    name = ""
    parallel = 1

    def list_files(self, path: str = "") -> Iterator[RemoteFile]:
        raise self._lacks("no files", "Choose a table or a query.")

    def stat(self, path: str) -> RemoteFile:
        raise self._lacks("no files", "Choose a table or a query.")

    def open(self, path: str) -> AbstractContextManager[RemoteStream]:
        raise self._lacks("no files", "Choose a table or a query.")

    def tables(self) -> list[str]:
        raise self._lacks("no tables", "Choose files, with a path and a pattern.")

    def read(self, selection: Selection) -> AbstractContextManager[pa.RecordBatchReader]:
        raise self._lacks("no tables", "Choose files, with a path and a pattern.")

    def close(self) -> None:
        return None

    def _lacks(self, what: str, remedy: str) -> BadInput:
        return BadInput(f"The source {self.name!r} has {what}.", remedy=remedy, code="wrong_selection")


def scrubbed(text: str, secrets: Mapping[str, str]) -> str:
    """`text` without any of the secret values that are in it: drivers like to quote what they connect to."""
    from urllib.parse import quote, quote_plus

    for value in sorted(secrets.values(), key=len, reverse=True):
        if len(value) >= 3:
            for shape in {value, quote(value), quote(value, safe=""), quote_plus(value)}:
                text = text.replace(shape, "***")
    return text


def unreachable(source: str, detail: str) -> Unavailable:
    return Unavailable(
        f"The source {source!r} cannot be reached: {detail}",
        remedy=f"Check its address and the network, then: narf sources test {source}",
        code="source_unreachable",
    )


def refused(source: str, detail: str) -> NarfError:
    return BadInput(
        f"The source {source!r} refuses the credentials: {detail}",
        remedy="Check the user and the secret it names: narf secret set NAME",
        code="source_refused",
    )


def gone(source: str, what: str) -> BadInput:
    return BadInput(
        f"The source {source!r} has no {what}.", remedy=f"See what there is: narf sources preview {source}", code="source_lacks"
    )
