"""Retention: looks at what is on the disk, lets the policy decide, and deletes.

Nothing that somebody may still need is touched: running workloads, output and metrics that have not been delivered, dataset
versions, models and artifacts stay. Deletion is safe to repeat and to kill half way.
"""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from narf.backends.local.environments import Environments
from narf.backends.local.shipping import is_shipped
from narf.backends.protocol import Backend
from narf.control.database import Database
from narf.control.retention.policy import Kept, Kind, RetentionPolicy, to_delete, warnings
from narf.control.workloads import store
from narf.data.objects import ObjectStore
from narf.domain.workload import FINISHED, Workload

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a collection deleted, or would delete: how many of each kind, and their bytes."""

    deleted: Mapping[Kind, int]
    freed_bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Bytes below the home folder by part, and what the disk has left."""

    parts: Mapping[str, int]
    free_bytes: int
    total_bytes: int
    warnings: Sequence[str]


class RetentionService:
    """`roots` name the objects in use: each yields digests of objects, its manifests' contents included."""

    def __init__(
        self,
        database: Database,
        home: Path,
        backends: Mapping[str, Backend],
        roots: Sequence[Callable[[], Iterable[str]]],
        now: Callable[[], datetime],
        policy: RetentionPolicy | None = None,
    ) -> None:
        self._database, self._home, self._backends = database, home, backends
        self._roots, self._now, self.policy = roots, now, policy or RetentionPolicy()
        self._environments, self._objects = Environments(home / "environments"), ObjectStore(home / "objects")

    def sweep(self, *, dry_run: bool = False) -> Swept:
        """Delete what the policy no longer keeps."""
        chosen = to_delete([*self._things()], self.policy, self._now())
        deleted = [thing for thing in chosen if dry_run or self._delete(thing)]
        counts = Counter(thing.kind for thing in deleted)
        counts[Kind.OBJECTS], freed = self._sweep_objects(dry_run)
        freed += sum(thing.size_bytes for thing in deleted)
        kinds = [kind for kind in Kind if kind is not Kind.ARTIFACTS]
        return Swept(deleted={kind: counts[kind] for kind in kinds}, freed_bytes=freed, dry_run=dry_run)

    def disk(self) -> DiskUse:
        usage = shutil.disk_usage(self._home)
        parts = {child.name: size_of(child) for child in sorted(self._home.iterdir())}
        said = warnings(parts, self.policy, free_bytes=usage.free, total_bytes=usage.total, where=str(self._home))
        return DiskUse(parts=parts, free_bytes=usage.free, total_bytes=usage.total, warnings=said)

    def _things(self) -> Iterator[Kept]:
        with self._database.read() as connection:
            ended = {w.id: w for w in store.in_states(connection, sorted(FINISHED)) if w.ended_at is not None}
        yield from self._jobs(ended)
        yield from self._checkpoints(ended)
        for key, used_at in self._environments.all():
            needed_at = datetime.fromtimestamp(used_at, UTC)
            yield Kept(kind=Kind.ENVIRONMENTS, id=key, size_bytes=size_of(self._environments.root / key), needed_at=needed_at)

    def _jobs(self, ended: Mapping[str, Workload]) -> Iterator[Kept]:
        for folder in _folders(self._home / "jobs"):
            workload = ended.get(folder.name.rpartition(".")[0])
            if workload is not None and workload.ended_at is not None:
                held = "" if is_shipped(folder) else "its metrics have not been delivered"
                yield Kept(kind=Kind.JOBS, id=folder.name, size_bytes=size_of(folder), needed_at=workload.ended_at, held=held)

    def _checkpoints(self, ended: Mapping[str, Workload]) -> Iterator[Kept]:
        for folder in _folders(self._home / "checkpoints"):
            workload = ended.get(folder.name)
            if workload is not None and workload.ended_at is not None:
                yield Kept(kind=Kind.CHECKPOINTS, id=folder.name, size_bytes=size_of(folder), needed_at=workload.ended_at)

    def _sweep_objects(self, dry_run: bool) -> tuple[int, int]:
        period = self.policy.keep[Kind.OBJECTS].period
        if period is None:
            return 0, 0
        wanted = {digest for roots in self._roots for digest in roots()}
        return self._objects.sweep(wanted, unused_for_seconds=period.total_seconds(), dry_run=dry_run)

    def _delete(self, thing: Kept) -> bool:
        """Whether it is gone now."""
        if thing.kind is Kind.JOBS:
            for backend in self._backends.values():
                backend.forget(thing.id)
            return not (self._home / "jobs" / thing.id).exists()
        if thing.kind is Kind.CHECKPOINTS:
            shutil.rmtree(self._home / "checkpoints" / thing.id, ignore_errors=True)
            return True
        return self._environments.remove(thing.id)


class RetentionReconciler:
    """Sweeps every hour: only where somebody has written a policy, since what it deletes does not come back."""

    name = "retention"

    def __init__(self, retention: RetentionService) -> None:
        self._retention = retention

    def pass_once(self, now: datetime) -> bool:
        swept = self._retention.sweep()
        if swept.freed_bytes:
            counts = ", ".join(f"{count} {kind}" for kind, count in swept.deleted.items() if count)
            _log.info("retention deleted %s: %d bytes", counts, swept.freed_bytes)
        return False

    def next_look_seconds(self) -> float:
        return 3600.0


def size_of(path: Path) -> int:
    """Bytes below `path`, links not followed; what vanishes meanwhile counts nothing."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        return sum(size_of(child) for child in path.iterdir())
    except FileNotFoundError:
        return 0


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")) if root.is_dir() else []
