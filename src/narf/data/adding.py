"""Puts the files of a folder into the object store, reading only what changed since the last time."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from narf.data.folder import Found, Seen, entry_of, no_space, read_whole, scan
from narf.data.manifest import FileEntry, Manifest, make_manifest
from narf.data.objects import ObjectStore

Progress = Callable[[int, int], None]  # files done, files in all


def add_folder(
    folder: Path,
    objects: ObjectStore,
    *,
    pattern: str = "",
    seen: Seen | None = None,
    progress: Progress | None = None,
    now_ns: Callable[[], int] = time.time_ns,
) -> Manifest:
    """The manifest of the files of `folder`, all of which are in `objects` then.

    seen: what earlier calls read; it is brought up to date, also when this one fails half way.
    Raises:
        BadInput: see `scan` and `read_whole`. LimitReached: the disk is full.
    """
    seen = seen or Seen(None)
    found = scan(folder, pattern)
    entries: list[FileEntry] = []
    try:
        for done, file in enumerate(found):
            entries.append(entry_of(file, _keep(file, objects, seen, now_ns())))
            if progress is not None and done % 256 == 0:
                progress(done, len(found))
    finally:
        seen.save()
    if progress is not None:
        progress(len(found), len(found))
    return make_manifest(entries)


def _keep(file: Found, objects: ObjectStore, seen: Seen, now_ns: int) -> str:
    digest = seen.digest_of(file)
    if digest is not None and objects.has(digest):
        return digest
    try:
        if file.status.st_size <= 1 << 20:  # small: hashed first, written only if it is new
            blocks: list[bytes] = []
            digest, _ = read_whole(file, blocks.append)
            objects.put(b"".join(blocks))
        else:
            digest, _ = objects.put_from(partial(read_whole, file))
    except OSError as error:
        raise no_space(error, objects.root) from error
    seen.remember(file, digest, now_ns)
    return digest
