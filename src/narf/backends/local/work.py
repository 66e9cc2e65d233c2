"""Fills a job's working folder from its code snapshot."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path, PurePosixPath

from narf.data.objects import ObjectStore


def fill(work: Path, snapshot: str, objects: ObjectStore) -> None:
    """Write the snapshot's files below `work`.

    They are copies, never links: a program that edits a file in place must not change the stored object.

    Raises:
        NotFound: the snapshot, or a file that it names, is not in `objects`.
        ValueError: it names a file outside of `work`.
    """
    made = {work}
    for entry in json.loads(objects.get(snapshot))["files"]:
        relative = PurePosixPath(entry["path"])
        if relative.is_absolute() or ".." in relative.parts or not relative.parts:
            raise ValueError(f"the snapshot names the file {entry['path']!r}, outside of its folder")
        target = work / relative
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        shutil.copyfile(objects.path(entry["sha256"]), target)
        os.chmod(target, (entry.get("mode", 0o644) & 0o755) | 0o600)
