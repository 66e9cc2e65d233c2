"""Places a version's files as a read-only folder, shared by all who read it: hard links, no copies, where the disk allows.

The folder appears under its name when it is whole, by one rename; two who place the same version at once both
get it.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from narf.data.folder import no_space
from narf.data.manifest import Manifest
from narf.data.objects import ObjectStore
from narf.domain.errors import NotFound, Unavailable

_CANNOT_LINK = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EACCES}


def folder_of(folders: Path, version_id: str) -> Path:
    return folders / version_id[:2] / version_id[2:]


def materialise(version_id: str, manifest: Callable[[], Manifest], objects: ObjectStore, folders: Path) -> Path:
    """The folder with the files of a version, below `folders`; made if it is not there yet.

    Raises:
        Unavailable: files of the version have been lost. LimitReached: the disk is full.
    """
    place = folder_of(folders, version_id)
    if place.is_dir():
        os.utime(place)  # used now: `forget_unused` leaves it
        return place
    building = folders / "building" / secrets.token_hex(8)
    try:
        building.mkdir(parents=True)
        _fill(building, manifest(), objects)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(building, place)
    except NotFound as error:
        raise lost_files("this version") from error
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST) and place.is_dir():
            return place  # another was first
        raise no_space(error, folders) from error
    finally:
        if building.exists():
            remove_tree(building)
    _protect(place)
    return place


def _fill(folder: Path, manifest: Manifest, objects: ObjectStore) -> None:
    made = {""}
    for entry in manifest.files:
        parent = entry.path.rpartition("/")[0]
        if parent not in made:
            (folder / parent).mkdir(parents=True, exist_ok=True)
            made.add(parent)
        _link(objects.path(entry.sha256), folder / entry.path)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copyfile(source, target)
        target.chmod(0o444)


def _protect(place: Path) -> None:
    for folder, _, _ in os.walk(place, topdown=False):
        os.chmod(folder, 0o555)


def remove_tree(place: Path) -> None:
    """Delete a folder made here, read-only as it is."""
    for folder, _, _ in os.walk(place):
        os.chmod(folder, 0o755)
    shutil.rmtree(place)


def lost_files(version: str) -> Unavailable:
    return Unavailable(
        f"Files of {version} are lost from the object store, or were found damaged.", remedy="Import the same data again: that mends it."
    )


def forget(folders: Path, version_id: str) -> None:
    """Take the folder of a version away, if it is there: the next who asks gets it made again."""
    place, going = folder_of(folders, version_id), folders / "building" / secrets.token_hex(8)
    going.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.chmod(place, 0o755)  # to move a folder is to write in it
        os.replace(place, going)  # nobody finds it half deleted
    except FileNotFoundError:
        return
    remove_tree(going)


def forget_unused(folders: Path, *, older_than: float, dry_run: bool = False) -> int:
    """Delete the folders that nobody asked for since the time `older_than` (seconds since 1970); how many.

    They are caches: the next who asks gets them made again.
    """
    count = 0
    for place in sorted(folders.glob("[0-9a-f][0-9a-f]/*")):
        if place.stat().st_mtime > older_than:
            continue
        count += 1
        if not dry_run:
            forget(folders, place.parent.name + place.name)
    for left in folders.glob("building/*"):  # of a killed process
        if left.stat().st_mtime <= older_than and not dry_run:
            remove_tree(left)
    return count
