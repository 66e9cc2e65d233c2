"""Brings data from a source into the object store: files as they are, tables and queries as Parquet, in constant memory.

Nothing of it is visible until a version of it is published. What was fetched stays fetched: after a kill, or a second
import, files whose mark did not change are not fetched again.
"""

from __future__ import annotations

import json
import os
import queue
import secrets
import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from narf.data.folder import matches, no_space
from narf.data.manifest import FileEntry, Manifest, Profile, check_apart, check_path, make_manifest
from narf.data.objects import Incoming, ObjectStore
from narf.data.sources.connector import Connector, RemoteFile, Selection
from narf.data.statistics import TableStatistics
from narf.data.tabular import describe_schema
from narf.domain.errors import BadInput, Conflict

_BLOCK = 4 << 20
_PART_ROWS, _PART_BYTES = 2_000_000, 256 << 20
_GROUP_ROWS = 131_072
_SAVE_SECONDS = 2.0
_AHEAD = 4  # batches read ahead of the writer


@dataclass(slots=True)
class Progress:
    """How far an import is. `cancelled` is asked between files and batches."""

    files: int = 0
    rows: int = 0
    size_bytes: int = 0
    cancelled: Callable[[], bool] = field(default=lambda: False)

    def check(self) -> None:
        if self.cancelled():
            raise Cancelled


class Cancelled(Exception):
    """Somebody asked the import to stop."""


@dataclass(frozen=True, slots=True)
class Imported:
    """`profile` is known where every row passed through our hands anyway."""

    manifest: Manifest
    profile: Profile | None = None


def import_files(connector: Connector, selection: Selection, objects: ObjectStore, fetched: Fetched, progress: Progress) -> Imported:
    """The files that `selection` means, fetched where they are not known.

    Raises:
        BadInput: nothing matches, a file was changed while it was being read, a name cannot be kept.
    """
    base = selection.path.strip("/")
    wanted: list[tuple[str, RemoteFile]] = []
    with _named(connector):
        for remote in connector.list_files(selection.path):
            path = _below(base, remote.path)
            if not selection.pattern or matches(path, selection.pattern):
                wanted.append((check_path(path), remote))
        check_apart(path for path, _ in wanted)

    def bring(remote: RemoteFile) -> str:
        digest = fetched.digest_of(remote)
        return digest if digest is not None and objects.has(digest) else _fetch(connector, remote, objects)

    entries = []
    with ThreadPoolExecutor(connector.parallel, "import-file") as pool:
        try:
            for (path, remote), digest in zip(wanted, pool.map(bring, [remote for _, remote in wanted]), strict=True):
                fetched.remember(remote, digest)
                entries.append(FileEntry(path, remote.size, digest))
                progress.files, progress.size_bytes = progress.files + 1, progress.size_bytes + remote.size
                progress.check()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            fetched.save()
            raise
    fetched.save()
    if not entries:
        raise BadInput(
            f"Nothing of the source {connector.name!r} matches {selection.pattern or selection.path!r}.",
            remedy="Check the path and the pattern.",
        )
    return Imported(make_manifest(entries))


def import_rows(connector: Connector, selection: Selection, objects: ObjectStore, progress: Progress) -> Imported:
    """The rows of a table or query as Parquet files of at most 2 million rows. The same rows give the same files."""
    # Closed before the reader is, whatever happens: a driver that is closed while a thread reads from it takes the process down.
    with connector.read(selection) as reader, closing(_ahead(reader)) as batches:
        return write_parquet(reader.schema, batches, objects, progress)


def write_parquet(schema: pa.Schema, batches: Iterator[pa.RecordBatch], objects: ObjectStore, progress: Progress) -> Imported:
    """Parquet files of these batches in the object store, with the profile gathered on the way."""
    schema = storable(schema)
    gathered = TableStatistics(schema)
    # Numbers hardly repeat: to look for their dictionary costs time and finds none.
    repeating: Any = [one.name for one in schema if pa.types.is_string(one.type)] or False
    entries: list[FileEntry] = []
    regular = _regular(batches, schema, progress)
    batch = next(regular, None)
    while batch is not None or not entries:
        rows = 0
        with _errors_of(objects), objects.receive() as incoming:
            with pq.ParquetWriter(
                pa.PythonFile(_Sink(incoming), mode="w"), schema, compression="snappy", use_dictionary=repeating
            ) as writer:
                while batch is not None and rows < _PART_ROWS and incoming.size < _PART_BYTES:
                    gathered.add(batch)
                    writer.write_batch(batch, row_group_size=_GROUP_ROWS)
                    rows += batch.num_rows
                    progress.rows += batch.num_rows
                    batch = next(regular, None)
            entries.append(FileEntry(f"part-{len(entries):05d}.parquet", incoming.size, incoming.keep(), rows))
        progress.files, progress.size_bytes = len(entries), sum(entry.size for entry in entries)
    profile = Profile(
        kind="table", format="parquet", schema=tuple(describe_schema(schema)), statistics={"columns": gathered.result(), "files": []}
    )
    return Imported(make_manifest(entries), profile)


class Fetched:
    """Which content each file of a source had when it was fetched, kept in a file that losing costs time only."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        self._saved_at = time.monotonic()
        try:
            self._known = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            self._known = {}  # the first time, or torn by a kill

    def digest_of(self, remote: RemoteFile) -> str | None:
        known = self._known.get(remote.path)
        if known is None or not remote.mark or known[:2] != [remote.size, remote.mark]:
            return None
        return str(known[2])

    def remember(self, remote: RemoteFile, digest: str) -> None:
        self._known[remote.path] = [remote.size, remote.mark, digest]
        if time.monotonic() - self._saved_at > _SAVE_SECONDS:
            self.save()

    def save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(f".{secrets.token_hex(8)}")  # two imports of one source may save at once
        temporary.write_text(json.dumps(self._known))
        os.replace(temporary, self._path)
        self._saved_at = time.monotonic()


def _below(base: str, path: str) -> str:
    """`path` relative to the selected folder; a selected file keeps its name."""
    if path == base or not base:
        return path.rpartition("/")[2] if path == base else path
    return path.removeprefix(base + "/")


def _fetch(connector: Connector, remote: RemoteFile, objects: ObjectStore) -> str:
    with _errors_of(objects), objects.receive() as incoming:
        with connector.open(remote.path) as stream:
            while block := stream.read(_BLOCK):
                incoming.write(block)
                if incoming.size > remote.size:
                    break
        after = connector.stat(remote.path)
        if incoming.size != remote.size or (after.size, after.mark) != (remote.size, _mark_like(remote, after)):
            raise BadInput(
                f"The file {remote.path!r} of {connector.name!r} was changed while it was being read.",
                remedy="Let the writer finish, then import again: what was fetched is kept.",
                code="changed_while_read",
            )
        return incoming.keep()


def _mark_like(before: RemoteFile, after: RemoteFile) -> str:
    """Lists and look-ups of one service may word the same mark differently (quotes around an ETag)."""
    return after.mark if not before.mark or before.mark.strip('"') == after.mark.strip('"') else before.mark


@contextmanager
def _named(connector: Connector) -> Iterator[None]:
    """What is wrong with a file's name is said with the source's: an object store allows names that a disk does not."""
    try:
        yield
    except BadInput as error:
        if error.code not in ("bad_path", "path_twice"):
            raise
        remedy = "Choose files with a path and a pattern so that it is left out, or rename it at the source."
        raise BadInput(f"The source {connector.name!r}: {error.sentence}", remedy=remedy, code=error.code) from error


@contextmanager
def _errors_of(objects: ObjectStore) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise no_space(error, objects.root) from error


class _Sink:
    """An `Incoming` as the file object that pyarrow writes to."""

    closed = False

    def __init__(self, incoming: Incoming) -> None:
        self._incoming = incoming

    def write(self, data: Any) -> int:
        self._incoming.write(data)
        return len(data)

    def tell(self) -> int:
        return self._incoming.size

    def flush(self) -> None:
        return None

    def close(self) -> None:
        self.closed = True


def _regular(batches: Iterator[pa.RecordBatch], schema: pa.Schema, progress: Progress) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `_GROUP_ROWS` (the last is smaller), however they came: so files are the same, too."""
    held: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        progress.check()
        if batch.schema != schema:
            batch = batch.cast(schema)
        while count + batch.num_rows >= _GROUP_ROWS:
            taken = _GROUP_ROWS - count
            yield pa.concat_batches([*held, batch.slice(0, taken)])
            held, count, batch = [], 0, batch.slice(taken)
        if batch.num_rows:
            held.append(batch)
            count += batch.num_rows
    if held:
        yield pa.concat_batches(held)


def storable(schema: pa.Schema) -> pa.Schema:
    """The types as Parquet and Iceberg keep them: a driver's own types and metadata become plain ones."""
    fields = []
    for field_ in schema:
        type = field_.type
        if isinstance(type, pa.BaseExtensionType):
            type = type.storage_type
        if pa.types.is_dictionary(type):
            type = type.value_type
        if pa.types.is_null(type) or pa.types.is_string_view(type) or pa.types.is_large_string(type):
            type = pa.string()
        if pa.types.is_binary_view(type) or pa.types.is_large_binary(type):
            type = pa.binary()
        fields.append(pa.field(field_.name, type, nullable=True))
    if len({one.name for one in fields}) != len(fields):
        raise Conflict("Two columns of the selection have one name.", remedy="Name them apart in the query: SELECT a.id AS a_id, ...")
    return pa.schema(fields)


def _ahead(reader: pa.RecordBatchReader) -> Generator[pa.RecordBatch, None, None]:
    """The batches of `reader`, read by a thread some batches ahead, so that the source and we work at the same time."""
    ready: queue.Queue[pa.RecordBatch | BaseException | None] = queue.Queue(maxsize=_AHEAD)
    leaving = threading.Event()

    def fill() -> None:
        end: BaseException | None = None
        try:
            for batch in reader:
                if not _put(ready, batch, leaving):
                    return
        except BaseException as error:  # whatever it is belongs to the thread that reads the queue
            end = error
        _put(ready, end, leaving)

    thread = threading.Thread(target=fill, name="import-reader", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        leaving.set()
        thread.join()


def _put(ready: queue.Queue[Any], item: Any, leaving: threading.Event) -> bool:
    while not leaving.is_set():
        try:
            ready.put(item, timeout=0.1)
        except queue.Full:
            continue
        return True
    return False
