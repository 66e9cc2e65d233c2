"""Sends a folder as a dataset version, and fetches versions: only what the other side lacks travels."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from narf.client.connection import Connection, problem
from narf.data.folder import Found, Seen, read_whole, scan
from narf.data.manifest import FileEntry, Manifest, make_manifest
from narf.data.objects import ObjectStore
from narf.data.placing import folder_of, materialise
from narf.domain.errors import BadInput, Unavailable

if TYPE_CHECKING:
    import pyarrow as pa

Progress = Callable[[str, int, int], None]  # "reading" or "sending", files done, files in all
_SOME = 20_000  # digests asked about at once
_BLOCK = 1 << 20
_PATIENCE = 3600.0  # seconds; a large table is profiled while we wait


def cache_home() -> Path:
    """Where this machine keeps what it fetched and what it knows of files it read."""
    named = os.environ.get("NARF_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "narf"


def add_folder(
    connection: Connection,
    project: str,
    name: str,
    folder: Path,
    *,
    pattern: str = "",
    tags: Sequence[str] = (),
    checks: Sequence[dict[str, Any]] = (),
    description: str | None = None,
    provenance: dict[str, Any] | None = None,
    run_id: str | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """A version of the files of `folder`, as the API describes it. Files that did not change are not even read.

    run_id: the run that made them.

    Raises:
        BadInput: see `narf.data.folder.scan`; a check failed. Unavailable: the platform does not answer.
    """
    found = scan(folder, pattern)
    entries, read_now = _digest(found, folder, progress)
    body = {
        "provenance": {"folder": str(folder.absolute()), "pattern": pattern} | (provenance or {}),
        "tags": list(tags),
        "checks": list(checks),
        "description": description,
        "run_id": run_id,
    }
    return _add(connection, project, name, found, entries, read_now, body, progress)


def add_table(
    connection: Connection,
    project: str,
    name: str,
    schema: pa.Schema,
    batches: Iterator[pa.RecordBatch],
    *,
    tags: Sequence[str] = (),
    checks: Sequence[dict[str, Any]] = (),
    description: str | None = None,
    provenance: dict[str, Any] | None = None,
    run_id: str | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """A version of these rows, as Parquet files; the same rows give the same version. See `add_folder` for the rest."""
    from narf.data.importing import Progress as Rows
    from narf.data.importing import write_parquet

    (home := cache_home()).mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home, prefix="table-") as folder:
        objects = ObjectStore(Path(folder))
        entries = write_parquet(schema, batches, objects, Rows()).manifest.files
        places = [objects.path(entry.sha256) for entry in entries]
        found = [Found(entry.path, str(place), place.stat()) for entry, place in zip(entries, places, strict=True)]
        body = {"provenance": provenance or {}, "tags": list(tags), "checks": list(checks), "description": description, "run_id": run_id}
        return _add(connection, project, name, found, entries, {entry.sha256 for entry in entries}, body, progress)


def _add(
    connection: Connection,
    project: str,
    name: str,
    found: Sequence[Found],
    entries: Sequence[FileEntry],
    read_now: set[str],
    body: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Send what was read now and is not there yet, then publish all."""
    places = {entry.sha256: file for file, entry in zip(found, entries, strict=True)}
    _send(connection, project, places, [digest for digest in places if digest in read_now], progress)
    body = {"files": [{"path": entry.path, "size": entry.size, "sha256": entry.sha256} for entry in entries], **body}
    path = f"/api/v1/projects/{project}/datasets/{name}/versions"
    try:
        return _publish(connection, path, body)
    except BadInput as error:
        if error.code != "content_missing":
            raise
    _send(connection, project, places, list(places), progress)  # what was sent earlier went elsewhere, or was removed since
    return _publish(connection, path, body)


def _publish(connection: Connection, path: str, body: dict[str, Any]) -> dict[str, Any]:
    response = connection.request("POST", path, json=body, timeout=_PATIENCE)
    if not response.is_success:
        raise problem(response)
    made: dict[str, Any] = response.json()
    return made


def _digest(found: Sequence[Found], folder: Path, progress: Progress) -> tuple[list[FileEntry], set[str]]:
    """The entries, and the digests among them that had to be read: the others were sent when they were read."""
    key = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:32]
    seen = Seen(cache_home() / "seen" / f"{key}.json")
    entries, read_now = [], set()
    try:
        for done, file in enumerate(found):
            digest = seen.digest_of(file)
            if digest is None:
                now = time.time_ns()
                digest, _ = read_whole(file, lambda _block: None)
                seen.remember(file, digest, now)
                read_now.add(digest)
            entries.append(FileEntry(file.path, file.status.st_size, digest))
            if done % 256 == 0:
                progress("reading", done, len(found))
    finally:
        seen.save()
    return entries, read_now


def _send(connection: Connection, project: str, places: Mapping[str, Found], digests: Sequence[str], progress: Progress) -> None:
    """Those of `digests` that the platform lacks, from their `places`."""
    wanted: list[str] = []
    for at in range(0, len(digests), _SOME):
        answer = connection.post(f"/api/v1/projects/{project}/data/missing", {"sha256": digests[at : at + _SOME]})
        wanted += answer["missing"]
    if not wanted:
        return
    frames = _frames([(digest, places[digest]) for digest in wanted], progress)
    response = connection.request("PUT", f"/api/v1/projects/{project}/data/objects", content=frames, timeout=_PATIENCE)
    if not response.is_success:
        raise problem(response)


def _frames(files: Sequence[tuple[str, Found]], progress: Progress) -> Iterator[bytes]:
    """Many files as one stream, in blocks large enough to be cheap."""
    gathered = bytearray()
    for done, (digest, file) in enumerate(files):
        gathered += f"{digest}{file.status.st_size:016x}".encode()
        with open(file.place, "rb", buffering=0) as stream:
            left = file.status.st_size
            while left and (block := stream.read(min(left, _BLOCK))):
                gathered += block
                left -= len(block)
                if len(gathered) >= _BLOCK:
                    yield bytes(gathered)
                    gathered.clear()
        gathered += bytes(left)  # it shrank: the digest will not fit, and the platform says so
        progress("sending", done, len(files))
    yield bytes(gathered)


def place(connection: Connection, project: str, version: dict[str, Any], *, local: bool = True) -> Path:
    """A read-only folder on this machine with the files of `version` (as the API describes it).

    On the platform's own machine its shared folder, without a copy; elsewhere fetched once, into this machine's cache.
    """
    path = f"/api/v1/projects/{project}/datasets/{version['dataset']}/versions/{version['version']}"
    if local and _is_loopback(connection.url):
        folder = Path(connection.post(f"{path}/folder")["folder"])
        if folder.is_dir():
            return folder
    cache = cache_home() / "data"
    if (ready := folder_of(cache / "folders", version["id"])).is_dir():
        return ready
    manifest = fetch_manifest(connection, path)
    objects = ObjectStore(cache / "objects")
    for entry in manifest.files:
        if not objects.has(entry.sha256):
            _fetch(connection, f"{path}/files/", entry, objects)
    return materialise(version["id"], lambda: manifest, objects, cache / "folders")


def fetch_manifest(connection: Connection, path: str) -> Manifest:
    """The files of the version at the API's `path`."""
    entries, cursor = [], ""
    while True:
        page = connection.get(f"{path}/files", limit=50_000, cursor=cursor)
        entries += [FileEntry(item["path"], item["size"], item["sha256"], item["rows"]) for item in page["items"]]
        cursor = page["next"]
        if not cursor:
            return make_manifest(entries)


def _fetch(connection: Connection, base: str, entry: FileEntry, objects: ObjectStore) -> None:
    from urllib.parse import quote

    request = connection._http.build_request("GET", base + quote(entry.path))
    response = connection._http.send(request, stream=True)
    try:
        if not response.is_success:
            response.read()
            raise problem(response)
        with objects.receive() as incoming:
            for block in response.iter_bytes(_BLOCK):
                incoming.write(block)
            if incoming.sha256 != entry.sha256:
                raise Unavailable(f"{entry.path!r} arrived damaged.", remedy="Try again. If it stays so: narf data verify")
            incoming.keep()
    finally:
        response.close()


def _is_loopback(url: str) -> bool:
    return url.startswith(("http://127.", "http://localhost", "http://[::1]"))
