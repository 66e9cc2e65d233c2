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
from narf.control.workloads.alive import Alive
from narf.control.workloads.store import Attempt
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason, Workload, WorkloadState
from narf.scheduling.decisions import Admit, Hold, Plan, Preempt, Waiting
from narf.scheduling.planner import plan
from narf.scheduling.policy import DEFAULT_POLICY, Policy
from narf.scheduling.requests import Forecast, Node, Phase, Placed, Queue, Request
from narf.scheduling.snapshot import Snapshot, snapshot_of

_log = logging.getLogger(__name__)

_CAPACITY_SECONDS = 2.0
_AWAY_SECONDS = 3600.0
_AT_ONCE = 200  # changes of one transaction


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
        self._alive = Alive()
        # What each was made a request of, and the request: most stay as they were from pass to pass.
        self._made: dict[str, tuple[Workload, tuple[Sequence[Replica], Forecast | None, float | None], Request]] = {}

    def next_look_seconds(self) -> float:
        return 2.0

    def pass_once(self, now: datetime) -> bool:
        loaded = self._load()
        if loaded is None:
            return False
        found, snapshot, held = loaded
        decided = plan(snapshot, self._policy, now.timestamp())
        self.latest = (snapshot, decided)
        wanted, changed = self._apply(found, held, decided, now)
        self.decided(snapshot, decided, frozenset(workload.id for workload in changed), now)
        return len(changed) < wanted  # on what was applied, a second plan would decide nothing

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
        loaded = self._load(idle=idle)
        return None if loaded is None else loaded[:2]

    def _load(self, *, idle: bool = False) -> tuple[dict[str, Workload], Snapshot, dict[str, tuple[Replica, ...]]] | None:
        """As `load`, with what is held for whom."""
        with self._database.read() as connection:
            alive = self._alive.load(connection)
            if not idle and not any(workload.state is WorkloadState.QUEUED for workload, _ in alive):
                return None
            held = store.holds_now(connection)
        requests = self._requests(alive, held)
        return {workload.id: workload for workload, _ in alive}, snapshot_of(self.nodes(), self.queues(), requests), held

    def _requests(self, alive: Sequence[tuple[Workload, Attempt | None]], held: Mapping[str, Sequence[Replica]]) -> list[Request]:
        written = self.checkpointed([w.run_id for w, attempt in alive if w.run_id and attempt is not None])
        made, known = {}, self._made
        for workload, attempt in alive:
            hold, forecast = held.get(workload.id, ()), self.forecast(workload)
            checkpointed_at = written.get(workload.run_id) if workload.run_id else None
            before = known.get(workload.id)
            if before is not None and before[0] is workload and before[1] == (hold, forecast, checkpointed_at):
                made[workload.id] = before
            else:
                request = _request(workload, attempt, hold, forecast, checkpointed_at)
                made[workload.id] = (workload, (hold, forecast, checkpointed_at), request)
        self._made = made
        return [request for _, _, request in made.values()]

    def snapshot_with(
        self,
        queues: Sequence[Queue],
        *,
        nodes: Sequence[Node] = (),
        submitted: Sequence[Request] = (),
    ) -> Snapshot:
        """The cluster as it is, but with these queues, and with more nodes and more submitted. Answers what-if."""
        with self._database.read() as connection:
            alive, held = self._alive.load(connection), store.holds_now(connection)
        requests = [*self._requests(alive, held), *submitted]
        there = self.nodes()
        sizes: Counter[str] = Counter()
        for node in there:
            sizes[node.cluster] += 1 + node.gpus
        largest = max(sizes, key=lambda cluster: (sizes[cluster], cluster), default="")
        return snapshot_of([*there, *(replace(node, cluster=largest) for node in nodes)], queues, requests)

    def _apply(
        self, found: Mapping[str, Workload], held: Mapping[str, tuple[Replica, ...]], decided: Plan, now: datetime
    ) -> tuple[int, list[Workload]]:
        """How many were to be admitted and preempted, and those that were. One that somebody changed since it was loaded is left to the next pass."""
        changes: list[tuple[Workload, Attempt | None]] = []
        holds: dict[str, tuple[Replica, ...]] = {}
        for decision in decided.decisions:
            match decision:
                case Admit():
                    changes.append(_admitted(found[decision.workload], decision, now))
                case Preempt():
                    if found[decision.workload].state in (WorkloadState.STARTING, WorkloadState.RUNNING):
                        changes.append((_preempted(found[decision.workload], decision), None))
                        if decision.moves_to:
                            holds[decision.workload] = tuple(_held(placed) for placed in decision.moves_to)
                case Hold():
                    holds[decision.workload] = tuple(_held(placed) for placed in decision.placed)
        # First, so that nobody who is asked to move loses the place that it was promised, should this process end in between.
        if held != holds:  # nobody else writes them, and most plans keep what there was
            with self._database.write() as connection:
                store.replace_holds(connection, holds)
        changed: list[Workload] = []
        for first in range(0, len(changes), _AT_ONCE):  # so that nobody else waits long to write
            some = changes[first : first + _AT_ONCE]
            with self._database.write() as connection:
                saved = store.save_all(connection, [workload for workload, _ in some], now)
                done = {workload.id for workload in saved}
                store.add_attempts(connection, [attempt for _, attempt in some if attempt is not None and attempt.workload_id in done])
            changed += saved
        for workload in changed:
            self.changed(workload)
        return len(changes), changed


def _admitted(workload: Workload, decision: Admit, now: datetime) -> tuple[Workload, Attempt]:
    attempt = Attempt(
        workload_id=workload.id,
        attempt=workload.attempt,
        backend=decision.placed[0].node.split("/", 1)[0],
        placement=tuple(_replica(placed) for placed in decision.placed),
        admitted_at=now,
    )
    return replace(workload.to(WorkloadState.ADMITTED), end_reason=None, detail=""), attempt


def _preempted(workload: Workload, decision: Preempt) -> Workload:
    if decision.moves_to:
        detail = f"It goes on at {decision.moves_to[0].node}, so that {decision.beneficiary} finds its room together."
    else:
        detail = f"For {decision.beneficiary} ({decision.reason})."
    return replace(workload.to(WorkloadState.PREEMPTING), end_reason=EndReason.PREEMPTED, detail=detail)


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
    workload: Workload, current: Attempt | None, held: Sequence[Replica], forecast: Forecast | None, checkpointed_at: float | None
) -> Request:
    phase = Phase.PENDING if current is None else Phase.RUNNING
    if workload.state is WorkloadState.PREEMPTING or (workload.cancel_requested and current is not None):
        phase = Phase.STOPPING
    moves = workload.state is WorkloadState.PREEMPTING and not workload.cancel_requested
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
        moves_to=tuple(_placed("", replica) for replica in held) if moves else (),
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
