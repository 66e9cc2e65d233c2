"""Studies as a feature of the control plane: the searches that it makes itself, and those that a program makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from narf.control.app import Feature
from narf.control.database import Database
from narf.control.snapshots.service import SnapshotService
from narf.control.studies import routes
from narf.control.studies.driven import DrivenStudies
from narf.control.studies.launch import has_checkpoint
from narf.control.studies.reconciler import StudyReconciler
from narf.control.studies.service import StudyService
from narf.control.studies.tracked import RegisteredModels, TrackedMetrics, TrackedParents, UnusedValues
from narf.control.tracking.service import RunRecords
from narf.control.workloads.service import WorkloadService
from narf.tracking.tracking import Tracking


@dataclass(frozen=True, kw_only=True)
class Tuning:
    registered: RegisteredModels
    reconciler: StudyReconciler
    features: list[Feature]


def tuning(
    *,
    database: Database,
    snapshots: SnapshotService,
    workloads: WorkloadService,
    tracking: Tracking,
    checkpoints: Path,
    may_run: bool,
    changed: Callable[[str | None, str], None],
    wake: Callable[[], None],
    now: Callable[[], datetime],
) -> Tuning:
    """checkpoints: the folder of those of all workloads. may_run: scripts may be run here for a dry run. changed: hears the project, if there still is one, and the id of a study that changed.
    wake: the reconciler has something to do."""
    runs, registered = RunRecords(tracking), RegisteredModels()
    service = StudyService(database, snapshots, workloads, runs, registered, now, may_run=may_run)
    metrics = TrackedMetrics(tracking)
    reconciler = StudyReconciler(database, workloads, metrics, runs, TrackedParents(tracking), has_checkpoint=has_checkpoint(checkpoints))
    driven = DrivenStudies(database, runs, now, metrics.names)

    def changed_by_others(study: str) -> None:
        wake()
        changed(service.project_of(study), study)

    service.unused = UnusedValues(tracking).of
    service.changed = driven.changed = changed_by_others
    reconciler.changed = lambda study: changed(study.project, study.id)
    return Tuning(
        registered=registered,
        reconciler=reconciler,
        features=[Feature(router=routes.router(service, driven), rules=routes.RULES, resolvers={"study": service.project_of})],
    )
