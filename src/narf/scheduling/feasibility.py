"""Feasibility: what could never start, however long it waited, told when it is submitted and not by an endless wait.

It asks of an empty cluster what `plan` asks of a full one, in the same integers, so the two agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from narf.domain.errors import BadInput
from narf.domain.workload import Resources
from narf.scheduling.explanation import amount_of
from narf.scheduling.requests import Node
from narf.scheduling.snapshot import WHOLE


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What one queue may hold (`limit`) and is guaranteed (`quota`), the project before its department."""

    queue: str
    quota: Mapping[str, float]
    limit: Mapping[str, float]


def check_flavor(nodes: Sequence[Node], named: Iterable[str], flavor: str, field: str) -> None:
    """Raises BadInput when no node has `flavor`, and no quota names it either (then its nodes are only away)."""
    flavors = sorted({node.flavor for node in nodes if node.flavor} | set(named))
    if flavor and flavor not in flavors:
        remedy = f"Flavors here: {', '.join(flavors)}." if flavors else "No node here has a flavor; leave it out."
        raise BadInput(f"There is no flavor {flavor[:60]!r} in this cluster.", remedy=remedy, field=field, code="unknown_flavor")


def check_fits(nodes: Sequence[Node], resources: Resources, replicas: int) -> None:
    """Raises BadInput when no cluster of `nodes`, were it empty, could hold the whole gang; it names the largest that it could."""
    kind = f" of flavor {resources.flavor}" if resources.flavor else ""
    allowed = [node for node in nodes if not resources.flavor or node.flavor == resources.flavor]
    if resources.node_selector and allowed:
        wanted = set(resources.node_selector)
        labelled = [node for node in allowed if wanted <= set(node.labels)]
        if not labelled:
            labels = ", ".join(f"{key}={value}" for key, value in sorted(wanted))
            raise BadInput(
                f"No node{kind} has the labels {labels}.", remedy=_known_labels(allowed, [key for key, _ in wanted]),
                field="resources.node_selector", code="no_node_matches",
            )  # fmt: skip
        allowed = labelled
    if not allowed:
        raise BadInput(
            f"No node{kind} is in this cluster now.", remedy="Choose another flavor, or try again when its nodes are back.",
            field="resources.flavor" if resources.flavor else None, code="no_node_matches",
        )  # fmt: skip
    clusters: dict[str, int] = {}
    for node in allowed:
        clusters[node.cluster] = clusters.get(node.cluster, 0) + _fits(node, resources)
    most = max(clusters.values())
    if most >= replicas:
        return
    each = _shape(resources)
    if most:
        raise BadInput(
            f"It asks for {replicas} replicas of {each}; an empty cluster holds {most}.",
            remedy=f"The largest that could start here is {most} replica{'s' if most > 1 else ''} of that size.",
            field="replicas", code="never_fits",
        )  # fmt: skip
    field, remedy = _largest(allowed, resources)
    raise BadInput(
        f"It asks for {each} on one node; no node{kind} of this cluster is that large.", remedy=remedy, field=field, code="never_fits"
    )


def check_bounds(bounds: Sequence[Bounds], resources: Resources, replicas: int, *, preemptible: bool, quotas_used: bool) -> None:
    """Raises BadInput when a limit is below what is asked, or a quota is and it may not borrow.

    quotas_used: some queue has a quota of what binds (GPUs, or CPUs for what asks for none); else `plan` lets all start.
    """
    asked = {"gpu": resources.gpu * replicas, "cpu": resources.cpu * replicas, "memory": float(resources.memory_bytes * replicas)}
    if resources.flavor and resources.gpu:
        asked[f"gpu:{resources.flavor}"] = asked["gpu"]
    for bound in bounds:
        for resource, amount in asked.items():
            limit = bound.limit.get(resource, float("inf"))
            if amount > limit + 1e-9:
                raise BadInput(
                    f"It asks for {amount_of(resource, amount)}; {bound.queue!r} may hold {amount_of(resource, limit)} at most.",
                    remedy=f"Ask for no more than that, or have the limit raised: narf quota set {bound.queue} --limit {resource}=...",
                    field=_FIELDS.get(resource, "resources.gpu"), code="over_limit",
                )  # fmt: skip
    if preemptible or not quotas_used:
        return
    own = bounds[0]
    for resource in ("gpu",) if resources.gpu else ("cpu",):
        quota = own.quota.get(resource, 0.0)
        flavored = own.quota.get(f"gpu:{resources.flavor}", 0.0) if resources.flavor and resource == "gpu" else 0.0
        if asked[resource] > max(quota, flavored) + 1e-9:
            raise BadInput(
                f"It asks for {amount_of(resource, asked[resource])} and is not preemptible, so it may use the quota of {own.queue!r} alone, "
                f"which is {amount_of(resource, max(quota, flavored))}.",
                remedy="Mark it preemptible so that it may borrow, ask for less, or have the quota raised: narf quota set.",
                field=_FIELDS[resource], code="over_quota",
            )  # fmt: skip


_FIELDS = {"gpu": "resources.gpu", "cpu": "resources.cpu", "memory": "resources.memory_bytes"}


def _fits(node: Node, resources: Resources, *, without: str = "") -> int:
    """How many replicas the empty node takes; `without` one of gpu, cpu and memory being asked for."""
    if not node.schedulable:
        return 0
    gpu, cpu = round(resources.gpu * WHOLE), round(resources.cpu * WHOLE)
    if (
        resources.gpu_memory_bytes
        and node.gpu_memory_bytes
        and node.gpu_memory_bytes * min(gpu, WHOLE) < resources.gpu_memory_bytes * WHOLE
    ):
        return 0
    counts = [1 << 30]
    if gpu and without != "gpu":
        counts.append(node.gpus // (gpu // WHOLE) if gpu >= WHOLE else node.gpus * (WHOLE // gpu))
    if cpu and without != "cpu":
        counts.append(round(node.cpu * WHOLE) // cpu)
    if resources.memory_bytes and without != "memory":
        counts.append(node.memory_bytes // resources.memory_bytes)
    return min(counts)


def _largest(nodes: Sequence[Node], resources: Resources) -> tuple[str, str]:
    """The field that is too large, and the most of it that a node gives which has the rest."""
    for resource in ("gpu", "cpu", "memory"):
        rest = [node for node in nodes if _fits(node, resources, without=resource)]
        if rest:
            most = max(_size(node, resource) for node in rest)
            gang = "; ask for more as a gang: --nodes" if resource == "gpu" and sum(node.gpus for node in rest) > most else ""
            beside = " beside the rest" if resource != "gpu" else ""
            if not most:
                return _FIELDS[resource], "No node here has a GPU; ask for none, or add nodes that have some: narf cluster add."
            return _FIELDS[resource], f"The largest that could start here is {amount_of(resource, most)} on one node{beside}{gang}."
    if resources.gpu_memory_bytes and not any(_fits(node, Resources(gpu=resources.gpu, gpu_memory_bytes=resources.gpu_memory_bytes, cpu=0.001)) for node in nodes):  # fmt: skip
        most_bytes = max(node.gpu_memory_bytes for node in nodes)
        return "resources.gpu_memory_bytes", f"The largest GPU here has {amount_of('memory', most_bytes)}."
    node = max(nodes, key=lambda node: (node.gpus, node.cpu, node.memory_bytes))
    size = Resources(gpu=float(node.gpus), cpu=max(0.001, node.cpu), memory_bytes=node.memory_bytes)
    return "resources", f"The largest node here has {_shape(size)}."


def _size(node: Node, resource: str) -> float:
    return float(node.gpus if resource == "gpu" else node.cpu if resource == "cpu" else node.memory_bytes)


def _shape(resources: Resources) -> str:
    parts = [amount_of("gpu", resources.gpu)] if resources.gpu else []
    if resources.gpu_memory_bytes:
        parts.append(f"{amount_of('memory', resources.gpu_memory_bytes)} of a GPU")
    parts.append(amount_of("cpu", resources.cpu))
    if resources.memory_bytes:
        parts.append(amount_of("memory", resources.memory_bytes))
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _known_labels(nodes: Sequence[Node], keys: Sequence[str]) -> str:
    known = sorted({f"{key}={value}" for node in nodes for key, value in node.labels if key in keys})
    if known:
        return f"Nodes have {', '.join(known[:20])}."
    every = sorted({f"{key}={value}" for node in nodes for key, value in node.labels})
    return f"Labels here: {', '.join(every[:20])}." if every else "No node here has labels; leave them out."
