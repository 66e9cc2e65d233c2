"""The snapshot: the whole cluster at one moment, in columns. `plan` reads nothing else.

Amounts are integers: GPUs in thousandths, CPUs in thousandths, memory in bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from narf.domain.errors import BadInput
from narf.scheduling.requests import Node, Phase, Placed, Queue, Request

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WHOLE = 1000  # one GPU, one CPU
UNLIMITED = 1 << 62


def _none() -> Ints:
    return np.empty(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Snapshot:
    """N nodes, Q queues over R resources, W workloads, A placed replicas and G GPU slices.

    resources: "gpu", "cpu", "memory", then "gpu:<flavor>" for each flavor, in the order of `flavors`.
    eligible_KN: which nodes satisfy constraint k (flavor, labels); a workload names its constraint by index.
    tie_W: a number of the workload's own, for ties, so that the order of rows does not matter.
    placed_*: a row a replica; slice_*: a row a GPU of one. Of a PENDING workload they are what is held for it.
    moves_*: a row a GPU that is held for a STOPPING workload of one replica, which will go on there.
    """

    node_names: tuple[str, ...]
    flavors: tuple[str, ...]
    node_cluster_N: Ints  # a number each; a gang stays inside one
    node_flavor_N: Ints
    node_cpu_N: Ints
    node_memory_N: Ints
    node_gpus_N: Ints
    node_gpu_memory_N: Ints
    schedulable_N: Bools

    queue_names: tuple[str, ...]
    queue_parent_Q: Ints  # -1: none
    quota_QR: Ints
    limit_QR: Ints
    weight_Q: Floats
    usage_Q: Floats

    constraints: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    eligible_KN: Bools

    ids: Sequence[str]
    queue_W: Ints
    constraint_W: Ints
    replicas_W: Ints
    gpu_W: Ints  # of one replica
    cpu_W: Ints
    memory_W: Ints
    gpu_memory_W: Ints
    priority_W: Ints
    preemptible_W: Bools
    phase_W: Ints
    submitted_W: Floats
    queued_W: Floats
    attained_W: Floats  # without the attempt that runs now
    started_W: Floats  # nan: not running
    checkpointed_W: Floats  # nan: never
    duration_3W: Floats  # at 10, 50 and 90 %; nan: unknown
    max_seconds_W: Floats  # inf: none
    tie_W: Ints

    placed_workload_A: Ints
    placed_replica_A: Ints
    placed_node_A: Ints
    slice_workload_G: Ints
    slice_replica_G: Ints
    slice_node_G: Ints
    slice_gpu_G: Ints
    slice_amount_G: Ints

    moves_workload_M: Ints = field(default_factory=_none)
    moves_node_M: Ints = field(default_factory=_none)
    moves_gpu_M: Ints = field(default_factory=_none)

    @property
    def resources(self) -> tuple[str, ...]:
        return ("gpu", "cpu", "memory", *(f"gpu:{flavor}" for flavor in self.flavors))


def snapshot_of(nodes: Iterable[Node], queues: Iterable[Queue], requests: Iterable[Request]) -> Snapshot:
    """The snapshot of these. A request whose queue is not among `queues` waits in one made for it, without quota.

    A replica placed on a node that is not among `nodes` holds nothing here (its node is lost).

    Raises:
        BadInput: two nodes, queues or requests have one name, queues form a circle, or an amount is negative.
    """
    nodes, queues, requests = list(nodes), list(queues), list(requests)
    known = {queue.name for queue in queues}
    queues += [Queue(name=name) for name in dict.fromkeys(r.queue for r in requests) if name not in known]
    _check_unique("node", [node.name for node in nodes])
    _check_unique("queue", [queue.name for queue in queues])
    _check_unique("workload", [request.id for request in requests])
    flavors = tuple(sorted({node.flavor for node in nodes if node.flavor} | _flavors_named(queues)))
    constraints = tuple(sorted({(r.resources.flavor, tuple(sorted(r.resources.node_selector))) for r in requests}))
    constraint_index = {constraint: k for k, constraint in enumerate(constraints)}
    queue_index = {queue.name: q for q, queue in enumerate(queues)}
    columns = _ResourceColumns(flavors)
    clusters = sorted({node.cluster for node in nodes})
    placed, slices = _placements(nodes, [request.placed for request in requests])
    is_moving = [request.phase is Phase.STOPPING and len(request.moves_to) == 1 for request in requests]
    _, moves = _placements(nodes, [r.moves_to if moving else () for r, moving in zip(requests, is_moving, strict=True)])
    unknown = float("nan")
    return Snapshot(
        node_names=tuple(node.name for node in nodes),
        flavors=flavors,
        node_cluster_N=_ints(clusters.index(node.cluster) for node in nodes),
        node_flavor_N=_ints(flavors.index(node.flavor) if node.flavor else -1 for node in nodes),
        node_cpu_N=_ints(round(node.cpu * WHOLE) for node in nodes),
        node_memory_N=_ints(node.memory_bytes for node in nodes),
        node_gpus_N=_ints(node.gpus for node in nodes),
        node_gpu_memory_N=_ints(node.gpu_memory_bytes for node in nodes),
        schedulable_N=np.array([node.schedulable for node in nodes], dtype=np.bool_),
        queue_names=tuple(queue.name for queue in queues),
        queue_parent_Q=_parents(queues, queue_index),
        quota_QR=columns.of([queue.quota for queue in queues], missing=0, noun="quota"),
        limit_QR=columns.of([queue.limit for queue in queues], missing=UNLIMITED, noun="limit"),
        weight_Q=np.array([_checked_weight(queue) for queue in queues], dtype=np.float64),
        usage_Q=np.array([queue.usage_gpu_seconds for queue in queues], dtype=np.float64),
        constraints=constraints,
        eligible_KN=_eligible(nodes, constraints),
        ids=tuple(request.id for request in requests),
        queue_W=_ints(queue_index[r.queue] for r in requests),
        constraint_W=_ints(constraint_index[r.resources.flavor, tuple(sorted(r.resources.node_selector))] for r in requests),
        replicas_W=_ints(r.replicas for r in requests),
        gpu_W=_ints(round(r.resources.gpu * WHOLE) for r in requests),
        cpu_W=_ints(round(r.resources.cpu * WHOLE) for r in requests),
        memory_W=_ints(r.resources.memory_bytes for r in requests),
        gpu_memory_W=_ints(r.resources.gpu_memory_bytes for r in requests),
        priority_W=_ints(r.priority for r in requests),
        preemptible_W=np.array([r.preemptible for r in requests], dtype=np.bool_),
        phase_W=_ints(int(r.phase) for r in requests),
        submitted_W=_floats(r.submitted_at for r in requests),
        queued_W=_floats(r.submitted_at if r.queued_at is None else r.queued_at for r in requests),
        attained_W=_floats(r.attained_seconds for r in requests),
        started_W=_floats(unknown if r.started_at is None else r.started_at for r in requests),
        checkpointed_W=_floats(unknown if r.checkpointed_at is None else r.checkpointed_at for r in requests),
        duration_3W=_durations(requests),
        max_seconds_W=_floats(float("inf") if r.max_seconds is None else r.max_seconds for r in requests),
        tie_W=_ints(_tie(r.id) for r in requests),
        placed_workload_A=placed[:, 0],
        placed_replica_A=placed[:, 1],
        placed_node_A=placed[:, 2],
        slice_workload_G=slices[:, 0],
        slice_replica_G=slices[:, 1],
        slice_node_G=slices[:, 2],
        slice_gpu_G=slices[:, 3],
        slice_amount_G=slices[:, 4],
        moves_workload_M=moves[:, 0],
        moves_node_M=moves[:, 2],
        moves_gpu_M=moves[:, 3],
    )


class _ResourceColumns:
    """Mappings from resource to amount, as rows over the resources of a snapshot."""

    def __init__(self, flavors: Sequence[str]) -> None:
        names = ["gpu", "cpu", "memory", *(f"gpu:{flavor}" for flavor in flavors)]
        self._column = {name: r for r, name in enumerate(names)}

    def of(self, rows: Sequence[Mapping[str, float]], *, missing: int, noun: str) -> Ints:
        table = np.full((len(rows), len(self._column)), missing, dtype=np.int64)
        for q, row in enumerate(rows):
            for resource, amount in row.items():
                if not amount >= 0:
                    raise BadInput(f"A {noun} of {amount:g} {resource} makes no sense.", remedy="Give 0 or more.", field=noun)
                unit = 1 if resource == "memory" else WHOLE
                table[q, self._column[resource]] = round(min(amount * unit, UNLIMITED))
        return table


def _flavors_named(queues: Iterable[Queue]) -> set[str]:
    """Flavors that only a quota or limit names: their nodes may be away for now."""
    flavors = set()
    for queue in queues:
        for resource in [*queue.quota, *queue.limit]:
            if resource.startswith("gpu:"):
                flavors.add(resource.removeprefix("gpu:"))
            elif resource not in ("gpu", "cpu", "memory"):
                remedy = "Use gpu, gpu:<flavor>, cpu or memory."
                raise BadInput(f"Queue {queue.name!r} names the unknown resource {resource!r}.", remedy=remedy, field="quota")
    return flavors


def _checked_weight(queue: Queue) -> float:
    if not 0 < queue.weight < float("inf"):
        raise BadInput(f"Queue {queue.name!r} has a weight of {queue.weight:g}.", remedy="Give a number above 0.", field="weight")
    return queue.weight


def _check_unique(noun: str, names: Sequence[str]) -> None:
    if len(set(names)) != len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise BadInput(f"The {noun} {twice!r} stands twice in a snapshot.")


def _parents(queues: Sequence[Queue], index: Mapping[str, int]) -> Ints:
    for queue in queues:
        above, seen = queue.parent, {queue.name}
        while above is not None:
            if above not in index:
                raise BadInput(f"Queue {queue.name!r} is below {above!r}, which does not exist.", field="parent")
            if above in seen:
                raise BadInput(f"Queue {queue.name!r} is above itself.", remedy="Give one of the circle no parent.", field="parent")
            seen.add(above)
            above = queues[index[above]].parent
    return _ints(-1 if queue.parent is None else index[queue.parent] for queue in queues)


def _eligible(nodes: Sequence[Node], constraints: Sequence[tuple[str, tuple[tuple[str, str], ...]]]) -> Bools:
    table = np.zeros((len(constraints), len(nodes)), dtype=np.bool_)
    labels = [set(node.labels) for node in nodes]
    for k, (flavor, selector) in enumerate(constraints):
        for n, node in enumerate(nodes):
            table[k, n] = (not flavor or node.flavor == flavor) and labels[n].issuperset(selector)
    return table


def _placements(nodes: Sequence[Node], places: Sequence[tuple[Placed, ...]]) -> tuple[Ints, Ints]:
    """Of workload after workload: (workload, replica, node), and (workload, replica, node, GPU, amount)."""
    node_index = {node.name: n for n, node in enumerate(nodes)}
    placed: list[tuple[int, int, int]] = []
    slices: list[tuple[int, int, int, int, int]] = []
    for w, placed_w in enumerate(places):
        for replica, where in enumerate(placed_w):
            n = node_index.get(where.node, -1)
            if n < 0:
                continue
            placed.append((w, replica, n))
            amount = round(where.gpu_fraction * WHOLE) if 0 < where.gpu_fraction < 1 else WHOLE
            slices.extend((w, replica, n, gpu, amount) for gpu in where.gpu_indices if gpu < nodes[n].gpus)
    return _table(placed, 3), _table(slices, 5)


def _durations(requests: Sequence[Request]) -> Floats:
    unknown = (float("nan"),) * 3
    rows = [unknown if r.forecast is None else (r.forecast.low, r.forecast.middle, r.forecast.high) for r in requests]
    return np.array(rows, dtype=np.float64).reshape(-1, 3).T.copy()


def _tie(identifier: str) -> int:
    return int.from_bytes(hashlib.blake2b(identifier.encode(), digest_size=7).digest(), "big")


def _table(rows: Sequence[tuple[int, ...]], width: int) -> Ints:
    return np.array(rows, dtype=np.int64).reshape(-1, width)


def _ints(values: Iterable[int]) -> Ints:
    return np.fromiter(values, dtype=np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.fromiter(values, dtype=np.float64)


def placed_of(snapshot: Snapshot, workload: int) -> tuple[Placed, ...]:
    """Where workload number `workload` is, or what is held for it."""
    rows = np.flatnonzero(snapshot.placed_workload_A == workload)
    mine = np.flatnonzero(snapshot.slice_workload_G == workload)
    result = []
    for row in sorted(rows, key=lambda row: int(snapshot.placed_replica_A[row])):
        slices = mine[snapshot.slice_replica_G[mine] == snapshot.placed_replica_A[row]]
        gpus = tuple(sorted(int(gpu) for gpu in snapshot.slice_gpu_G[slices]))
        amount = int(snapshot.slice_amount_G[slices[0]]) if len(slices) else WHOLE
        fraction = amount / WHOLE if amount < WHOLE else 0.0
        result.append(Placed(node=snapshot.node_names[snapshot.placed_node_A[row]], gpu_indices=gpus, gpu_fraction=fraction))
    return tuple(result)


__all__ = ["UNLIMITED", "WHOLE", "Phase", "Snapshot", "placed_of", "snapshot_of"]
