"""Which objects are in use: the code snapshots of every workload there is, manifests and files."""

from __future__ import annotations

from collections.abc import Iterator

from narf.control.database import Database
from narf.control.snapshots.service import SnapshotService
from narf.control.workloads import store
from narf.domain.errors import NotFound


def used_objects(database: Database, snapshots: SnapshotService) -> Iterator[str]:
    """The digests that a collection must leave alone."""
    with database.read() as connection:
        used = store.snapshots_in_use(connection)
    for snapshot in used:
        yield snapshot
        try:
            yield from (file.sha256 for file in snapshots.files(snapshot))
        except NotFound:
            continue  # its manifest is gone already; nothing below it can be kept by it
