"""The composition root: the only place that chooses implementations and builds the platform from them.

`python -m narf.bootstrap` is the control plane's process; `narf up` starts it detached.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection
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
from narf.control.cluster import routes as cluster_routes
from narf.control.cluster.clusters import Clusters
from narf.control.cluster.durations import Durations
from narf.control.cluster.service import ClusterService
from narf.control.cluster.store import Connected
from narf.control.data import routes as data_routes
from narf.control.data import source_routes
from narf.control.data.lineage import Lineage
from narf.control.data.outbox import CatalogueOutbox
from narf.control.data.service import DatasetService
from narf.control.data.sources import ImportReconciler, SourceService
from narf.control.data.tables import IcebergTables
from narf.control.database import Database
from narf.control.endpoints.feature import inference
from narf.control.first_start import LocalAdmin, check_address, prepare
from narf.control.leader import Leadership
from narf.control.live import routes as live_routes
from narf.control.live.service import Live
from narf.control.live.tails import LogTail, MarkTail, MetricTail
from narf.control.live.topics import Topics, tell
from narf.control.logs import configure_logging
from narf.control.projects import routes as project_routes
from narf.control.projects.service import ProjectService
from narf.control.reconcile import Reconciler, ReconcilerLoop
from narf.control.retention import routes as retention_routes
from narf.control.retention.policy import parse_policy
from narf.control.retention.roots import used_objects
from narf.control.retention.service import RetentionReconciler, RetentionService
from narf.control.schema import upgrade
from narf.control.secrets import routes as secret_routes
from narf.control.secrets.service import SecretService, read_key
from narf.control.snapshots import routes as snapshot_routes
from narf.control.snapshots.hosts import Hosts, parse_hosts
from narf.control.snapshots.service import SnapshotService
from narf.control.studies import routes as study_routes
from narf.control.studies.driven import DrivenStudies
from narf.control.studies.launch import resume_from
from narf.control.studies.reconciler import StudyReconciler
from narf.control.studies.service import StudyService
from narf.control.studies.tracked import RegisteredModels, TrackedMetrics, TrackedParents
from narf.control.tracking.feature import CompactionReconciler, tracking_features
from narf.control.tracking.service import RunRecords, RunService
from narf.control.web import Console
from narf.control.workloads import routes as workload_routes
from narf.control.workloads.admission import AdmissionReconciler, Cluster
from narf.control.workloads.concern import concerned
from narf.control.workloads.jobs import JobMaker
from narf.control.workloads.notify import Desktop, Email, Notifications, Notifier, Webhook
from narf.control.workloads.progress import ProgressReconciler
from narf.control.workloads.service import WorkloadService
from narf.data.catalogue import open_catalogue
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

    access = AccessService(database, now)
    projects = ProjectService(database, access, now)
    secrets = SecretService(database, read_key(home / "secret.key"), now)
    snapshots = SnapshotService(ObjectStore(home / "objects"), Hosts(parse_hosts(settings.git_hosts)))

    loops: dict[str, ReconcilerLoop] = {}

    def wake(names: Collection[str] = ("packaging", "endpoints")) -> None:
        """A workload, or by default a model or endpoint, has changed: those that decide from it look at once."""
        for name in loops.keys() & set(names):
            loops[name].wake()

    job_changed = partial(wake, ("progress",))
    local = LocalBackend(
        home, simulate_gpus=settings.simulate_gpus, on_change=job_changed, preload=PRELOAD if settings.preload is None else settings.preload
    )
    fixed: dict[str, tuple[Backend, Connected]] = {"local": (local, Connected(name="local", kind="local", address="this machine"))}
    if settings.ray_address:
        of_settings = Connected(name="ray", kind="ray", address=settings.ray_address)
        fixed["ray"] = (connect_cluster(home, of_settings, job_changed), of_settings)
    backends = Clusters(database, fixed, lambda row: connect_cluster(home, row, job_changed), reach_cluster, now)
    stores = open_stores(settings.mlflow_database, settings.artifacts, projects.exists)
    tracked = RunService(Tracking(stores))
    runs = RunRecords(tracked.tracking)
    tables = IcebergTables(settings.database, home / "data" / "iceberg")
    data = DatasetService(database, home / "data", now, register_table=tables.register)
    lineage = Lineage(database, now)
    outbox = CatalogueOutbox(database, open_catalogue(settings.catalogue, home / "catalogue"))
    data.registered = lambda: loops[outbox.name].wake()
    sources = SourceService(database, data, secrets.value, now)
    sources.wake = lambda: loops[ImportReconciler.name].wake()
    imports = ImportReconciler(database, sources, data, now)
    workloads = WorkloadService(database, runs, data, backends, now)
    tracked.workloads = workloads
    live = Live(database, now, {"workloads/{workload}/log": LogTail(workloads), "runs/{run}/metrics": MetricTail(tracked.tracking)})
    database.changed = partial(tell, live)
    cluster = Cluster(backends, backends.growing)
    admission = AdmissionReconciler(database, cluster, list)
    shared = ClusterService(database, admission, now, home / "plans")
    durations = Durations(database)
    admission.queues, admission.decided, admission.forecast = shared.queues, shared.decided, durations.forecast
    admission.checkpointed = tracked.tracking.checkpointed
    workloads.check_fits = shared.check_request
    jobs = JobMaker(access, secrets, data, url, str(home / "checkpoints"), experiment_of=runs.experiment_of)
    jobs.extra = resume_from(home / "checkpoints")
    # The backends tell of what happens; looking without being told is for what they could not tell.
    progress = ProgressReconciler(database, backends, runs, jobs, busy_seconds=0.5)
    backends.lose = lambda workload, detail: progress.lose(workload, detail, now())

    def clusters_changed() -> None:
        cluster.look_again()
        wake(("admission", "progress"))

    backends.changed = clusters_changed
    notifications = Notifications(_notifiers(settings, url))
    policy = parse_policy(settings.retention)
    retention = RetentionService(database, home, backends, [partial(used_objects, database, snapshots)], now, policy)

    # Who hears of every change of a workload, and of its end; called in the thread that made the change.
    on_changed: list[Callable[[Workload], None]] = [
        lambda workload: wake(concerned(workload)),
        lambda workload: live.publish(f"projects/{workload.project}/workloads", {"id": workload.id, "state": workload.state}),
        data.workload_changed,
        shared.workload_changed,
    ]
    on_ended: list[Callable[[Workload], None]] = [notifications.ended, durations.ended]

    registered = RegisteredModels()
    studies = StudyService(database, snapshots, workloads, runs, registered, now, may_run=settings.single_user)
    searches = StudyReconciler(database, workloads, TrackedMetrics(tracked.tracking), runs, TrackedParents(tracked.tracking))

    def study_changed(study_id: str) -> None:
        loops[searches.name].wake()
        live.publish(f"studies/{study_id}", {"id": study_id})
        if (project := studies.project_of(study_id)) is not None:
            tell(live, project, "study", study_id)

    driven = DrivenStudies(database, runs, now)
    studies.changed = searches.changed = driven.changed = study_changed

    def changed(workload: Workload) -> None:
        for hear in on_changed:
            hear(workload)

    def ended(workload: Workload) -> None:
        for hear in on_ended:
            hear(workload)

    served = inference(
        database=database,
        home=home,
        host=settings.host,
        gateway_port=settings.gateway_port,
        url=url,
        registry=stores.registry,
        tracking=stores.tracking,
        in_project=in_project,
        runs=tracked,
        workloads=workloads,
        access=access,
        wake=wake,
        now=now,
        told=database.changed,
        waits=admission.waiting,
    )
    registered.models = served.models
    live.tails["endpoints/{endpoint}"] = MarkTail("endpoint", served.watching.answered)
    workloads.changed = admission.changed = progress.changed = changed
    progress.ended = ended
    reconcilers: list[Reconciler] = [outbox, imports, admission, progress, searches, CompactionReconciler(tracked), *served.reconcilers]
    if settings.retention:
        reconcilers.append(RetentionReconciler(retention))
    for reconciler in reconcilers:
        loops[reconciler.name] = ReconcilerLoop(reconciler, now, leadership.is_leader)

    registry = CollectorRegistry()
    registry.register(health.WorkloadCollector(workloads.counts))
    features = [
        Feature(
            router=health.router(database, {"reconcilers": lambda: not any(loop.is_late for loop in loops.values())}, registry),
            rules=health.RULES,
        ),
        Feature(router=access_routes.router(access), rules=access_routes.RULES),
        Feature(router=project_routes.router(projects), rules=project_routes.RULES),
        Feature(router=secret_routes.router(secrets), rules=secret_routes.RULES),
        Feature(router=audit_routes.router(database), rules=audit_routes.RULES),
        Feature(router=data_routes.router(data, lineage), rules=data_routes.RULES),
        Feature(router=source_routes.router(sources), rules=source_routes.RULES, resolvers={"import": sources.project_of}),
        Feature(router=snapshot_routes.router(snapshots), rules=snapshot_routes.RULES),
        Feature(router=retention_routes.router(retention), rules=retention_routes.RULES),
        Feature(router=cluster_routes.router(shared, backends), rules=cluster_routes.RULES),
        Feature(
            router=workload_routes.router(workloads),
            rules=workload_routes.RULES,
            resolvers={"workload": workloads.project_of},
        ),
    ]
    features.append(Feature(router=study_routes.router(studies, driven), rules=study_routes.RULES, resolvers={"study": studies.project_of}))
    features += tracking_features(tracked, stores, projects.exists)
    features += served.features
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
        loops=list(loops.values()),
        on_start=[local.warm, live.start, notifications.start, served.keeper.start],
        on_close=[
            database.close,
            tables.close,
            tracked.tracking.close,
            live.close,
            served.close,
            notifications.close,
            leadership.resign,
            backends.close,
        ],
    )


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


def _notifiers(settings: Settings, url: str) -> list[Notifier]:
    notifiers: list[Notifier] = [Webhook(lambda workload: f"{url}/p/{workload.project}/workloads/{workload.id}")]
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
    port = sock.getsockname()[1]
    host = settings.host if settings.host not in ("0.0.0.0", "::") else "127.0.0.1"
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    platform = build(settings, url)
    try:
        check_address(settings.host, platform.access)
        place = settings.home / "run" / "server.json"
        admin = prepare(platform.access, platform.projects, _known_token(place))
        platform.start()
        write_server_file(place, url, admin)
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


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(1024)
    except OSError as error:
        sock.close()
        raise NarfError(
            f"The address {host}:{port} cannot be used: {error.strerror}.",
            remedy="Another program listens there. Choose a port: narf up --port 0",
            code="port_in_use",
        ) from error
    sock.setblocking(False)
    return sock


def write_server_file(place: Path, url: str, admin: LocalAdmin) -> None:
    body = {"url": url, "token": admin.token, "user": admin.user, "pid": os.getpid(), "started_at": now().isoformat()}
    temporary = place.with_suffix(f".{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(body, file)
    os.replace(temporary, place)


def _known_token(place: Path) -> str:
    try:
        return str(json.loads(place.read_text()).get("token", ""))
    except (FileNotFoundError, ValueError):
        return ""


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
