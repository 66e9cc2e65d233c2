"""The shared cluster: quotas, who waits and why, what was decided, and what would happen if."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import Connection

from narf.control.audit.store import record as audit
from narf.control.cluster import store
from narf.control.cluster.quotas import DEPARTMENT, check_family, family_warnings, promised
from narf.control.cluster.store import Decided, QueueQuota
from narf.control.database import Database
from narf.control.projects.store import department_of, list_projects
from narf.control.workloads import store as workloads
from narf.control.workloads.admission import AdmissionReconciler
from narf.domain.access import Principal
from narf.domain.errors import BadInput, NotFound
from narf.domain.workload import Resources, Workload, WorkloadState
from narf.scheduling.decisions import Plan
from narf.scheduling.explanation import Explanation, amount_of, explain
from narf.scheduling.feasibility import Bounds, check_bounds, check_fits, check_flavor
from narf.scheduling.forward import MOST_STEPS, StartForecast, forecast_starts, with_expected
from narf.scheduling.planner import plan
from narf.scheduling.recording import record
from narf.scheduling.requests import Node, Queue, Request
from narf.scheduling.snapshot import WHOLE, Snapshot
from narf.scheduling.waiting import reasons_of

HALF_LIFE = timedelta(days=7)
MOST_RECORDINGS = 200
ARRIVALS, MOST_ARRIVALS = timedelta(days=1), 200
MOST_FORECAST = 400  # workloads alive; beyond, a forecast would take longer than anybody waits for it


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """One queue as it stands: what it holds and waits for, beside what it may. Amounts by resource name."""

    name: str
    parent: str | None
    quota: Mapping[str, float]
    limit: Mapping[str, float]
    weight: float
    held: Mapping[str, float]
    running: int
    waiting: int
    usage_gpu_hours: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldStart:
    """When one waiting workload starts as things are and when if; `explained` says why one that was asked about would wait."""

    workload: str
    project: str
    before: StartForecast | None
    after: StartForecast | None
    explained: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """`is_rough`: so much waits that only what starts within the next few decisions was looked for.

    warnings: where the quotas that were asked about contradict the cluster or each other.
    """

    starts: tuple[WouldStart, ...]
    is_rough: bool
    warnings: tuple[str, ...] = ()


class ClusterService:
    """`admission` is the one that decides in production; its snapshot and policy are what is shown and asked here."""

    def __init__(
        self, database: Database, admission: AdmissionReconciler, now: Callable[[], datetime], recordings: Path | None = None
    ) -> None:
        self._database, self._admission, self._now, self._recordings = database, admission, now, recordings
        self._recorded = 0
        self._kept: deque[Path] | None = None  # recordings, the oldest first; None: not looked yet
        self._lock = threading.Lock()
        with database.read() as connection:
            self._waits = store.open_waits(connection)
        self._metered_at: datetime | None = None

    # --- quotas

    def queues(self) -> list[Queue]:
        """The queues for a snapshot: a department above its projects, each with its quota."""
        at = self._now()
        with self._database.read() as connection:
            projects = list_projects(connection, None, limit=100_000)
            quotas = {quota.queue: quota for quota in store.list_quotas(connection)}
            used = store.usage(connection)
        departments = sorted({f"{DEPARTMENT}{project.department}" for project in projects})
        parents: dict[str, str | None] = dict.fromkeys(departments)
        parents |= {project.name: f"{DEPARTMENT}{project.department}" for project in projects}
        made = []
        for name, parent in parents.items():
            quota = quotas.get(name, QueueQuota(queue=name))
            seconds, since = used.get(name, (0.0, at))
            made.append(
                Queue(
                    name=name, parent=parent, quota=quota.quota, limit=quota.limit, weight=quota.weight,
                    usage_gpu_seconds=seconds * 0.5 ** ((at - since) / HALF_LIFE),
                )
            )  # fmt: skip
        return made

    def quotas(self) -> list[QueueQuota]:
        """Of every queue, set or not, departments first."""
        return [QueueQuota(queue=q.name, parent=q.parent, quota=q.quota, limit=q.limit, weight=q.weight) for q in self.queues()]

    def set_quota(self, wanted: QueueQuota, *, by: Principal) -> tuple[QueueQuota, list[str]]:
        """Sets it; the warnings say where quotas contradict the cluster or each other.

        Raises:
            NotFound: no project or department has this name.
            BadInput: an amount is negative, a resource or flavor unknown, or quotas and limits contradict each other.
        """
        queues = {queue.name: queue for queue in self.queues()}
        if wanted.queue not in queues:
            raise NotFound("queue", wanted.queue, remedy=f"Name a project, or a department as {DEPARTMENT}<name>.")
        self._check(wanted)
        self._check_flavors(wanted)
        self._check_family(wanted, queues)
        at = self._now()
        with self._database.write() as connection:
            store.set_quota(connection, wanted, at)
            audit(
                connection,
                at,
                by.user,
                "set",
                "quota",
                wanted.queue,
                quota=dict(wanted.quota),
                limit=dict(wanted.limit),
                weight=wanted.weight,
            )
        current = queues[wanted.queue]
        return replace(wanted, parent=current.parent), _warnings(self._snapshot()[1], self.queues())

    def remove_quota(self, queue: str, *, by: Principal) -> None:
        at = self._now()
        with self._database.write() as connection:
            if not store.remove_quota(connection, queue):
                raise NotFound("quota", queue)
            audit(connection, at, by.user, "remove", "quota", queue)

    def _check(self, wanted: QueueQuota) -> None:
        for noun, amounts in (("quota", wanted.quota), ("limit", wanted.limit)):
            for resource, amount in amounts.items():
                known = resource in ("gpu", "cpu", "memory") or (resource.startswith("gpu:") and len(resource) > 4)
                if not known:
                    raise BadInput(
                        f"There is no resource {resource!r}.", remedy="Use gpu, gpu:<flavor>, cpu or memory.", field=f"{noun}.{resource}"
                    )
                if not 0 <= amount <= 1 << 50:
                    raise BadInput(
                        f"A {noun} of {amount:g} {resource} makes no sense.", remedy="Give 0 or more.", field=f"{noun}.{resource}"
                    )
        if not 0 < wanted.weight <= 1000:
            raise BadInput(f"A weight of {wanted.weight:g} makes no sense.", remedy="Give more than 0 and at most 1000.", field="weight")
        for resource, amount in wanted.quota.items():
            if amount > wanted.limit.get(resource, float("inf")):
                limit = wanted.limit[resource]
                raise BadInput(
                    f"The quota of {amount_of(resource, amount)} is above the limit of {amount_of(resource, limit)}.",
                    remedy="Raise the limit or lower the quota.", field=f"quota.{resource}",
                )  # fmt: skip
        by_flavor = sum(amount for resource, amount in wanted.quota.items() if resource.startswith("gpu:"))
        if by_flavor > wanted.limit.get("gpu", float("inf")):
            raise BadInput(
                f"The quotas by flavor come to {amount_of('gpu', by_flavor)}, above the limit of {amount_of('gpu', wanted.limit['gpu'])}.",
                remedy="Raise the limit or lower the quotas.", field="limit.gpu",
            )  # fmt: skip

    def _check_flavors(self, wanted: QueueQuota) -> None:
        """Raises BadInput: a flavor that no node has and no other quota names. A cluster that may grow may bring any."""
        if self._admission.cluster.may_grow():
            return
        with self._database.read() as connection:
            others = [quota for quota in store.list_quotas(connection) if quota.queue != wanted.queue]
        for noun, amounts in (("quota", wanted.quota), ("limit", wanted.limit)):
            for resource in amounts:
                if resource.startswith("gpu:"):
                    check_flavor(self._admission.nodes_of_late(), _flavors(others), resource.removeprefix("gpu:"), f"{noun}.{resource}")

    def _check_family(self, wanted: QueueQuota, queues: Mapping[str, Queue]) -> None:
        """Raises BadInput: projects are guaranteed more than their department may hold. That could be kept on no cluster."""
        current = queues[wanted.queue]
        changed = {**queues, wanted.queue: replace(current, quota=wanted.quota, limit=wanted.limit)}
        department = changed[current.parent] if current.parent is not None else changed[wanted.queue]
        projects = [queue for queue in changed.values() if queue.parent == department.name]
        noun, mend = ("quota", "Lower the quota") if current.parent is not None else ("limit", "Lower the quotas of its projects")
        check_family(
            department.name.removeprefix(DEPARTMENT), department.limit, (queue.quota for queue in projects),
            field=noun + ".{resource}", remedy=f"{mend}, or raise the limit of the department.",
        )  # fmt: skip

    # --- what is asked

    def check_request(self, project: str, resources: Resources, replicas: int, preemptible: bool) -> None:
        """Raises BadInput for what could never start here, however long it waited: with the largest that could.

        What a cluster that may grow, or one that is away, might hold is let through; `why` says so.
        """
        with self._database.read() as connection:
            quotas = {quota.queue: quota for quota in store.list_quotas(connection)}
            department = department_of(connection, project)
        chain = [project, *([f"{DEPARTMENT}{department}"] if department else [])]
        bounds = [
            Bounds(queue=name, quota=quotas[name].quota, limit=quotas[name].limit)
            if name in quotas
            else Bounds(queue=name, quota={}, limit={})
            for name in chain
        ]
        resource = "gpu" if resources.gpu else "cpu"
        quotas_used = any(quota.quota.get(resource) for quota in quotas.values())
        check_bounds(bounds, resources, replicas, preemptible=preemptible, quotas_used=quotas_used)
        if self._admission.cluster.may_grow():
            return
        nodes, named = self._admission.nodes_of_late(), _flavors(quotas.values())
        check_flavor(nodes, named, resources.flavor, "resources.flavor")
        if resources.flavor in named and all(node.flavor != resources.flavor for node in nodes):
            return  # a quota speaks of it, so its nodes are only away
        check_fits(nodes, resources, replicas)

    # --- what is, and why

    def view(self) -> tuple[Snapshot, list[QueueView]]:
        """The cluster now, with what each queue holds."""
        alive, snapshot = self._snapshot()
        queues = self.queues()
        parent = {queue.name: queue.parent for queue in queues}
        held: dict[str, dict[str, float]] = {queue.name: {} for queue in queues}
        count: dict[tuple[str, bool], int] = {}
        for workload in alive.values():
            name: str | None = workload.project
            while name is not None and name in held:
                running = workload.state.holds_capacity
                count[name, running] = count.get((name, running), 0) + 1
                if running:
                    _add(held[name], workload.resources, workload.replicas)
                name = parent[name]
        views = [
            QueueView(
                name=q.name, parent=q.parent, quota=q.quota, limit=q.limit, weight=q.weight, held=held[q.name],
                running=count.get((q.name, True), 0), waiting=count.get((q.name, False), 0), usage_gpu_hours=q.usage_gpu_seconds / 3600,
            )
            for q in queues
        ]  # fmt: skip
        return snapshot, views

    def troubles(self) -> list[str]:
        """A sentence for each cluster that shows no node now."""
        return sorted(self._admission.cluster.troubles().values())

    def why(self, workload_id: str) -> Explanation | Workload:
        """Why it waits; the workload itself when it does not."""
        alive, snapshot = self._snapshot()
        if workload_id not in alive or alive[workload_id].state is not WorkloadState.QUEUED:
            with self._database.read() as connection:
                found = workloads.find(connection, workload_id)
            if found is None:
                raise NotFound("workload", workload_id)
            return found
        at, policy = self._now().timestamp(), self._admission.policy
        answer = plan(snapshot, policy, at)
        if workload_id not in answer.waiting:
            return alive[workload_id]  # it starts with the next pass
        forecast = self._forecast(snapshot, answer, at, workload_id)
        return explain(snapshot, answer, policy, at, workload_id, forecast, self._admission.cluster.may_grow())

    def _forecast(self, snapshot: Snapshot, answer: Plan, at: float, workload_id: str) -> StartForecast | None:
        if len(snapshot.ids) > MOST_FORECAST or workload_id in answer.never_fit:
            return None
        return forecast_starts(self._with_arrivals(snapshot, at), self._admission.policy, at, [workload_id]).get(workload_id)

    def _with_arrivals(self, snapshot: Snapshot, at: float) -> Snapshot:
        """With what was submitted in the day before as if it came again: what comes later may go first."""
        since = datetime.fromtimestamp(at, UTC) - ARRIVALS
        with self._database.read() as connection:
            recent = workloads.submitted_since(connection, since, MOST_ARRIVALS)
        if not recent:
            return snapshot
        # Of many, the newest stand for the rate of late; of few, the whole day does.
        window = at - (recent[-1].created_at.timestamp() if len(recent) == MOST_ARRIVALS else since.timestamp())
        return with_expected(
            snapshot,
            [
                Request(
                    id=f"later-{number}", queue=workload.project, resources=workload.resources, replicas=workload.replicas, priority=workload.priority,
                    preemptible=workload.preemptible, submitted_at=workload.created_at.timestamp() + max(window, 1.0) + 1.0,
                    forecast=self._admission.forecast(workload), max_seconds=workload.time_limit_seconds,
                )
                for number, workload in enumerate(recent)
                if workload.created_at.timestamp() <= at
            ],
        )  # fmt: skip

    def history(self, workload_id: str, *, after: datetime | None = None, before: datetime | None = None) -> list[Decided]:
        """What was decided about it and why it waited, oldest first; only what was between `after` and `before`.

        Raises:
            BadInput: that time ends before it begins.
        """
        if after is not None and before is not None and before <= after:
            raise BadInput("That time ends before it begins.", remedy="Give the earlier moment first.", field="before")
        with self._database.read() as connection:
            return store.decided_of(connection, workload_id, after=after, before=before)

    def what_if(
        self, *, add_nodes: Sequence[Node] = (), quota: Mapping[str, float] | None = None, submit: Sequence[Request] = ()
    ) -> WhatIf:
        """When each waiting workload starts as things are, and when if.

        Args:
            quota: GPUs guaranteed, by queue. submit: what waits besides.
        Raises:
            NotFound: no queue of this name. BadInput: a quota is more than the department may hold.
        """
        at, policy, current = self._now().timestamp(), self._admission.policy, self.queues()
        known = {queue.name for queue in current}
        for name in [*(quota or {}), *(request.queue for request in submit)]:
            if name not in known:
                raise NotFound("queue", name, remedy=f"Name a project, or a department as {DEPARTMENT}<name>: narf quota list")
        submitted = [replace(request, submitted_at=at) for request in submit]
        before = self._admission.snapshot_with(current)
        queues = [replace(q, quota={**q.quota, "gpu": quota[q.name]}) if quota and q.name in quota else q for q in current]
        named = {q.name: q for q in queues}
        for name in quota or {}:
            self._check_family(QueueQuota(queue=name, quota=named[name].quota, limit=named[name].limit), named)
        after = self._admission.snapshot_with(queues, nodes=add_nodes, submitted=submitted)
        old = [w for w, phase in zip(before.ids, before.phase_W.tolist(), strict=True) if phase == 0]
        waiting = [w for w, phase in zip(after.ids, after.phase_W.tolist(), strict=True) if phase == 0]
        is_rough = len(after.ids) > MOST_FORECAST
        draws, steps = (3, 8) if is_rough else (20, MOST_STEPS)
        before_, after_ = self._with_arrivals(before, at), self._with_arrivals(after, at)
        now_ = forecast_starts(before_, policy, at, old, draws=draws, steps=steps)
        then = forecast_starts(after_, policy, at, waiting, draws=draws, steps=steps)
        queue_of = {w: after.queue_names[q] for w, q in zip(after.ids, after.queue_W.tolist(), strict=True)}
        answer = plan(after, policy, at)
        new = {request.id for request in submitted}
        growing = self._admission.cluster.may_grow()
        return WhatIf(
            is_rough=is_rough,
            warnings=tuple(_warnings(after, queues)) if quota else (),
            starts=tuple(
                WouldStart(
                    workload=w, project=queue_of[w], before=now_.get(w), after=then.get(w),
                    explained=explain(after, answer, policy, at, w, then.get(w), growing) if w in new and w in answer.waiting else None,
                )
                for w in waiting
            ),
        )  # fmt: skip

    # --- what is told by the reconciler

    def decided(self, snapshot: Snapshot, answer: Plan, applied: frozenset[str], now: datetime) -> None:
        """Keeps what changed: reasons, admissions and preemptions, past use, and the snapshot itself if anything was decided."""
        with self._lock:
            rows, left = self._changes(answer, applied, now)
            with self._database.write() as connection:
                store.end_waits(connection, [*left, *(row.workload for row in rows)], now)
                store.add_decided(connection, rows)
                self._meter(connection, snapshot, now)
            if self._recordings is not None and not answer.is_empty:
                self._record(snapshot, answer, now)

    def workload_changed(self, workload: Workload) -> None:
        """One that was cancelled while it waited: no plan will speak of it again."""
        if workload.state.is_finished:
            with self._lock:
                if self._waits.pop(workload.id, None) is not None:
                    with self._database.write() as connection:
                        store.end_waits(connection, [workload.id], self._now())

    def _changes(self, answer: Plan, applied: frozenset[str], now: datetime) -> tuple[list[Decided], list[str]]:
        """What to add to the history, and who left the queue without an admission."""
        rows = []
        for admit in answer.admits:
            if admit.workload not in applied:
                continue
            self._waits.pop(admit.workload, None)
            detail = {"nodes": [placed.node for placed in admit.placed], "borrowed": admit.borrowed}
            rows.append(Decided(workload=admit.workload, kind="admitted", reason="admitted", from_at=now, detail=detail))
        for preempt in answer.preempts:
            if preempt.workload not in applied:
                continue
            detail = {"beneficiary": preempt.beneficiary, "lost_seconds": preempt.lost_seconds}
            rows.append(Decided(workload=preempt.workload, kind="preempted", reason=preempt.reason, from_at=now, detail=detail))
        reasons = dict(reasons_of(answer))
        still = {*reasons, *(admit.workload for admit in answer.admits)}
        left = sorted(set(self._waits) - still)  # cancelled
        for workload in left:
            del self._waits[workload]
        for workload, reason in reasons.items():
            if self._waits.get(workload) != reason.value:
                self._waits[workload] = reason.value
                waiting = answer.waiting[workload]
                detail = {
                    "position": waiting.position, "resource": waiting.resource, "asked": waiting.asked, "available": waiting.available,
                    "queue": waiting.queue, "blocker": waiting.blocker,
                }  # fmt: skip
                rows.append(Decided(workload=workload, kind="waiting", reason=waiting.reason.value, from_at=now, detail=detail))
        return rows, left

    def _meter(self, connection: Connection, snapshot: Snapshot, now: datetime) -> None:
        """Adds what runs to the past use of its queue, with the half-life; at most once a minute."""
        since, self._metered_at = self._metered_at, self._metered_at or now
        if since is not None and now - since < timedelta(minutes=1):
            return
        self._metered_at = now
        if since is None:
            return
        used: dict[str, float] = {}
        running = snapshot.phase_W == 1
        for queue, gpus in zip(snapshot.queue_W[running].tolist(), (snapshot.gpu_W * snapshot.replicas_W)[running].tolist(), strict=True):
            # A workload that waits wakes the reconciler; what ran alone is not held against anybody.
            seconds = min((now - since).total_seconds(), 3600.0)
            used[snapshot.queue_names[queue]] = used.get(snapshot.queue_names[queue], 0.0) + gpus / WHOLE * seconds
        known, totals = store.usage(connection), {}
        for name, seconds in used.items():
            old, at = known.get(name, (0.0, now))
            totals[name] = old * 0.5 ** ((now - at) / HALF_LIFE) + seconds
        store.set_usage(connection, totals, now)

    def _record(self, snapshot: Snapshot, answer: Plan, now: datetime) -> None:
        assert self._recordings is not None
        self._recordings.mkdir(parents=True, exist_ok=True)
        if self._kept is None:
            self._kept = deque(sorted(self._recordings.glob("*.plan")))
        self._recorded += 1  # two plans may be of one moment
        path = self._recordings / f"{now:%Y%m%dT%H%M%S.%f}-{self._recorded % 10_000:04}.plan"
        path.write_bytes(record(snapshot, self._admission.policy, now.timestamp(), answer.decisions))
        self._kept.append(path)
        while len(self._kept) > MOST_RECORDINGS:
            self._kept.popleft().unlink(missing_ok=True)

    def _snapshot(self) -> tuple[dict[str, Workload], Snapshot]:
        loaded = self._admission.load(idle=True)
        assert loaded is not None
        return loaded


def _flavors(quotas: Iterable[QueueQuota]) -> set[str]:
    """The flavors that quotas and limits name."""
    return {name.removeprefix("gpu:") for quota in quotas for name in (*quota.quota, *quota.limit) if name.startswith("gpu:")}


def _add(held: dict[str, float], resources: Resources, replicas: int) -> None:
    held["gpu"] = held.get("gpu", 0.0) + resources.gpu * replicas
    held["cpu"] = held.get("cpu", 0.0) + resources.cpu * replicas
    held["memory"] = held.get("memory", 0.0) + resources.memory_bytes * replicas
    if resources.flavor:
        name = f"gpu:{resources.flavor}"
        held[name] = held.get(name, 0.0) + resources.gpu * replicas


def _warnings(snapshot: Snapshot, queues: Sequence[Queue]) -> list[str]:
    """Where the quotas promise more than there is."""
    size = {
        "gpu": float(snapshot.node_gpus_N.sum()),
        "cpu": snapshot.node_cpu_N.sum() / WHOLE,
        "memory": float(snapshot.node_memory_N.sum()),
    }
    for f, flavor in enumerate(snapshot.flavors):
        size[f"gpu:{flavor}"] = float(snapshot.node_gpus_N[snapshot.node_flavor_N == f].sum())
    projects = [queue for queue in queues if not queue.name.startswith(DEPARTMENT)]
    departments = [queue for queue in queues if queue.name.startswith(DEPARTMENT)]
    warnings = []
    for noun, promising in (("projects", projects), ("departments", departments)):
        for resource, there in size.items():
            together = sum(promised(queue.quota, resource) for queue in promising)
            if together > there:
                warnings.append(
                    f"The quotas of all {noun} come to {amount_of(resource, together)}; the cluster has {amount_of(resource, there)}."
                )
    for department in departments:
        below = (queue.quota for queue in projects if queue.parent == department.name)
        warnings += family_warnings(department.name.removeprefix(DEPARTMENT), department.quota, below)
    return warnings
