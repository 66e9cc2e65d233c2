"""Brings endpoints to what they should be: replicas started and stopped, aliases followed, rollouts moved on or back."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from narf.control.database import Database
from narf.control.endpoints import plan, rollout, sharing, store
from narf.control.endpoints.alerts import Alerts
from narf.control.endpoints.plan import MOST_FAILURES, Drain, ReplicaState, Role, Start, Stop
from narf.control.endpoints.scaling import Idler, Limits, wanted_replicas, who_sleeps
from narf.control.endpoints.service import EndpointService
from narf.control.endpoints.store import Endpoint, Replica, Revision
from narf.control.models.environment import Environment
from narf.control.models.service import ModelService
from narf.control.models.store import Package, PackageState
from narf.control.workloads.service import Submission, WorkloadService
from narf.domain.errors import NarfError, NotFound
from narf.domain.workload import EndReason, Resources, Workload, WorkloadKind, WorkloadState
from narf.scheduling.decisions import Reason, Waiting
from narf.serving.gateway.table import LATENCY_BOUNDS

_log = logging.getLogger(__name__)
_ALIAS_SECONDS = 2.0
SHARED_CPU = 0.2  # a process that holds several small models
_PRIORITY = 50  # people wait for an answer
# What room made by others can mend; of these, where only the project's own can make it.
_ROOM = (Reason.NO_CAPACITY, Reason.FRAGMENTED, Reason.RESERVED, Reason.LIMIT, Reason.OVER_QUOTA)
_LIMITS = (Reason.LIMIT, Reason.OVER_QUOTA)
_START = timedelta(minutes=15)  # a model that is not loaded after so long never will be
_ROOM_SECONDS = plan.DRAIN + timedelta(seconds=2)  # until what was put to sleep has gone
# What a model does to its process; a reboot or a cancel says nothing of it.
_OWN_FAULT = (EndReason.USER_ERROR, EndReason.KILLED_BY_SIGNAL, EndReason.OUT_OF_MEMORY)
_Of = TypeVar("_Of", Revision, Replica)


class EndpointReconciler:
    """`changed` is called when the routing table may be another."""

    name = "endpoints"

    def __init__(
        self,
        database: Database,
        endpoints: EndpointService,
        models: ModelService,
        workloads: WorkloadService,
        alerts: Alerts,
        url: str,
        changed: Callable[[], None],
    ) -> None:
        self._database, self._endpoints, self._models, self._workloads = database, endpoints, models, workloads
        self._alerts, self._url, self.changed = alerts, url, changed
        self.told: Callable[[Endpoint], None] = lambda _endpoint: None  # hears of each endpoint that a pass has moved
        self._looked_at_aliases: datetime | None = None
        self.waits: Callable[[str], Waiting | None] = lambda _workload: None  # why a workload waits, when it does
        self.tidy: Callable[[datetime], None] = lambda _now: None
        self.all_waiting: Callable[[], Mapping[str, Waiting]] = dict  # why each workload waits that does
        self._crowded: bool | None = None
        self._cooled_at: datetime | None = None
        self._made_room: dict[str, datetime] = {}  # for which workload, and when
        self._is_moving = False

    def next_look_seconds(self) -> float:
        return 0.25 if self._is_moving else 1.0

    def pass_once(self, now: datetime) -> bool:
        with self._database.read() as connection:
            endpoints = store.list_endpoints(connection)
            revisions = _by_endpoint(store.revisions_of(connection, [endpoint.id for endpoint in endpoints]))
            replicas = store.list_replicas(connection)
        going_on = self._workloads.unfinished(list({replica.workload_id for replica in replicas}))
        moved = self._moved_aliases(endpoints, revisions, now)
        self._is_moving, self._crowded, did = False, None, False
        of_endpoint = _by_endpoint(replicas)
        for endpoint in endpoints:
            try:
                mine = of_endpoint[endpoint.id]
                follow = endpoint.id in moved
                if not follow and self._rests(endpoint, revisions[endpoint.id], mine, going_on, now):
                    continue
                if self._reconcile(endpoint, mine, now, follow=follow):
                    did = True
                    self.told(endpoint)
            except NarfError:
                # One endpoint's trouble (a package gone, a queue closed) must not hold up the others.
                _log.exception("endpoint %s could not be reconciled", endpoint.name)
        did |= self._make_room(endpoints, revisions, of_endpoint, now)
        known = {endpoint.id for endpoint in endpoints}
        for replica in replicas:
            if replica.endpoint_id not in known:
                self._stop(replica)
                did = True
        if did:
            self.changed()
        self.tidy(now)
        return did

    def _moved_aliases(self, endpoints: Sequence[Endpoint], revisions: Mapping[str, Sequence[Revision]], now: datetime) -> set[str]:
        """Endpoints whose alias names another version than their newest revision. All of them are asked for at once, now and then."""
        looked = self._looked_at_aliases
        following = [endpoint for endpoint in endpoints if endpoint.alias]
        if not following or (looked is not None and timedelta() <= now - looked < timedelta(seconds=_ALIAS_SECONDS)):
            return set()
        self._looked_at_aliases = now
        named = self._models.registry.aliases()
        moved = set()
        for endpoint in following:
            version = named.get((endpoint.project, endpoint.model, endpoint.alias))
            newest = revisions[endpoint.id][-1:]
            if version is not None and not (newest and newest[0].version == version):
                moved.add(endpoint.id)
        return moved

    def _rests(
        self, endpoint: Endpoint, revisions: Sequence[Revision], replicas: Sequence[Replica], going_on: Set[str], now: datetime
    ) -> bool:
        """Nothing is to be done for it. Most endpoints are like this most of the time, so it is told without another query."""
        if endpoint.step_began is not None or any(revision.role is Role.NEW for revision in revisions):
            return False
        if any(replica.state is not ReplicaState.READY or replica.workload_id not in going_on for replica in replicas):
            return False
        if any(replica.id in self._endpoints.demand.unreachable(endpoint.id, now) for replica in replicas):
            return False
        if not endpoint.trouble and any(r.role is Role.ACTIVE and r.failures >= MOST_FAILURES for r in revisions):
            return False
        wanted = self._wanted(endpoint, now)
        planned = _planned(revisions)
        warm = self._warm(endpoint, planned, now)
        return not plan.replica_actions(planned, [_planned_replica(r) for r in replicas], wanted, now, warm=warm)

    def _reconcile(self, endpoint: Endpoint, replicas: list[Replica], now: datetime, *, follow: bool) -> bool:
        did = False
        replicas, lost = self._without_ended(endpoint, replicas, now)
        did |= lost
        replicas, gone = self._without_unreachable(endpoint, replicas, now)
        did |= gone
        if follow:
            did |= self._follow(endpoint)
        wanted = self._wanted(endpoint, now)
        with self._endpoints.lock:
            endpoint = self._endpoints.endpoint(endpoint.id)
            did |= self._move(endpoint, replicas, wanted, now)
        endpoint = self._endpoints.endpoint(endpoint.id)
        revisions = self._endpoints.revisions(endpoint.id)
        for_new = 1 if _by_canary(endpoint, revisions) else max(1, wanted)
        planned = _planned(revisions)
        warm = self._warm(endpoint, planned, now)
        there = [_planned_replica(r) for r in replicas]
        actions = plan.replica_actions(planned, there, wanted, now, for_new=for_new, warm=warm)
        for action in actions:
            did |= self._apply(endpoint, revisions, replicas, action, now)
        live = (ReplicaState.STARTING, ReplicaState.DRAINING)
        self._is_moving |= bool(actions) or endpoint.step_began is not None or any(replica.state in live for replica in replicas)
        return did

    def _warm(self, endpoint: Endpoint, revisions: Sequence[plan.Revision], now: datetime) -> frozenset[str]:
        has_gpu = endpoint.resources["gpu"] > 0
        warm = partial(plan.warm_revisions, revisions, now, has_gpu=has_gpu, cooled_at=self._cooled_at)
        kept = warm(crowded=False)
        return warm(crowded=True) if kept and self._is_crowded() else kept

    def _is_crowded(self) -> bool:
        """Whether a workload waits for room. Found out at most once in a pass; what was decided last may wait no more."""
        if self._crowded is None:
            wait = [name for name, why in self.all_waiting().items() if why.reason in _ROOM and why.reason not in _LIMITS]
            self._crowded = bool(wait) and bool(self._workloads.unfinished(wait))
        return self._crowded

    def _wanted(self, endpoint: Endpoint, now: datetime) -> int:
        last_used = max(filter(None, (endpoint.last_used, self._endpoints.demand.last_used(endpoint.id))), default=None)
        if last_used is not None and (endpoint.last_used is None or last_used - endpoint.last_used > timedelta(seconds=30)):
            with self._database.write() as connection:
                store.change_endpoint(connection, endpoint.id, last_used=last_used)
        limits = Limits(least=endpoint.least, most=endpoint.most, target=endpoint.target, idle=timedelta(seconds=endpoint.idle_seconds))
        history = self._endpoints.demand.history(endpoint.id)
        if (slept_at := self._endpoints.demand.slept_at(endpoint.id)) is not None:
            history = [demand for demand in history if demand.at > slept_at]
            last_used = last_used if last_used is not None and last_used > slept_at else None
        return wanted_replicas(history, limits, now, last_used=last_used)

    def _make_room(
        self,
        endpoints: Sequence[Endpoint],
        revisions: Mapping[str, Sequence[Revision]],
        replicas: Mapping[str, Sequence[Replica]],
        now: datetime,
    ) -> bool:
        """For each replica that waits for room, one endpoint that rests is put to sleep before its time, if there is one."""
        waiting: list[tuple[Endpoint, str, Waiting]] = []
        for endpoint in endpoints:
            for replica in replicas[endpoint.id]:
                if replica.state is ReplicaState.STARTING and (why := self.waits(replica.workload_id)) and why.reason in _ROOM:
                    waiting.append((endpoint, replica.workload_id, why))
        self._made_room = {workload: at for workload, at in self._made_room.items() if now - at < _ROOM_SECONDS}
        waiting = [item for item in waiting if item[1] not in self._made_room]
        if not waiting:
            return False
        self._cooled_at = now
        idlers = {
            idler.endpoint: (endpoint, idler)
            for endpoint in endpoints
            if (idler := self._idler(endpoint, revisions[endpoint.id], replicas[endpoint.id])) is not None
        }
        did = False
        for endpoint, workload_id, why in waiting:
            if workload_id in self._made_room:  # several wait for the same shared process
                continue
            in_project = why.reason in _LIMITS
            idler = who_sleeps([idler for _, idler in idlers.values()], endpoint.project, why.resource, now, in_project=in_project)
            if idler is None:
                continue
            resting, _ = idlers.pop(idler.endpoint)
            self._made_room[workload_id] = now
            self._endpoints.demand.put_to_sleep(resting.id, now)
            rested = (now - idler.last_used).total_seconds()
            whose = f"endpoint {endpoint.name!r}" if endpoint.project == resting.project else "another endpoint"
            with self._database.write() as connection:
                sentence = f"Put to sleep after {rested:.0f} s without a request: {whose} waits for room."
                store.add_event(connection, resting.id, now, "sleep", sentence, "platform")
            did = True
        return did

    def _idler(self, endpoint: Endpoint, revisions: Sequence[Revision], replicas: Sequence[Replica]) -> Idler | None:
        """The endpoint as one that may sleep; None: it may not, has nothing to give, or something moves."""
        moves = endpoint.step_began is not None or any(revision.role is Role.NEW for revision in revisions)
        if endpoint.least or not replicas or moves or any(replica.state is not ReplicaState.READY for replica in replicas):
            return None
        ready_at = max(replica.since for replica in replicas)
        held = 0 if all(replica.shared for replica in replicas) else 1  # a shared process stays for the others
        used = [ready_at, endpoint.last_used, self._endpoints.demand.last_used(endpoint.id)]
        return Idler(
            endpoint=endpoint.id,
            project=endpoint.project,
            cpu=held * endpoint.resources["cpu"],
            memory_bytes=held * endpoint.resources["memory_bytes"],
            gpu=held * endpoint.resources["gpu"],
            last_used=max(at for at in used if at is not None),
        )

    def _without_ended(self, endpoint: Endpoint, replicas: list[Replica], now: datetime) -> tuple[list[Replica], bool]:
        """Those whose workloads go on; the others are forgotten, and those that never became ready count against their revision."""
        left, did = [], False
        for replica in replicas:
            try:
                workload = self._workloads.workload(replica.workload_id)
            except NotFound:
                workload = None
            if workload is not None and not workload.state.is_finished:
                if replica.state is ReplicaState.STARTING and _hangs_at_its_start(replica, workload, now):
                    replica, did = self._give_up(endpoint, replica, now), True
                left.append(replica)
                continue
            did = True
            with self._database.write() as connection:
                store.remove_replica(connection, replica)
                revision = store.find_revision(connection, replica.revision_id)
                if replica.state is ReplicaState.STARTING and revision is not None:
                    store.change_revision(connection, revision.id, failures=revision.failures + 1, last_failure=now)
                blamed = workload is not None and workload.end_reason in _OWN_FAULT
                if replica.state is not ReplicaState.DRAINING and endpoint.shared and revision is not None and blamed:
                    until = sharing.apart_until(revision.apart_until, now, was_shared=replica.shared)
                    store.change_revision(connection, revision.id, apart_until=until)
                if replica.state is not ReplicaState.DRAINING:
                    why = workload.sentence() if workload else "Its workload is gone."
                    sentence = f"Replica {replica.workload_id} ended: {why}"
                    store.add_event(connection, endpoint.id, now, "replica_lost", sentence, "platform")
                    self._alerts.send_seldom(endpoint, "replica_lost", sentence, now, workload=replica.workload_id)
        return left, did

    def _give_up(self, endpoint: Endpoint, replica: Replica, now: datetime) -> Replica:
        """One whose program runs and whose model is not loaded after so long. It counts as one that ended before it was ready."""
        sentence = f"Replica {replica.workload_id} has run for {_START.total_seconds() / 60:.0f} minutes and its model is not loaded; it is replaced. "
        sentence += f"What it does: narf logs {replica.workload_id}"
        with self._database.write() as connection:
            store.change_replica(connection, replica, ReplicaState.DRAINING, now, only=(ReplicaState.STARTING,))
            revision = store.find_revision(connection, replica.revision_id)
            if revision is not None:
                apart = sharing.apart_until(revision.apart_until, now, was_shared=False) if endpoint.shared else revision.apart_until
                store.change_revision(connection, revision.id, failures=revision.failures + 1, last_failure=now, apart_until=apart)
            store.add_event(connection, endpoint.id, now, "replica_lost", sentence, "platform")
        self._alerts.send_seldom(endpoint, "replica_lost", sentence, now, workload=replica.workload_id)
        return replace(replica, state=ReplicaState.DRAINING, since=now)

    def _without_unreachable(self, endpoint: Endpoint, replicas: list[Replica], now: datetime) -> tuple[list[Replica], bool]:
        """A ready replica that gateways get no answer from is out of the table now, to be stopped and replaced."""
        unreachable = self._endpoints.demand.unreachable(endpoint.id, now)
        kept, did = [], False
        for replica in replicas:
            if not replica.state.answers or replica.id not in unreachable:
                kept.append(replica)
                continue
            sentence = f"Replica {replica.workload_id} runs and does not answer; it is replaced."
            with self._database.write() as connection:
                store.change_replica(connection, replica, ReplicaState.DRAINING, now, only=(ReplicaState.READY, ReplicaState.LEAVING))
                store.add_event(connection, endpoint.id, now, "replica_lost", sentence, "platform")
            self._alerts.send_seldom(endpoint, "replica_lost", sentence, now, workload=replica.workload_id)
            kept.append(replace(replica, state=ReplicaState.DRAINING, since=now))
            did = True
        return kept, did

    def _follow(self, endpoint: Endpoint) -> bool:
        """A new revision when the alias points elsewhere than the newest one."""
        try:
            model, version, _ = self._models.resolve(endpoint.project, f"{endpoint.model}@{endpoint.alias}")
        except NotFound:
            return False  # the alias was taken away: what serves goes on
        newest = self._endpoints.revisions(endpoint.id)[-1:]
        if newest and newest[0].version == version:
            return False
        because = f"alias {endpoint.alias} was moved to version {version}"
        return self._endpoints.add_revision(endpoint.id, model, version, by="platform", because=because) is not None

    # -- rollouts

    def _move(self, endpoint: Endpoint, replicas: Sequence[Replica], wanted: int, now: datetime) -> bool:
        revisions = self._endpoints.revisions(endpoint.id)
        new = next((revision for revision in revisions if revision.role is Role.NEW), None)
        if new is not None:
            return self._take_over(endpoint, revisions, new, replicas, wanted, now)
        failing = next((r for r in revisions if r.role is Role.ACTIVE and r.failures >= MOST_FAILURES), None)
        if failing is not None and endpoint.step_began is not None:
            self._endpoints.roll_back(
                endpoint.id, by="platform", because=f"its replicas ended {failing.failures} times before they were ready."
            )
            self._alerts.send(
                endpoint, "rolled_back", f"Revision {failing.number} of {endpoint.name} was rolled back: its replicas do not start."
            )
            return True
        if failing is not None and not endpoint.trouble:
            self._trouble(
                endpoint,
                f"its replicas ended {failing.failures} times before they were ready. See: narf endpoints show {endpoint.name}",
                now,
            )
            return True
        if endpoint.step_began is not None:
            return self._step(endpoint, revisions, now)
        return False

    def _take_over(
        self, endpoint: Endpoint, revisions: Sequence[Revision], new: Revision, replicas: Sequence[Replica], wanted: int, now: datetime
    ) -> bool:
        active = [revision for revision in revisions if revision.role is Role.ACTIVE]
        package = self._models.package(endpoint.project, new.model, new.version)
        reason = ""
        if package.state is PackageState.FAILED:
            reason = f"{new.model}/{new.version} could not be packaged: {package.error}"
        elif new.failures >= MOST_FAILURES:
            reason = f"its replicas ended {new.failures} times before they were ready"
        if reason:
            with self._database.write() as connection:
                store.change_revision(connection, new.id, role=Role.FAILED.value, weight=0.0, reason=reason)
                store.add_event(connection, endpoint.id, now, "failed", f"Revision {new.number} failed: {reason}.", "platform")
            if not active:
                self._trouble(endpoint, f"{reason}.", now)
            self._alerts.send(endpoint, "failed", f"Revision {new.number} of {endpoint.name} failed: {reason}.")
            return True
        ready = sum(replica.revision_id == new.id and replica.state.answers for replica in replicas)
        old_ready = sum(replica.revision_id != new.id and replica.state.answers for replica in replicas)
        steps = tuple(endpoint.rollout.get("steps", ()))
        with_canary = _by_canary(endpoint, revisions)
        if ready < (1 if with_canary else max(1, min(old_ready, wanted))):
            self._is_moving = True
            return False
        with self._database.write() as connection:
            if with_canary:
                share = float(steps[0])
                store.change_revision(connection, new.id, role=Role.ACTIVE.value, weight=share)
                store.change_revision(connection, active[0].id, weight=100.0 - share)
                store.change_endpoint(connection, endpoint.id, step=0, step_began=now)
                sentence = f"Revision {new.number} takes {share:g} % of the traffic."
            else:
                store.change_revision(connection, new.id, role=Role.ACTIVE.value, weight=100.0)
                for old in active:
                    retired_at = now if new.number > old.number else None  # None: it is what was rolled back
                    store.change_revision(connection, old.id, role=Role.RETIRED.value, weight=0.0, retired_at=retired_at)
                store.change_endpoint(connection, endpoint.id, step=0, step_began=None, trouble="")
                sentence = f"Revision {new.number} has all traffic."
            store.add_event(connection, endpoint.id, now, "rollout", sentence, "platform")
        return True

    def _step(self, endpoint: Endpoint, revisions: Sequence[Revision], now: datetime) -> bool:
        active = [revision for revision in revisions if revision.role is Role.ACTIVE]
        if len(active) < 2 or endpoint.step_began is None:
            with self._database.write() as connection:
                store.change_endpoint(connection, endpoint.id, step=0, step_began=None)
            return True
        old, new = active[0], active[-1]
        policy = _policy(endpoint.rollout)
        seen = [self._endpoints.demand.answers(endpoint.id, revision.id, endpoint.step_began) for revision in (new, old)]
        verdict = rollout.next_move(policy, endpoint.step, endpoint.step_began, seen[0], seen[1], LATENCY_BOUNDS, now)
        if verdict.move is rollout.Move.HOLD:
            return False
        if verdict.move is rollout.Move.ROLL_BACK:
            self._endpoints.roll_back(endpoint.id, by="platform", because=verdict.because)
            self._alerts.send(endpoint, "rolled_back", f"Revision {new.number} of {endpoint.name} was rolled back: {verdict.because}")
        elif verdict.move is rollout.Move.PROMOTE:
            self._endpoints.promote(endpoint.id, by="platform", because=verdict.because)
            self._alerts.send(endpoint, "promoted", f"Revision {new.number} of {endpoint.name} has all traffic.")
        else:
            share = float(policy.steps[endpoint.step + 1])
            with self._database.write() as connection:
                store.change_revision(connection, new.id, weight=share)
                store.change_revision(connection, old.id, weight=100.0 - share)
                store.change_endpoint(connection, endpoint.id, step=endpoint.step + 1, step_began=now)
                store.add_event(connection, endpoint.id, now, "rollout", f"Revision {new.number}: {verdict.because}", "platform")
        return True

    def _trouble(self, endpoint: Endpoint, sentence: str, now: datetime) -> None:
        with self._database.write() as connection:
            store.change_endpoint(connection, endpoint.id, trouble=sentence)
            store.add_event(connection, endpoint.id, now, "trouble", sentence, "platform")
        self._alerts.send(endpoint, "trouble", f"Endpoint {endpoint.name}: {sentence}")

    # -- replicas

    def _apply(
        self, endpoint: Endpoint, revisions: Sequence[Revision], replicas: Sequence[Replica], action: plan.Action, now: datetime
    ) -> bool:
        if isinstance(action, Start):
            revision = next(revision for revision in revisions if revision.id == action.revision)
            return self._start(endpoint, revision, now)
        replica = next(replica for replica in replicas if replica.id == action.replica)
        if isinstance(action, Drain):
            with self._database.write() as connection:
                here = (ReplicaState.STARTING, ReplicaState.READY, ReplicaState.LEAVING)
                return store.change_replica(connection, replica, ReplicaState.DRAINING, now, only=here)
        assert isinstance(action, Stop)
        if replica.shared:
            self._let_go(replica)
            return True
        self._workloads.cancel(replica.workload_id, by="platform")
        return False

    def _start(self, endpoint: Endpoint, revision: Revision, now: datetime) -> bool:
        package = self._models.package(endpoint.project, revision.model, revision.version)
        if package.state is not PackageState.READY:
            return False
        shared = endpoint.shared and not sharing.must_be_apart(
            platforms_environment=self._models.environment_of(package).is_the_platforms,
            size_bytes=package.size_bytes or 0,
            apart_until=revision.apart_until,
            now=now,
        )
        workload_id = sharing.choose_host(self._hosts(), endpoint.project, revision.id) if shared else None
        if workload_id is None:
            workload_id = self._workloads.submit(
                self._host_submission(endpoint) if shared else self._submission(endpoint, revision, package)
            ).id
        replica = Replica(
            workload_id=workload_id,
            shared=shared,
            endpoint_id=endpoint.id,
            revision_id=revision.id,
            state=ReplicaState.STARTING,
            created_at=now,
            since=now,
        )
        with self._database.write() as connection:
            store.add_replica(connection, replica)
        return True

    def _submission(self, endpoint: Endpoint, revision: Revision, package: Package) -> Submission:
        fallback = self._models.package_url(endpoint.project, revision.model, revision.version)
        asked: dict[str, Any] = endpoint.resources
        arguments = ["--package", str(self._models.folder_of(package)), "--fallback", fallback]
        arguments += ["--name", f"{endpoint.name}@{revision.version}", "--revision", revision.id]
        arguments += ["--timeout", f"{endpoint.timeout_seconds:g}", "--memory-bytes", str(asked["memory_bytes"])]
        return Submission(
            project=endpoint.project,
            owner=endpoint.created_by,
            name=f"{endpoint.name}/{revision.number}",
            kind=WorkloadKind.REPLICA,
            program=self._models.environment_of(package).program("serve", tuple(arguments)),
            resources=Resources(cpu=asked["cpu"], memory_bytes=asked["memory_bytes"], gpu=asked["gpu"]),
            priority=_PRIORITY,
            preemptible=False,
            parent=endpoint.id,
            max_retries=0,
            labels=(("narf.endpoint", endpoint.name), ("narf.revision", revision.id)),
            with_run=False,
        )

    def _host_submission(self, endpoint: Endpoint) -> Submission:
        """A process that asks which models it is to hold."""
        return Submission(
            project=endpoint.project,
            owner=endpoint.created_by,
            name="shared replicas",
            kind=WorkloadKind.REPLICA,
            program=Environment().program("serve", ("--hosted",)),
            resources=Resources(cpu=SHARED_CPU),
            priority=_PRIORITY,
            preemptible=False,
            max_retries=0,
            labels=(("narf.shared", endpoint.project),),
            with_run=False,
        )

    def _hosts(self) -> list[sharing.Host]:
        with self._database.read() as connection:
            shared = [replica for replica in store.list_replicas(connection) if replica.shared]
            projects = {endpoint.id: endpoint.project for endpoint in store.list_endpoints(connection)}
        held: defaultdict[str, list[Replica]] = defaultdict(list)
        for replica in shared:
            held[replica.workload_id].append(replica)
        going_on = self._workloads.unfinished(list(held))
        stays, leaves = (ReplicaState.STARTING, ReplicaState.READY), ReplicaState.LEAVING
        return [
            sharing.Host(
                workload_id=workload_id,
                project=next((projects[replica.endpoint_id] for replica in inside if replica.endpoint_id in projects), ""),
                revisions=tuple(replica.revision_id for replica in inside),
                takes_more=workload_id in going_on and any(r.state in stays for r in inside) and not any(r.state is leaves for r in inside),
            )
            for workload_id, inside in held.items()
        ]

    def _let_go(self, replica: Replica) -> None:
        """Out of its shared process, which ends with the last one."""
        with self._database.write() as connection:
            store.remove_replica(connection, replica)
            left = store.replicas_in(connection, replica.workload_id)
        if not left:
            self._workloads.cancel(replica.workload_id, by="platform")

    def _stop(self, replica: Replica) -> None:
        """Of an endpoint that was deleted."""
        if replica.shared:
            self._let_go(replica)
            return
        try:
            ended = self._workloads.cancel(replica.workload_id, by="platform").state.is_finished
        except NotFound:
            ended = True
        if ended:
            with self._database.write() as connection:
                store.remove_replica(connection, replica)


def _hangs_at_its_start(replica: Replica, workload: Workload, now: datetime) -> bool:
    """What waits for room, or whose environment is being built, does not run yet."""
    if workload.state is not WorkloadState.RUNNING or workload.started_at is None:
        return False
    return now - max(replica.since, workload.started_at) >= _START


def _by_endpoint(items: Iterable[_Of]) -> defaultdict[str, list[_Of]]:
    """By endpoint, in the order they come."""
    groups: defaultdict[str, list[_Of]] = defaultdict(list)
    for item in items:
        groups[item.endpoint_id].append(item)
    return groups


def _by_canary(endpoint: Endpoint, revisions: Sequence[Revision]) -> bool:
    """Whether the new revision takes over in steps. An earlier one, to which somebody rolls back, takes everything at once."""
    steps = bool(endpoint.rollout.get("steps")) and any(revision.role is Role.ACTIVE for revision in revisions)
    return steps and revisions[-1].role is Role.NEW


def _policy(value: dict[str, Any]) -> rollout.Policy:
    default = rollout.Policy()
    return rollout.Policy(
        steps=tuple(value.get("steps", ())),
        least_requests=int(value.get("least_requests", default.least_requests)),
        least=timedelta(seconds=float(value.get("least_seconds", default.least.total_seconds()))),
        most=timedelta(seconds=float(value.get("most_seconds", default.most.total_seconds()))),
        error_margin=float(value.get("error_margin", default.error_margin)),
        latency_factor=float(value.get("latency_factor", default.latency_factor)),
        latency_slack_ms=float(value.get("latency_slack_ms", default.latency_slack_ms)),
    )


def _planned(revisions: Sequence[Revision]) -> list[plan.Revision]:
    return [
        plan.Revision(
            id=r.id,
            number=r.number,
            role=r.role,
            weight=r.weight,
            failures=r.failures,
            last_failure=r.last_failure,
            retired_at=r.retired_at,
        )
        for r in revisions
    ]


def _planned_replica(replica: Replica) -> plan.Replica:
    return plan.Replica(id=replica.id, revision=replica.revision_id, state=replica.state, since=replica.since)
