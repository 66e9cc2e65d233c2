"""A sweep of a real home: what is past its time is gone, what somebody may need is there."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest

from narf.control.access.service import AccessService
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.retention.policy import Kind
from narf.control.retention.service import RetentionService
from narf.control.workloads import store
from narf.data.objects import ObjectStore
from narf.domain.access import Principal
from narf.domain.workload import Program, Resources, Workload, WorkloadKind, WorkloadState


class Folders:
    """Forgets a job as the local backend does."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def forget(self, job_id: str) -> None:
        folder = self.home / "jobs" / job_id
        for file in folder.rglob("*"):
            file.unlink()
        folder.rmdir()


class Home:
    def __init__(self, database: Database, home: Path, clock) -> None:
        self.database, self.home, self.clock = database, home, clock
        access = AccessService(database, clock)
        access.create_user("ada", by="test")
        ProjectService(database, access, clock).create("vision", by=Principal(user="ada", is_admin=True))
        self.wanted: list[str] = []
        self.retention = RetentionService(database, home, {"local": Folders(home)}, [lambda: self.wanted], clock)  # type: ignore[dict-item]

    def workload(self, id: str, *, ended_days_ago: float | None, shipped: bool = True) -> Path:
        """A workload with a job folder and a checkpoint; its job folder."""
        state = WorkloadState.RUNNING if ended_days_ago is None else WorkloadState.SUCCEEDED
        made = Workload(
            id=id, project="vision", owner="ada", name=id, kind=WorkloadKind.TRAINING, program=Program(script="a.py"), resources=Resources(),
            state=state, attempt=1, created_at=self.clock(),
            ended_at=None if ended_days_ago is None else self.clock() - timedelta(days=ended_days_ago),
        )  # fmt: skip
        with self.database.write() as connection:
            store.add(connection, made)
        folder = self.home / "jobs" / f"{id}.1"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text("{}")
        if not shipped:
            (folder / "ship.json").write_text(json.dumps({"url": "", "token": "", "run": ""}))
        (self.home / "checkpoints" / id).mkdir(parents=True)
        (self.home / "checkpoints" / id / "last.ckpt").write_text("weights")
        return folder


@pytest.fixture
def home(database: Database, tmp_path: Path, clock) -> Home:
    return Home(database, tmp_path / "home", clock)


def test_folders_of_jobs_that_ended_long_ago_go_and_others_stay(home: Home):
    old, young, running = (home.workload(i, ended_days_ago=d) for i, d in (("old", 40), ("young", 5), ("runs", None)))
    assert home.retention.sweep(dry_run=True).deleted[Kind.JOBS] == 1
    assert old.exists()
    swept = home.retention.sweep()
    assert (swept.deleted[Kind.JOBS], swept.deleted[Kind.CHECKPOINTS]) == (1, 1)
    assert swept.freed_bytes == len("{}") + len("weights")
    assert not old.exists() and young.exists() and running.exists()
    assert not (home.home / "checkpoints" / "old").exists() and (home.home / "checkpoints" / "runs").exists()
    assert home.retention.sweep().freed_bytes == 0


def test_metrics_that_have_not_been_delivered_are_never_deleted(home: Home):
    folder = home.workload("old", ended_days_ago=400, shipped=False)
    assert home.retention.sweep().deleted[Kind.JOBS] == 0
    assert folder.exists()


def test_a_snapshot_that_no_workload_refers_to_goes_once_it_is_old(home: Home):
    objects = ObjectStore(home.home / "objects")
    used, loose, young = objects.put(b"used"), objects.put(b"loose"), objects.put(b"young")
    home.wanted = [used]
    for digest in (used, loose):
        os.utime(objects.path(digest), (0, 0))
    assert home.retention.sweep().deleted[Kind.OBJECTS] == 1
    assert objects.has(used) and objects.has(young) and not objects.has(loose)


def test_putting_an_old_object_again_keeps_it(home: Home):
    objects = ObjectStore(home.home / "objects")
    digest = objects.put(b"again")
    os.utime(objects.path(digest), (0, 0))
    objects.put(b"again")
    assert home.retention.sweep().deleted[Kind.OBJECTS] == 0


def test_disk_use_is_told_by_part(home: Home):
    home.workload("w", ended_days_ago=1)
    assert home.retention.disk().parts["checkpoints"] == len("weights")
