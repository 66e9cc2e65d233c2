"""Retention: what is kept how long, what is deleted then, and a warning before the disk is full.

Nothing that somebody may still need is touched: running workloads, dataset versions, models, metrics and artifacts stay.
Deleted are folders of jobs that ended long ago (their output with them), checkpoints of finished workloads, and objects that
nothing refers to any more.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from narf.backends.protocol import Backend
from narf.control.database import Database
from narf.control.workloads import store
from narf.domain.workload import FINISHED, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """How long things are kept after a workload ended, and below which free space we warn."""

    job_folders: timedelta = timedelta(days=30)
    checkpoints: timedelta = timedelta(days=14)
    unused_objects: timedelta = timedelta(days=2)  # young ones may belong to a submission under way
    least_free_bytes: int = 5 << 30
    least_free_share: float = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a collection deleted, or would delete."""

    job_folders: int
    checkpoints: int
    objects: int
    freed_bytes: int
    dry_run: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """Bytes below the home folder by part, and what the disk has left. `warning` is a sentence or ""."""

    parts: Mapping[str, int]
    free_bytes: int
    total_bytes: int
    warning: str


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

    def sweep(self, *, dry_run: bool = False) -> Swept:
        """Delete what the policy no longer keeps. Safe to repeat, and to kill half way."""
        now = self._now()
        with self._database.read() as connection:
            ended = store.in_states(connection, sorted(FINISHED))
        folders, folder_bytes = self._sweep_jobs(ended, now - self.policy.job_folders, dry_run)
        checkpoints, checkpoint_bytes = self._sweep_checkpoints(ended, now - self.policy.checkpoints, dry_run)
        objects, object_bytes = self._sweep_objects(now - self.policy.unused_objects, dry_run)
        return Swept(
            job_folders=folders,
            checkpoints=checkpoints,
            objects=objects,
            freed_bytes=folder_bytes + checkpoint_bytes + object_bytes,
            dry_run=dry_run,
        )

    def disk(self) -> DiskUse:
        usage = shutil.disk_usage(self._home)
        parts = {child.name: size_of(child) for child in sorted(self._home.iterdir())}
        low = usage.free < self.policy.least_free_bytes or usage.free < usage.total * self.policy.least_free_share
        warning = f"Only {usage.free / 1e9:.1f} GB are free below {self._home}. Free some: narf gc" if low else ""
        return DiskUse(parts=parts, free_bytes=usage.free, total_bytes=usage.total, warning=warning)

    def _sweep_jobs(self, ended: Sequence[Workload], before: datetime, dry_run: bool) -> tuple[int, int]:
        count = freed = 0
        for workload in _ended_before(ended, before):
            for attempt in range(1, workload.attempt + 1):
                folder = self._home / "jobs" / f"{workload.id}.{attempt}"
                if folder.exists():
                    count, freed = count + 1, freed + size_of(folder)
                if not dry_run:
                    for backend in self._backends.values():
                        backend.forget(f"{workload.id}.{attempt}")
        return count, freed

    def _sweep_checkpoints(self, ended: Sequence[Workload], before: datetime, dry_run: bool) -> tuple[int, int]:
        count = freed = 0
        for workload in _ended_before(ended, before):
            folder = self._home / "checkpoints" / workload.id
            if folder.exists():
                count, freed = count + 1, freed + size_of(folder)
                if not dry_run:
                    shutil.rmtree(folder)
        return count, freed

    def _sweep_objects(self, before: datetime, dry_run: bool) -> tuple[int, int]:
        root = self._home / "objects"
        used = {digest for roots in self._roots for digest in roots()}
        count = freed = 0
        for path in root.glob("??/*"):
            stat = path.stat()
            if path.parent.name + path.name in used or stat.st_mtime > before.timestamp():
                continue
            count, freed = count + 1, freed + stat.st_size
            if not dry_run:
                path.unlink()
        return count, freed


def size_of(path: Path) -> int:
    """Bytes below `path`, links not followed; what vanishes meanwhile counts nothing."""
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
        return sum(size_of(child) for child in path.iterdir())
    except FileNotFoundError:
        return 0


def _ended_before(workloads: Iterable[Workload], before: datetime) -> list[Workload]:
    return [workload for workload in workloads if workload.ended_at is not None and workload.ended_at < before]
