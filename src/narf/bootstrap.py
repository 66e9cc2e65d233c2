"""The composition root: the only place that chooses implementations and builds the platform from them.

`python -m narf.bootstrap` is the control plane's process; `narf up` starts it detached.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from narf.backends.local.backend import PRELOAD, LocalBackend
from narf.backends.protocol import Backend
from narf.control import health
from narf.control.access import routes as access_routes
from narf.control.access.service import AccessService
from narf.control.app import Feature, create_app
from narf.control.audit import routes as audit_routes
from narf.control.cluster.clusters import Clusters
from narf.control.cluster.feature import sharing
from narf.control.cluster.store import Connected
from narf.control.data.feature import data
from narf.control.database import Database
from narf.control.endpoints.feature import inference
from narf.control.first_start import check_address, prepare
from narf.control.hosts import Hosts, hosts_of_webhooks, parse_hosts
from narf.control.leader import Leadership
from narf.control.listening import known_token, listen, url_of, write_server_file
from narf.control.live import routes as live_routes
from narf.control.live.service import Live
from narf.control.live.tails import LogTail, MarkTail, MetricTail
from narf.control.live.topics import Topics, tell
from narf.control.logs import configure_logging
from narf.control.projects import routes as project_routes
from narf.control.projects.service import ProjectService
from narf.control.reconcile import Loops, ReconcilerLoop
from narf.control.retention import routes as retention_routes
from narf.control.retention.policy import parse_policy
from narf.control.retention.roots import used_objects
from narf.control.retention.service import RetentionReconciler, RetentionService
from narf.control.schema import upgrade
from narf.control.secrets import routes as secret_routes
from narf.control.secrets.service import SecretService, read_key
from narf.control.snapshots import routes as snapshot_routes
from narf.control.snapshots.service import SnapshotService
from narf.control.studies.feature import tuning
from narf.control.studies.launch import resume_from
from narf.control.tracking.feature import CompactionReconciler, tracking_features
from narf.control.tracking.service import RunRecords, RunService
from narf.control.web import Console
from narf.control.webhooks import Webhooks
from narf.control.workloads import routes as workload_routes
from narf.control.workloads.concern import concerned
from narf.control.workloads.jobs import JobMaker
from narf.control.workloads.notify import Desktop, Email, Notifications, Notifier, Webhook
from narf.control.workloads.progress import ProgressReconciler
from narf.control.workloads.service import WorkloadService
from narf.data.objects import ObjectStore
from narf.domain.errors import BadInput, NarfError
from narf.domain.workload import Workload
from narf.settings import Settings, read_settings
from narf.tracking.server import open_stores
from narf.tracking.tracking import Tracking
from narf.tracking.workspaces import in_project

_log = logging.getLogger(__name__)


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Platform:
    """Everything, built but not started. `start` begins the reconcilers, `close` ends what is ours; jobs go on."""

    settings: Settings
    app: FastAPI
    access: AccessService
    projects: ProjectService
    workloads: WorkloadService
    loops: list[ReconcilerLoop] = field(default_factory=list)
    on_start: list[Callable[[], None]] = field(default_factory=list)
    on_close: list[Callable[[], None]] = field(default_factory=list)

    def start(self) -> None:
        for begin in self.on_start:
            begin()
        for loop in self.loops:
            loop.start()

    def close(self) -> None:
        for loop in self.loops:
            loop.stop()
        for end in reversed(self.on_close):
            end()


def build(settings: Settings, url: str) -> Platform:
    """The platform of these settings; `url` is where programs on it reach the control plane."""
    home = settings.home
    for folder in ("run", "log", "objects", "checkpoints"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    upgrade(database)
    leadership = Leadership(database, home / "run")
    loops = Loops(now, leadership.is_leader)

    access = AccessService(database, now)
    projects = ProjectService(database, access, now)
    secrets = SecretService(database, read_key(home / "secret.key"), now)
    snapshots = SnapshotService(ObjectStore(home / "objects"), Hosts(parse_hosts(settings.git_hosts)))

    stores = open_stores(settings.mlflow_database, settings.artifacts, projects.exists)
    tracked = RunService(Tracking(stores))
    runs = RunRecords(tracked.tracking)
    stored = data(
        database=database,
        database_url=settings.database,
        home=home,
        catalogue=settings.catalogue,
        secret=secrets.value,
        wake=loops.wake,
        now=now,
    )
    webhooks = Webhooks(hosts_of_webhooks(settings.webhook_hosts, settings.host))
    local, backends = _backends(settings, database, loops)
    workloads = WorkloadService(database, runs, stored.datasets, backends, now)
    workloads.check_webhook = webhooks.check
    tracked.workloads = workloads
    shared = sharing(
        database=database,
        backends=backends,
        workloads=workloads,
        checkpointed=tracked.tracking.checkpointed,
        recordings=home / "plans",
        wake=loops.wake,
        now=now,
    )

    live = Live(database, now, {"workloads/{workload}/log": LogTail(workloads), "runs/{run}/metrics": MetricTail(tracked.tracking)})
    database.changed = partial(tell, live)

    jobs = JobMaker(access, secrets, stored.datasets, url, str(home / "checkpoints"), experiment_of=runs.experiment_of)
    jobs.extra = resume_from(home / "checkpoints")
    # The backends tell of what happens; looking without being told is for what they could not tell.
    progress = ProgressReconciler(database, backends, runs, jobs, busy_seconds=0.5)
    backends.lose = lambda workload, detail: progress.lose(workload, detail, now())

    def study_changed(project: str | None, study: str) -> None:
        live.publish(f"studies/{study}", {"id": study})
        if project is not None:
            tell(live, project, "study", study)

    studies = tuning(
        database=database,
        snapshots=snapshots,
        workloads=workloads,
        tracking=tracked.tracking,
        checkpoints=home / "checkpoints",
        may_run=settings.single_user,
        changed=study_changed,
        wake=partial(loops.wake, ("studies",)),
        now=now,
    )
    served = inference(
        database=database,
        home=home,
        host=settings.host,
        gateway_port=settings.gateway_port,
        gateways=settings.gateways,
        webhooks=webhooks,
        url=url,
        registry=stores.registry,
        tracking=stores.tracking,
        in_project=in_project,
        runs=tracked,
        workloads=workloads,
        access=access,
        wake=partial(loops.wake, ("packaging", "endpoints")),
        now=now,
        told=database.changed,
        waits=shared.admission.waiting,
        all_waiting=lambda: shared.admission.latest[1].waiting if shared.admission.latest else {},
    )
    studies.registered.models = served.models
    live.tails["endpoints/{endpoint}"] = MarkTail("endpoint", served.watching.answered)
    notifications = Notifications(_notifiers(settings, url, webhooks))

    # Who hears of every change of a workload, and of its end; called in the thread that made the change.
    def changed(workload: Workload) -> None:
        loops.wake(concerned(workload, asks_on=studies.reconciler.asks_on))
        live.publish(f"projects/{workload.project}/workloads", {"id": workload.id, "state": workload.state})
        stored.datasets.workload_changed(workload)
        shared.service.workload_changed(workload)

    def ended(workload: Workload) -> None:
        notifications.ended(workload)
        shared.durations.ended(workload)

    workloads.changed = shared.admission.changed = progress.changed = changed
    progress.ended = ended

    policy = parse_policy(settings.retention)
    retention = RetentionService(database, home, backends, [partial(used_objects, database, snapshots)], now, policy)
    loops.add(shared.admission, progress, studies.reconciler, CompactionReconciler(tracked), *stored.reconcilers, *served.reconcilers)
    if settings.retention:
        loops.add(RetentionReconciler(retention))

    registry = CollectorRegistry()
    registry.register(health.WorkloadCollector(workloads.counts))
    features = [
        Feature(router=health.router(database, {"reconcilers": loops.are_well}, registry), rules=health.RULES),
        Feature(router=access_routes.router(access), rules=access_routes.RULES),
        Feature(router=project_routes.router(projects), rules=project_routes.RULES),
        Feature(router=secret_routes.router(secrets), rules=secret_routes.RULES),
        Feature(router=audit_routes.router(database), rules=audit_routes.RULES),
        Feature(router=snapshot_routes.router(snapshots), rules=snapshot_routes.RULES),
        Feature(router=retention_routes.router(retention), rules=retention_routes.RULES),
        Feature(router=workload_routes.router(workloads), rules=workload_routes.RULES, resolvers={"workload": workloads.project_of}),
        *stored.features,
        *shared.features,
        *studies.features,
        *tracking_features(tracked, stores, projects.exists),
        *served.features,
    ]
    resolvers = {kind: find for feature in features for kind, find in feature.resolvers.items()}
    features.append(Feature(router=live_routes.router(live, Topics(resolvers)), rules=live_routes.RULES))
    app = create_app(features, access, projects.exists)
    app.add_middleware(Console)
    return Platform(
        settings=settings,
        app=app,
        access=access,
        projects=projects,
        workloads=workloads,
        loops=list(loops),
        on_start=[local.warm, live.start, notifications.start, served.keeper.start],
        on_close=[
            database.close,
            stored.close,
            tracked.tracking.close,
            live.close,
            served.close,
            notifications.close,
            leadership.resign,
            backends.close,
        ],
    )


def _backends(settings: Settings, database: Database, loops: Loops) -> tuple[LocalBackend, Clusters]:
    """The backend of this machine, and with it those of the settings and those that were added."""
    home, changed = settings.home, partial(loops.wake, ("progress",))
    preload = PRELOAD if settings.preload is None else settings.preload
    local = LocalBackend(home, simulate_gpus=settings.simulate_gpus, on_change=changed, preload=preload)
    fixed: dict[str, tuple[Backend, Connected]] = {"local": (local, Connected(name="local", kind="local", address="this machine"))}
    if settings.ray_address:
        of_settings = Connected(name="ray", kind="ray", address=settings.ray_address)
        fixed["ray"] = (connect_cluster(home, of_settings, changed), of_settings)
    return local, Clusters(database, fixed, lambda row: connect_cluster(home, row, changed), reach_cluster, now)


def connect_cluster(home: Path, row: Connected, on_change: Callable[[], None]) -> Backend:
    """The backend of a cluster; its own imports only where there is one.

    Raises:
        MissingExtra: its packages are not installed.
    """
    from narf.backends.ray.backend import RayBackend

    return RayBackend(home, row.address, name=row.name, on_change=on_change)


def reach_cluster(kind: str, address: str, offline: bool) -> None:
    """Raises BadInput when `address` is none of this kind, or nothing answers there; `offline`: it need not."""
    from narf.backends.ray.backend import reach

    try:
        reach(address)
    except BadInput as error:
        if not (offline and error.code == "unreachable"):
            raise


def _notifiers(settings: Settings, url: str, webhooks: Webhooks) -> list[Notifier]:
    notifiers: list[Notifier] = [Webhook(lambda workload: f"{url}/p/{workload.project}/workloads/{workload.id}", webhooks)]
    if settings.smtp_relay and settings.mail_domain:
        notifiers.append(Email(relay=settings.smtp_relay, domain=settings.mail_domain, sender=f"narf@{settings.mail_domain}"))
    if desktop := Desktop.found(os.environ) if settings.single_user else None:
        notifiers.append(desktop)
    return notifiers


def serve(settings: Settings) -> None:
    """Run the control plane until SIGTERM or SIGINT. Leaves run/server.json while it is up.

    Raises:
        NarfError: the port is taken, or the address may not be used.
    """
    sock = listen(settings.host, settings.port)
    url = url_of(sock, settings.host)
    platform = build(settings, url)
    try:
        check_address(settings.host, platform.access)
        place = settings.home / "run" / "server.json"
        admin = prepare(platform.access, platform.projects, known_token(place))
        platform.start()
        write_server_file(place, url, admin, now())
        config = uvicorn.Config(
            platform.app,
            log_config=None,
            access_log=False,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            timeout_graceful_shutdown=5,
        )
        server = uvicorn.Server(config)
        _log.info("serving %s", url)
        server.run(sockets=[sock])
    finally:
        platform.close()


def main() -> None:
    """The process that `narf up` starts. Errors a person can mend go to standard error as JSON, for it to show."""
    try:
        settings = read_settings()
        configure_logging(settings.log_level)
        signal.signal(signal.SIGTERM, _stop)
        serve(settings)
    except NarfError as error:
        body = {"code": error.code, "detail": error.sentence, "remedy": error.remedy}
        sys.stderr.write(json.dumps({"error": body}) + "\n")
        sys.exit(1)


def _stop(_signal: int, _frame: FrameType | None) -> None:
    """Until uvicorn takes over the signal: end at once."""
    sys.exit(0)


if __name__ == "__main__":
    main()
