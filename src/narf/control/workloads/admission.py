"""Admission: the snapshot is loaded, `plan` decides, and what it decided is written, guarded by what was loaded."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from narf.backends.protocol import Backend, Replica
from narf.backends.protocol import Node as BackendNode
from narf.control.database import Database
from narf.control.workloads import store
from narf.control.workloads.store import Attempt
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason, Workload, WorkloadState
from narf.scheduling.decisions import Admit, Hold, Plan, Preempt, Waiting
from narf.scheduling.planner import plan
from narf.scheduling.policy import DEFAULT_POLICY, Policy
from narf.scheduling.requests import Forecast, Node, Phase, Placed, Queue, Request
from narf.scheduling.snapshot import Snapshot, snapshot_of

_log = logging.getLogger(__name__)

_STATES = (
    WorkloadState.QUEUED,
    WorkloadState.ADMITTED,
    WorkloadState.STARTING,
    WorkloadState.RUNNING,
    WorkloadState.PREEMPTING,
)
_CAPACITY_SECONDS = 2.0
_AWAY_SECONDS = 3600.0


class Cluster:
    """The nodes of all backends, asked for at most every two seconds. A node is named "<backend>/<node>".

    A backend that cannot be asked shows no node and has its sentence in `troubles`; the others go on.
    `growing` names the clusters that may get more nodes by themselves.
    """

    def __init__(self, backends: Mapping[str, Backend], growing: Callable[[], Collection[str]] = tuple) -> None:
        self._backends, self._growing = backends, growing
        self._nodes: list[tuple[str, BackendNode]] = []
        self._troubles: dict[str, str] = {}
        self._seen: dict[tuple[str, str], tuple[BackendNode, float]] = {}
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def nodes(self) -> list[tuple[str, BackendNode]]:
        """(backend, node), in a stable order."""
        with self._lock:
            if time.monotonic() - self._read_at > _CAPACITY_SECONDS:
                self._nodes, self._troubles = self._ask()
                self._read_at = time.monotonic()
                self._seen |= {(name, node.name): (node, self._read_at) for name, node in self._nodes}
            return self._nodes

    def nodes_of_late(self) -> list[tuple[str, BackendNode]]:
        """Those too that were there within the hour: a node that starts again must not make what is asked impossible."""
        self.nodes()
        with self._lock:
            oldest = time.monotonic() - _AWAY_SECONDS
            self._seen = {key: (node, at) for key, (node, at) in self._seen.items() if at >= oldest and key[0] in self._backends}
            return [(name, node) for (name, _), (node, _) in self._seen.items()]

    def troubles(self) -> dict[str, str]:
        """By backend, why it shows no node now."""
        self.nodes()
        with self._lock:
            return dict(self._troubles)

    def may_grow(self) -> list[str]:
        """The clusters of which more may come than is seen now: those that grow by themselves, and those that are away."""
        return sorted({*self.troubles(), *self._growing()})

    def look_again(self) -> None:
        """A backend came or went: what is known of the nodes is old."""
        with self._lock:
            self._read_at = float("-inf")

    def _ask(self) -> tuple[list[tuple[str, BackendNode]], dict[str, str]]:
        nodes: list[tuple[str, BackendNode]] = []
        troubles: dict[str, str] = {}
        for name, backend in sorted(self._backends.items()):
            try:
                capacity = backend.capacity()
            except (NarfError, OSError, ValueError) as error:
                troubles[name] = f"The cluster {name!r} cannot be asked for its nodes: {error}"
            else:
                nodes += [(name, node) for node in capacity]
                if not capacity:
                    troubles[name] = f"The cluster {name!r} shows no node now: it cannot be reached, or has none."
        for name in troubles.keys() - self._troubles.keys():
            _log.warning("%s", troubles[name])
        for name in self._troubles.keys() - troubles.keys():
            _log.info("the cluster %s is back", name)
        return nodes, troubles


class AdmissionReconciler:
    """`queues` gives the queues with quota and limits; `decided` is told of every plan and of the workloads that it
    changed, for the explanations kept: what somebody changed meanwhile is decided anew by the next."""

    name = "admission"

    def __init__(
        self,
        database: Database,
        cluster: Cluster,
        queues: Callable[[], Sequence[Queue]],
        *,
        policy: Policy = DEFAULT_POLICY,
        forecast: Callable[[Workload], Forecast | None] = lambda _workload: None,
        decided: Callable[[Snapshot, Plan, frozenset[str], datetime], None] = lambda _snapshot, _plan, _applied, _now: None,
        changed: Callable[[Workload], None] = lambda _workload: None,
    ) -> None:
        self._database, self._cluster = database, cluster
        self._policy, self.decided, self.changed = policy, decided, changed
        self.queues, self.forecast = queues, forecast
        self.checkpointed: Callable[[Sequence[str]], Mapping[str, float]] = lambda _runs: {}  # when each run last wrote a checkpoint
        self.latest: tuple[Snapshot, Plan] | None = None

    def next_look_seconds(self) -> float:
        return 2.0

    def pass_once(self, now: datetime) -> bool:
        waiting = self.load()
        if waiting is None:
            return False
        found, snapshot = waiting
        decided = plan(snapshot, self._policy, now.timestamp())
        self.latest = (snapshot, decided)
        changed = self._apply(found, decided, now)
        self.decided(snapshot, decided, frozenset(workload.id for workload in changed), now)
        return bool(changed)

    def waiting(self, workload_id: str) -> Waiting | None:
        """Why it waited when the last plan was made; None: it did not."""
        return None if self.latest is None else self.latest[1].waiting.get(workload_id)

    @property
    def policy(self) -> Policy:
        return self._policy

    @property
    def cluster(self) -> Cluster:
        return self._cluster

    def nodes(self) -> list[Node]:
        """Those that can be used now, as the scheduler sees them."""
        return [_node(backend, node) for backend, node in self._cluster.nodes()]

    def nodes_of_late(self) -> list[Node]:
        return [_node(backend, node) for backend, node in self._cluster.nodes_of_late()]

    def load(self, *, idle: bool = False) -> tuple[dict[str, Workload], Snapshot] | None:
        """Everything that waits or holds capacity; None when nothing waits, unless `idle`."""
        with self._database.read() as connection:
            alive = store.in_states(connection, _STATES)
            if not idle and not any(workload.state is WorkloadState.QUEUED for workload in alive):
                return None
            placed = store.attempts_of(connection, [w.id for w in alive if w.state is not WorkloadState.QUEUED])
            held = store.holds_now(connection)
        nodes = self.nodes()
        requests = self._requests(alive, placed, held)
        return {workload.id: workload for workload in alive}, snapshot_of(nodes, self.queues(), requests)

    def _requests(
        self, alive: Sequence[Workload], placed: Mapping[str, list[Attempt]], held: Mapping[str, Sequence[Replica]]
    ) -> list[Request]:
        written = self.checkpointed([w.run_id for w in alive if w.run_id and w.state is not WorkloadState.QUEUED])
        return [
            _request(w, placed.get(w.id, []), held.get(w.id, ()), self.forecast(w), written.get(w.run_id) if w.run_id else None)
            for w in alive
        ]

    def snapshot_with(
        self,
        queues: Sequence[Queue],
        *,
        nodes: Sequence[Node] = (),
        submitted: Sequence[Request] = (),
    ) -> Snapshot:
        """The cluster as it is, but with these queues, and with more nodes and more submitted. Answers what-if."""
        with self._database.read() as connection:
            alive = store.in_states(connection, _STATES)
            placed = store.attempts_of(connection, [w.id for w in alive if w.state is not WorkloadState.QUEUED])
            held = store.holds_now(connection)
        requests = [*self._requests(alive, placed, held), *submitted]
        there = self.nodes()
        sizes: Counter[str] = Counter()
        for node in there:
            sizes[node.cluster] += 1 + node.gpus
        largest = max(sizes, key=lambda cluster: (sizes[cluster], cluster), default="")
        return snapshot_of([*there, *(replace(node, cluster=largest) for node in nodes)], queues, requests)

    def _apply(self, found: Mapping[str, Workload], decided: Plan, now: datetime) -> list[Workload]:
        """What was admitted and preempted. A workload that somebody changed since it was loaded is left to the next pass."""
        changed: list[Workload] = []
        holds: dict[str, tuple[Replica, ...]] = {}
        for decision in decided.decisions:
            match decision:
                case Admit():
                    changed += self._admit(found[decision.workload], decision, now)
                case Preempt():
                    changed += self._preempt(found[decision.workload], decision, now)
                case Hold():
                    holds[decision.workload] = tuple(_held(placed) for placed in decision.placed)
        with self._database.write() as connection:
            if store.holds_now(connection) != holds:
                store.replace_holds(connection, holds)
        for workload in changed:
            self.changed(workload)
        return changed

    def _admit(self, workload: Workload, decision: Admit, now: datetime) -> list[Workload]:
        backend = decision.placed[0].node.split("/", 1)[0]
        attempt = Attempt(
            workload_id=workload.id,
            attempt=workload.attempt,
            backend=backend,
            placement=tuple(_replica(placed) for placed in decision.placed),
            admitted_at=now,
        )
        with self._database.write() as connection:
            saved = store.save(connection, replace(workload.to(WorkloadState.ADMITTED), end_reason=None, detail=""), now)
            if saved is not None:
                store.add_attempt(connection, attempt)
        return [saved] if saved is not None else []

    def _preempt(self, workload: Workload, decision: Preempt, now: datetime) -> list[Workload]:
        if workload.state not in (WorkloadState.STARTING, WorkloadState.RUNNING):
            return []
        detail = f"For {decision.beneficiary} ({decision.reason})."
        wanted = replace(workload.to(WorkloadState.PREEMPTING), end_reason=EndReason.PREEMPTED, detail=detail)
        with self._database.write() as connection:
            saved = store.save(connection, wanted, now)
        return [saved] if saved is not None else []


def _node(backend: str, node: BackendNode) -> Node:
    return Node(
        name=f"{backend}/{node.name}",
        cluster=backend,
        cpu=node.cpu,
        memory_bytes=node.memory_bytes,
        gpus=node.gpus,
        gpu_memory_bytes=node.gpu_memory_bytes,
        flavor=node.flavor,
        labels=node.labels,
    )


def _request(
    workload: Workload,
    attempts: Sequence[Attempt],
    held: Sequence[Replica],
    forecast: Forecast | None = None,
    checkpointed_at: float | None = None,
) -> Request:
    current = next((a for a in attempts if a.attempt == workload.attempt), None) if workload.state is not WorkloadState.QUEUED else None
    phase = Phase.PENDING if current is None else Phase.RUNNING
    if workload.state is WorkloadState.PREEMPTING or (workload.cancel_requested and current is not None):
        phase = Phase.STOPPING
    if current is not None:
        placed = tuple(_placed(f"{current.backend}/", replica) for replica in current.placement)
    else:
        placed = tuple(_placed("", replica) for replica in held)
    started_at = (current.started_at or current.admitted_at).timestamp() if current else None
    return Request(
        id=workload.id,
        queue=workload.project,
        resources=workload.resources,
        submitted_at=workload.created_at.timestamp(),
        queued_at=workload.queued_at.timestamp() if workload.queued_at else None,
        replicas=workload.replicas,
        priority=workload.priority,
        preemptible=workload.preemptible,
        attained_seconds=workload.used_seconds,
        phase=phase,
        placed=placed,
        started_at=started_at,
        # One of an earlier attempt says nothing of what this one would lose.
        checkpointed_at=checkpointed_at
        if started_at is not None and checkpointed_at is not None and checkpointed_at >= started_at
        else None,
        max_seconds=workload.time_limit_seconds,
        forecast=forecast,
    )


def _placed(prefix: str, replica: Replica) -> Placed:
    return Placed(node=f"{prefix}{replica.node}", gpu_indices=replica.gpu_indices, gpu_fraction=replica.gpu_fraction)


def _replica(placed: Placed) -> Replica:
    return Replica(node=placed.node.split("/", 1)[-1], gpu_indices=placed.gpu_indices, gpu_fraction=placed.gpu_fraction)


def _held(placed: Placed) -> Replica:
    """As `_replica`, with the backend still in the node's name: a hold does not say it elsewhere."""
    return Replica(node=placed.node, gpu_indices=placed.gpu_indices, gpu_fraction=placed.gpu_fraction)
