"""Endpoints: deploy a model behind an address, change it, roll it back, and say what is behind it now."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from narf.control.audit.store import record
from narf.control.data.lineage import Edge, Node, NodeKind, add_edge, model_node
from narf.control.database import Database
from narf.control.endpoints import store
from narf.control.endpoints.demand import DemandBoard
from narf.control.endpoints.plan import ReplicaState, Role
from narf.control.endpoints.store import Endpoint, Event, Replica, Revision
from narf.control.models.service import ModelService
from narf.control.models.store import PackageState
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.names import check_name, new_id
from narf.domain.workload import Resources
from narf.wire.endpoints import REPLICA_CPU

DEFAULT_RESOURCES = {"cpu": REPLICA_CPU, "memory_bytes": 0, "gpu": 0.0}
_MOST_REPLICAS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """What somebody asks for. None: as it is, or the default for a new endpoint. canary: percent steps; () all at once."""

    model: str
    name: str = ""
    least: int | None = None
    most: int | None = None
    target: float | None = None
    idle_seconds: float | None = None
    timeout_seconds: float | None = None
    canary: tuple[int, ...] | None = None
    rollout: dict[str, Any] | None = None
    resources: dict[str, Any] | None = None
    webhook: str | None = None
    public: bool | None = None
    shared: bool | None = None
    keep: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    endpoint: Endpoint
    revisions: list[Revision]
    replicas: list[Replica]
    events: list[Event]


class EndpointService:
    """`lock` is held while roles and weights change, here and in the reconciler. `changed`: look again, the table may be another."""

    def __init__(self, database: Database, models: ModelService, demand: DemandBoard, now: Callable[[], datetime]) -> None:
        self._database, self._models, self.demand, self._now = database, models, demand, now
        self.lock = threading.RLock()
        self.changed: Callable[[], None] = lambda: None
        self.check_webhook: Callable[[str], None] = lambda _url: None  # raises BadInput for an address that nothing is sent to
        self.deleted: Callable[[str], None] = lambda _endpoint_id: None
        # (project, resources of a replica, replicas, preemptible): raises BadInput for what could never start
        self.check_fits: Callable[[str, Resources, int, bool], None] = lambda _project, _resources, _replicas, _preemptible: None
        models.in_use = self._uses

    # -- deploy

    def deploy(self, project: str, asked: Deployment, *, by: str) -> Detail:
        """Make the endpoint, or a new revision of the one of this name. It takes traffic as soon as it is ready.

        Raises:
            NotFound: no such model, alias or version. Conflict: the name is another project's, or the version is served already.
        """
        if asked.webhook:
            self.check_webhook(asked.webhook)
        model, version, alias = self._models.resolve(project, asked.model)
        name = check_name(asked.name or model, kind="endpoint")
        package = self._models.package(project, model, version)
        if package.state is PackageState.FAILED:
            raise Conflict(
                f"{model}/{version} could not be packaged: {package.error}",
                remedy=f"Package it again: narf models package {model}/{version}",
            )
        with self.lock:
            with self._database.read() as connection:
                known = store.find_endpoint(connection, name=name)
            if known is not None and known.project != project:
                raise Conflict(f"The name {name!r} is taken.", remedy="Choose another with --name.", field="name")
            changes = self._changes(asked, known)
            self._check_replica(project, changes["resources"])
            now = self._now()
            if known is None:
                known = Endpoint(
                    id=new_id("ep"),
                    project=project,
                    name=name,
                    model=model,
                    alias=alias,
                    created_by=by,
                    created_at=now,
                    last_used=now,
                    **changes,
                )
                with self._database.write() as connection:
                    store.add_endpoint(connection, known)
                    record(connection, now, by, "deploy", "endpoint", name, project=project)
            else:
                with self._database.write() as connection:
                    store.change_endpoint(connection, known.id, model=model, alias=alias, trouble="", last_used=now, **changes)
                    record(connection, now, by, "deploy", "endpoint", name, project=project)
            self.add_revision(known.id, model, version, by=by, because=f"{asked.model} was deployed")
        self.changed()
        return self.detail(known.id)

    def add_revision(self, endpoint_id: str, model: str, version: int, *, by: str, because: str) -> Revision | None:
        """A new revision, in the place of one that has not taken over yet. None: this version has all the traffic already."""
        with self.lock:
            endpoint = self.endpoint(endpoint_id)
            revisions = self.revisions(endpoint_id)
            current = next((r for r in reversed(revisions) if r.role in (Role.ACTIVE, Role.NEW)), None)
            if current is not None and (current.model, current.version) == (model, version) and current.failures == 0:
                return None
            package = self._models.package(endpoint.project, model, version)
            now = self._now()
            revision = Revision(
                id=new_id("rev"),
                endpoint_id=endpoint_id,
                number=max((r.number for r in revisions), default=0) + 1,
                model=model,
                version=version,
                package_id=package.id,
                role=Role.NEW,
                weight=0.0,
                created_by=by,
                created_at=now,
                reason=because,
            )
            with self._database.write() as connection:
                for other in revisions:
                    if other.role is Role.NEW:
                        store.change_revision(connection, other.id, role=Role.RETIRED.value, weight=0.0)
                if endpoint.step_began is not None:  # a canary that a newer revision replaces
                    self._end_canary(connection, endpoint, revisions)
                store.add_revision(connection, revision)
                here = Node(NodeKind.ENDPOINT, f"{endpoint.project}/{endpoint.name}")
                served = Edge(
                    project=endpoint.project, source=model_node(endpoint.project, model, version), target=here, relation="deployed"
                )
                add_edge(connection, served, now)
                store.add_event(connection, endpoint_id, now, "revision", f"Revision {revision.number} ({model}/{version}): {because}.", by)
            return revision

    def _changes(self, asked: Deployment, known: Endpoint | None) -> dict[str, Any]:
        def value(given: Any, old: Any, default: Any) -> Any:
            return given if given is not None else default if known is None else old

        least = value(asked.least, known and known.least, 0)
        most = value(asked.most, known and known.most, max(1, least))
        if not 0 <= least <= most <= _MOST_REPLICAS or most < 1:
            raise BadInput(
                f"{least}..{most} is no range of replicas.", remedy=f"Write it as 0..4; at most {_MOST_REPLICAS}.", field="replicas"
            )
        shared = value(asked.shared, known and known.shared, False)
        resources = DEFAULT_RESOURCES | value(asked.resources, known and known.resources, {})
        if shared and resources != DEFAULT_RESOURCES:
            raise BadInput(
                "A replica that shares a process has no resources of its own.",
                remedy="Leave out --cpu, --memory and --gpu, or do not share.",
                field="resources",
            )
        rollout = dict(value(asked.rollout, known and known.rollout, {}))
        if asked.canary is not None:
            if any(not 0 < step < 100 for step in asked.canary) or list(asked.canary) != sorted(set(asked.canary)):
                raise BadInput("Canary steps are percents between 0 and 100, each larger than the one before.", field="canary")
            rollout["steps"] = list(asked.canary)
        return {
            "least": least,
            "most": most,
            "target": value(asked.target, known and known.target, 16.0),
            "idle_seconds": value(asked.idle_seconds, known and known.idle_seconds, 300.0),
            "timeout_seconds": value(asked.timeout_seconds, known and known.timeout_seconds, 30.0),
            "resources": resources,
            "shared": shared,
            "keep": value(asked.keep, known and known.keep, {}),
            "rollout": rollout,
            "webhook": value(asked.webhook, known and known.webhook, ""),
            "public": value(asked.public, known and known.public, False),
        }

    def _check_replica(self, project: str, asked: Mapping[str, Any]) -> None:
        """Raises BadInput: no node could ever hold one."""
        self.check_fits(project, Resources(cpu=asked["cpu"], memory_bytes=asked["memory_bytes"], gpu=asked["gpu"]), 1, False)

    # -- change

    def change(self, endpoint_id: str, asked: Deployment, *, alias: str | None, by: str) -> Detail:
        """Change limits and policies, and which alias it follows ("" none), without a new revision."""
        if asked.webhook:
            self.check_webhook(asked.webhook)
        with self.lock:
            endpoint = self.endpoint(endpoint_id)
            changes = self._changes(asked, endpoint)
            if asked.resources is not None:
                self._check_replica(endpoint.project, changes["resources"])
            if alias:
                self._models.resolve(endpoint.project, f"{endpoint.model}@{alias}")
            if alias is not None:
                changes["alias"] = alias
            now = self._now()
            with self._database.write() as connection:
                store.change_endpoint(connection, endpoint_id, **changes)
                record(connection, now, by, "change", "endpoint", endpoint.name, project=endpoint.project)
        self.changed()
        return self.detail(endpoint_id)

    def roll_back(self, endpoint_id: str, *, to: int | None = None, by: str, because: str = "rolled back by hand") -> Detail:
        """Back to the revision before, or to number `to`. A canary loses its traffic at once; else the older revision takes over at once
        where it has a replica left, and as soon as it has one otherwise. The endpoint no longer follows its alias.

        Raises:
            Conflict: there is none to go back to.
        """
        with self.lock:
            endpoint = self.endpoint(endpoint_id)
            revisions = self.revisions(endpoint_id)
            now = self._now()
            with self._database.write() as connection:
                if endpoint.step_began is not None and to is None:
                    self._end_canary(connection, endpoint, revisions, failed=because)
                else:
                    target = self._earlier(endpoint, revisions, to)
                    for other in revisions:
                        if other.role is Role.NEW:
                            store.change_revision(connection, other.id, role=Role.RETIRED.value, weight=0.0)
                    if endpoint.step_began is not None:
                        self._end_canary(connection, endpoint, revisions)
                    replicas = store.list_replicas(connection, endpoint_id)
                    at_once = any(r.revision_id == target.id and r.state.answers for r in replicas)
                    if at_once:
                        for other in revisions:
                            if other.role is Role.ACTIVE:
                                retired_at = now if target.number > other.number else None  # forward again: the way back stays warm
                                store.change_revision(connection, other.id, role=Role.RETIRED.value, weight=0.0, retired_at=retired_at)
                    role, weight = (Role.ACTIVE, 100.0) if at_once else (Role.NEW, 0.0)
                    store.change_revision(
                        connection, target.id, role=role.value, weight=weight, failures=0, last_failure=None, reason=because
                    )
                    store.change_endpoint(connection, endpoint_id, last_used=now)
                    store.add_event(
                        connection,
                        endpoint_id,
                        now,
                        "roll_back",
                        f"Back to revision {target.number} ({target.model}/{target.version}): {because}.",
                        by,
                    )
                store.change_endpoint(connection, endpoint_id, alias="", trouble="")
                record(connection, now, by, "roll_back", "endpoint", endpoint.name, project=endpoint.project)
        self.changed()
        return self.detail(endpoint_id)

    def _earlier(self, endpoint: Endpoint, revisions: Sequence[Revision], to: int | None) -> Revision:
        if to is not None:
            found = next((r for r in revisions if r.number == to), None)
            if found is None:
                raise NotFound("revision", f"{endpoint.name}/{to}")
            if found.role in (Role.ACTIVE, Role.NEW):
                raise Conflict(f"Revision {to} of {endpoint.name!r} is the current one.")
            return found
        current = max((r.number for r in revisions if r.role in (Role.ACTIVE, Role.NEW)), default=0)
        earlier = [r for r in revisions if r.role is Role.RETIRED and r.number < current]
        if not earlier:
            raise Conflict(f"Endpoint {endpoint.name!r} has no earlier revision to go back to.")
        # The one that served last. One that was rolled back itself is no place to go back to, unless there is no other.
        never = datetime.min.replace(tzinfo=UTC)
        return max(earlier, key=lambda revision: (revision.retired_at or never, revision.number))

    def promote(self, endpoint_id: str, *, by: str, because: str = "promoted by hand") -> Detail:
        """Give a canary all the traffic now."""
        with self.lock:
            endpoint = self.endpoint(endpoint_id)
            if endpoint.step_began is None:
                raise Conflict(f"Endpoint {endpoint.name!r} has no canary.")
            revisions = self.revisions(endpoint_id)
            now = self._now()
            with self._database.write() as connection:
                active = [r for r in revisions if r.role is Role.ACTIVE]
                for other in active[:-1]:
                    store.change_revision(connection, other.id, role=Role.RETIRED.value, weight=0.0, retired_at=now)
                store.change_revision(connection, active[-1].id, weight=100.0)
                store.change_endpoint(connection, endpoint_id, step=0, step_began=None)
                store.add_event(connection, endpoint_id, now, "promote", f"Revision {active[-1].number} has all traffic: {because}.", by)
                record(connection, now, by, "promote", "endpoint", endpoint.name, project=endpoint.project)
        self.changed()
        return self.detail(endpoint_id)

    def set_share(self, endpoint_id: str, share: int, *, by: str) -> Detail:
        """Give a canary this percentage of the traffic now. It is judged anew at it, and then goes on to the steps above it.

        Raises:
            Conflict: there is no canary. BadInput: not between 0 and 100.
        """
        if not 0 < share < 100:
            raise BadInput(f"{share} is no share of a canary.", remedy="Give 1 to 99; promote it or roll it back instead.", field="share")
        with self.lock:
            endpoint = self.endpoint(endpoint_id)
            if endpoint.step_began is None:
                raise Conflict(f"Endpoint {endpoint.name!r} has no canary.")
            old, *_, new = [r for r in self.revisions(endpoint_id) if r.role is Role.ACTIVE]
            steps = [step for step in endpoint.rollout.get("steps", ()) if step != share]
            before = [step for step in steps[: endpoint.step] if step < share]
            rollout = endpoint.rollout | {"steps": [*before, share, *(step for step in steps if step > share)]}
            now = self._now()
            with self._database.write() as connection:
                store.change_revision(connection, new.id, weight=float(share))
                store.change_revision(connection, old.id, weight=100.0 - share)
                store.change_endpoint(connection, endpoint_id, rollout=rollout, step=len(before), step_began=now)
                store.add_event(
                    connection, endpoint_id, now, "rollout", f"Revision {new.number} takes {share} % of the traffic: set by hand.", by
                )
                record(connection, now, by, "set_share", "endpoint", endpoint.name, project=endpoint.project, share=share)
        self.changed()
        return self.detail(endpoint_id)

    def _end_canary(self, connection: Any, endpoint: Endpoint, revisions: Sequence[Revision], *, failed: str = "") -> None:
        """All traffic back to the older of the two. failed: it was judged bad, and why."""
        active = [r for r in revisions if r.role is Role.ACTIVE]
        old, new = active[0], active[-1]
        if old.id != new.id:
            store.change_revision(connection, old.id, weight=100.0)
            store.change_revision(
                connection, new.id, role=(Role.FAILED if failed else Role.RETIRED).value, weight=0.0, reason=failed or new.reason
            )
            if failed:
                store.add_event(
                    connection, endpoint.id, self._now(), "roll_back", f"Revision {new.number} rolled back: {failed}", "platform"
                )
        store.change_endpoint(connection, endpoint.id, step=0, step_began=None)

    def delete(self, endpoint_id: str, *, by: str) -> None:
        """Take the address away. Its replicas are stopped by the reconciler, which finds them without an endpoint."""
        endpoint = self.endpoint(endpoint_id)
        with self.lock, self._database.write() as connection:
            kept = store.list_replicas(connection, endpoint_id)
            store.delete_endpoint(connection, endpoint_id)
            for replica in kept:  # rows without an endpoint: to be stopped
                store.add_replica(connection, replica)
            record(connection, self._now(), by, "delete", "endpoint", endpoint.name, project=endpoint.project)
        self.demand.forget(endpoint.id)
        self.deleted(endpoint.id)
        self.changed()

    # -- look

    def endpoint(self, endpoint_id: str) -> Endpoint:
        """By id or by name."""
        with self._database.read() as connection:
            found = store.find_endpoint(connection, endpoint_id=endpoint_id) or store.find_endpoint(connection, name=endpoint_id)
        if found is None:
            raise NotFound("endpoint", endpoint_id)
        return found

    def project_of(self, endpoint_id: str) -> str | None:
        try:
            return self.endpoint(endpoint_id).project
        except NotFound:
            return None

    def endpoints(self, project: str) -> list[Detail]:
        with self._database.read() as connection:
            found = store.list_endpoints(connection, project)
            revisions = store.revisions_of(connection, [endpoint.id for endpoint in found])
            replicas = store.list_replicas(connection)
        return [
            Detail(
                endpoint=endpoint,
                revisions=[r for r in revisions if r.endpoint_id == endpoint.id],
                replicas=[r for r in replicas if r.endpoint_id == endpoint.id],
                events=[],
            )
            for endpoint in found
        ]

    def revisions(self, endpoint_id: str) -> list[Revision]:
        with self._database.read() as connection:
            return store.revisions_of(connection, [endpoint_id])

    def detail(self, endpoint_id: str) -> Detail:
        endpoint = self.endpoint(endpoint_id)
        with self._database.read() as connection:
            return Detail(
                endpoint=endpoint,
                revisions=store.revisions_of(connection, [endpoint.id]),
                replicas=store.list_replicas(connection, endpoint.id),
                events=store.events_of(connection, endpoint.id),
            )

    # -- replicas

    def hosted(self, workload_id: str, *, by: Principal) -> list[dict[str, Any]]:
        """What a shared process is to hold: `{"revision", "state", "name", "version", "folder", "fallback", "timeout_seconds"}` of each.

        One that is "starting" is waited for, also where the process has held it all the time.
        """
        if not speaks_for(by, workload_id):
            raise NotAllowed("A replica speaks for itself only.")
        found = []
        with self._database.read() as connection:
            inside = [replica for replica in store.replicas_in(connection, workload_id) if replica.shared]
            asked = [
                (
                    replica,
                    store.find_revision(connection, replica.revision_id),
                    store.find_endpoint(connection, endpoint_id=replica.endpoint_id),
                )
                for replica in inside
            ]
        for replica, revision, endpoint in asked:
            if revision is None or endpoint is None:
                continue
            package = self._models.package(endpoint.project, revision.model, revision.version)
            found.append(
                {
                    "revision": revision.id,
                    "state": replica.state.value,
                    "name": endpoint.name,
                    "version": str(revision.version),
                    "folder": str(self._models.folder_of(package)),
                    "fallback": self._models.package_url(endpoint.project, revision.model, revision.version),
                    "timeout_seconds": endpoint.timeout_seconds,
                }
            )
        return found

    def does_not_start(self, workload_id: str, revision_id: str, sentence: str, *, by: Principal) -> None:
        """A shared process could not load one of its models: it counts as a replica that ended before it was ready."""
        if not speaks_for(by, workload_id):
            raise NotAllowed("A replica speaks for itself only.")
        now = self._now()
        with self._database.write() as connection:
            replica = store.find_replica(connection, workload_id, revision_id)
            revision = store.find_revision(connection, revision_id)
            if replica is None or not replica.shared or revision is None:
                raise NotFound("replica", f"{workload_id}/{revision_id}")
            store.remove_replica(connection, replica)
            store.change_revision(connection, revision.id, failures=revision.failures + 1, last_failure=now)
            store.add_event(
                connection, replica.endpoint_id, now, "replica_lost", f"Revision {revision.number} cannot be loaded: {sentence}", "platform"
            )
        self.changed()

    def replica_is_at(self, workload_id: str, url: str, *, revision_id: str = "", by: Principal) -> None:
        """A replica says where it listens: from now on it takes traffic. Safe to repeat. revision_id: which, of a shared process."""
        if not speaks_for(by, workload_id):
            raise NotAllowed("A replica speaks for itself only.")
        if not url.startswith("http://") or len(url) > 300 or any(c.isspace() for c in url):
            raise BadInput("A replica's address begins with http://.", field="url")
        now = self._now()
        with self._database.write() as connection:
            replica = store.find_replica(connection, workload_id, revision_id)
            if replica is None:
                raise NotFound("replica", workload_id)
            changed = store.change_replica(connection, replica, ReplicaState.READY, now, url=url, only=(ReplicaState.STARTING,))
            if changed:
                store.change_revision(connection, replica.revision_id, failures=0, last_failure=None)
                store.change_endpoint(connection, replica.endpoint_id, trouble="")
        if changed:
            self.changed()

    def _uses(self, project: str, model: str, version: int | None) -> list[str]:
        """Names of the endpoints that serve a model, for the registry to refuse its deletion."""
        with self._database.read() as connection:
            ids = {r.endpoint_id for r in store.revisions_of_version(connection, model, version) if r.role in (Role.ACTIVE, Role.NEW)}
            return [endpoint.name for endpoint in store.list_endpoints(connection, project) if endpoint.id in ids]


def speaks_for(principal: Principal, workload_id: str | None) -> bool:
    """A workload speaks for itself, a person who is admin for all. A workload of an admin is not an admin."""
    return principal.workload_id == workload_id if principal.workload_id is not None else principal.is_admin
