"""The shared cluster as a feature of the control plane: who is admitted, under which quotas, and why others wait."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from narf.control.app import Feature
from narf.control.cluster import routes
from narf.control.cluster.clusters import Clusters
from narf.control.cluster.durations import Durations
from narf.control.cluster.service import ClusterService
from narf.control.database import Database
from narf.control.workloads.admission import AdmissionReconciler, Cluster
from narf.control.workloads.progress import ProgressReconciler
from narf.control.workloads.service import WorkloadService


@dataclass(frozen=True, kw_only=True)
class Sharing:
    admission: AdmissionReconciler
    service: ClusterService
    durations: Durations
    features: list[Feature]


def sharing(
    *,
    database: Database,
    backends: Clusters,
    workloads: WorkloadService,
    checkpointed: Callable[[Sequence[str]], Mapping[str, float]],
    recordings: Path,
    wake: Callable[[Collection[str]], None],
    now: Callable[[], datetime],
) -> Sharing:
    """checkpointed: when each of these runs last wrote a checkpoint. recordings: where snapshots and their plans are kept. wake: have the
    reconcilers of these names look at once."""
    cluster = Cluster(backends, backends.growing)

    def clusters_changed() -> None:
        cluster.look_again()
        wake((AdmissionReconciler.name, ProgressReconciler.name))

    backends.changed = clusters_changed
    admission = AdmissionReconciler(database, cluster, list)
    service = ClusterService(database, admission, now, recordings)
    durations = Durations(database)
    admission.queues, admission.decided, admission.forecast = service.queues, service.decided, durations.forecast
    admission.checkpointed = checkpointed
    workloads.check_fits = service.check_request
    return Sharing(
        admission=admission,
        service=service,
        durations=durations,
        features=[Feature(router=routes.router(service, backends), rules=routes.RULES)],
    )
