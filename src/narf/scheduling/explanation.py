"""Explanation: the sentence and the remedy for one workload that waits, made from its reason when somebody asks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from narf.scheduling.decisions import Plan, PreemptReason, Reason, Waiting
from narf.scheduling.forward import StartForecast
from narf.scheduling.order import starves_after
from narf.scheduling.planner import plan
from narf.scheduling.policy import Policy
from narf.scheduling.room import allowed_nodes, apart, whole_cluster
from narf.scheduling.snapshot import WHOLE, Snapshot

MOST_HOLDERS = 5
_WHY_FROM = {
    PreemptReason.QUOTA: "which borrows what this project is guaranteed",
    PreemptReason.SHARE: "whose project is further over its share",
    PreemptReason.PRIORITY: "which has lower priority",
    PreemptReason.STARVED: "because it will have waited too long",
    PreemptReason.SERVICE: "which has used far more",
    PreemptReason.ROOM: "which goes on elsewhere",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who holds capacity that the workload could use."""

    workload: str
    queue: str
    amount: float
    running_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TakesBack:
    """In so many seconds it may take the place of `victims`, and does if nothing ends and nothing else comes before."""

    seconds: float
    reason: PreemptReason
    victims: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why `workload` waits, in words and as data. remedy: what would make it start now, if anything would."""

    waiting: Waiting
    sentence: str
    remedy: str
    holders: tuple[Holder, ...] = ()
    forecast: StartForecast | None = None
    takes_back: TakesBack | None = None


def explain(
    snapshot: Snapshot,
    answer: Plan,
    policy: Policy,
    now: float,
    workload: str,
    forecast: StartForecast | None = None,
    growing: Sequence[str] = (),
) -> Explanation:
    """The explanation of `workload`, which must be among those that wait in `answer`.

    growing: clusters that may get more nodes than the snapshot has.
    """
    waiting = answer.waiting[workload]
    w = list(snapshot.ids).index(workload)
    holders = _holders(snapshot, w, waiting, now)
    sentence = _sentence(waiting, holders)
    if waiting.reason not in (Reason.NEVER_FITS, Reason.NO_NODE_MATCHES):  # else nobody is before it
        sentence += f" {_place(waiting, len(answer.waiting))}"
    if forecast is not None:
        sentence += f" It is expected to start {_expected(forecast)}."
    remedy, takes_back = _remedy(snapshot, policy, now, w, waiting), None
    if waiting.reason in (Reason.NO_CAPACITY, Reason.FRAGMENTED):
        takes_back = _takes_back(snapshot, policy, now, w)
        if takes_back is not None:
            sentence += f" If nothing ends before, it takes {_taken(takes_back)}."
        elif not remedy:
            remedy = _sooner(snapshot, policy, now, w)
    if growing and waiting.reason in (Reason.NEVER_FITS, Reason.NO_NODE_MATCHES):
        clusters = "cluster" if len(growing) == 1 else "clusters"
        sentence = sentence.replace(", however long it waits.", " now.")
        remedy = f"It starts if the {clusters} {', '.join(growing)} gets such nodes. {remedy}".strip()
    return Explanation(waiting=waiting, sentence=sentence, remedy=remedy, holders=holders, forecast=forecast, takes_back=takes_back)


def past_sentence(waiting: Waiting) -> str:
    """Why it waited then, as far as is kept: not who held the capacity."""
    return f"{_sentence(waiting, ())} It was number {waiting.position} of those that waited when this began."


def amount_of(resource: str, amount: float) -> str:
    """An amount with its unit: "2 GPUs", "1 GPU of a100", "0.5 CPUs", "4.0 GiB of memory"."""
    if resource == "memory":
        return f"{amount / (1 << 30):.1f} GiB of memory" if amount < 1 << 40 else f"{amount / (1 << 40):.1f} TiB of memory"
    if resource == "cpu":
        return f"{amount:g} CPU" + ("" if amount == 1 else "s")
    gpus = f"{amount:g} GPU" + ("" if amount == 1 else "s")
    return f"{gpus} of {resource.removeprefix('gpu:')}" if resource.startswith("gpu:") else gpus


def _sentence(waiting: Waiting, holders: tuple[Holder, ...]) -> str:
    asked = amount_of(waiting.resource, waiting.asked)
    free = amount_of(waiting.resource, waiting.available)
    queue = waiting.queue.removeprefix("department:")
    if waiting.reason is Reason.NEVER_FITS:
        return f"It asks for {asked} in a shape that no node of this cluster has, however long it waits."
    if waiting.reason is Reason.NO_NODE_MATCHES:
        return "No usable node has the flavor and labels that it asks for."
    if waiting.reason is Reason.LIMIT:
        return f"It asks for {asked}, and {queue!r} may take {free} more before it reaches its limit."
    if waiting.reason is Reason.OVER_QUOTA:
        return f"It asks for {asked} and is not preemptible, so it may not borrow; {free} of the quota of {queue!r} is left."
    if waiting.reason is Reason.RESERVED:
        return f"What is free is kept for {waiting.blocker}, which has waited too long, and this would be in its way."
    if waiting.reason is Reason.STOPPING:
        return "What it needs is being freed: others were asked to leave for it."
    who = _who(holders, waiting.resource)
    verb = "is" if waiting.resource == "memory" or waiting.available == 1 else "are"
    if waiting.reason is Reason.FRAGMENTED:
        return f"It asks for {asked}; {free} {verb} free, but not together on the nodes that it needs.{who}"
    return f"It asks for {asked}, and {free} {verb} free.{who}"


def _who(holders: tuple[Holder, ...], resource: str) -> str:
    if not holders:
        return ""
    named = ", ".join(f"{h.workload} ({amount_of(resource, h.amount)}, {h.queue})" for h in holders[:3])
    return f" The most is held by {named}."


def _place(waiting: Waiting, total: int) -> str:
    return "It is the only one that waits." if total == 1 else f"It is number {waiting.position} of {total} that wait."


def _expected(forecast: StartForecast) -> str:
    if forecast.high < 60:
        return "within a minute"
    return f"in about {_duration(forecast.seconds)} ({_duration(forecast.low)} to {_duration(forecast.high)})"


def _taken(found: TakesBack) -> str:
    first, *others = found.victims
    places = f"the place of {first}" if not others else f"the places of {first} and {len(others)} more"
    return f"{places}, {_WHY_FROM[found.reason]}, in {_duration(found.seconds)}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def _holders(snapshot: Snapshot, w: int, waiting: Waiting, now: float) -> tuple[Holder, ...]:
    """The largest holders of what it waits for, on the nodes that it could use."""
    if waiting.reason not in (Reason.NO_CAPACITY, Reason.FRAGMENTED, Reason.OVER_QUOTA, Reason.LIMIT, Reason.RESERVED):
        return ()
    allowed_N = allowed_nodes(snapshot, w, [])
    if snapshot.gpu_W[w]:
        rows = allowed_N[snapshot.slice_node_G] & (snapshot.phase_W[snapshot.slice_workload_G] != 0)
        who, amount = snapshot.slice_workload_G[rows], snapshot.slice_amount_G[rows]
    else:
        rows = allowed_N[snapshot.placed_node_A] & (snapshot.phase_W[snapshot.placed_workload_A] != 0)
        who = snapshot.placed_workload_A[rows]
        amount = snapshot.cpu_W[who]
    held_W = np.bincount(who, weights=amount, minlength=len(snapshot.ids))
    if waiting.reason in (Reason.LIMIT, Reason.OVER_QUOTA):
        held_W = held_W * _within(snapshot, waiting.queue)
    order = np.lexsort((snapshot.tie_W, -held_W))[:MOST_HOLDERS]
    return tuple(
        Holder(
            workload=snapshot.ids[v], queue=snapshot.queue_names[snapshot.queue_W[v]], amount=float(held_W[v]) / WHOLE,
            running_seconds=max(0.0, now - float(snapshot.started_W[v])) if snapshot.started_W[v] == snapshot.started_W[v] else 0.0,
        )
        for v in order.tolist() if held_W[v] > 0
    )  # fmt: skip


def _within(snapshot: Snapshot, queue: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which workloads are in `queue` or below it."""
    top = snapshot.queue_names.index(queue)
    inside = []
    for q in range(len(snapshot.queue_names)):
        above = q
        while above not in (-1, top):
            above = int(snapshot.queue_parent_Q[above])
        inside.append(above == top)
    return np.array(inside, dtype=np.bool_)[snapshot.queue_W]


def _takes_back(snapshot: Snapshot, policy: Policy, now: float, w: int) -> TakesBack | None:
    """When it may take from others, be it that those have run their least, that it has been patient, or that it starves: by `plan` itself."""
    running = (snapshot.phase_W == 1) & snapshot.preemptible_W
    if not running.any():
        return None
    width = max(1.0, float(snapshot.gpu_W[w] * snapshot.replicas_W[w]) / (max(1, int(snapshot.node_gpus_N.max(initial=0))) * WHOLE))
    ran = float(np.nanmax(snapshot.started_W[running])) + policy.least_run_seconds
    queued = float(snapshot.queued_W[w])
    rights = (ran, queued + policy.patience_seconds * width, queued + float(starves_after(snapshot, policy)[w]))
    for moment in sorted({max(now, ran, right) + 1.0 for right in rights}):
        answer = plan(snapshot, policy, moment)
        taken = [preempt for preempt in answer.preempts if preempt.beneficiary == snapshot.ids[w]]
        if not taken:  # another may take more than it needs, so that some is held for this one
            nodes = {placed.node for hold in answer.holds if hold.workload == snapshot.ids[w] for placed in hold.placed}
            taken = [preempt for preempt in answer.preempts if nodes & set(_nodes_of(snapshot, preempt.workload))]
        if taken:
            return TakesBack(seconds=moment - now, reason=taken[0].reason, victims=tuple(preempt.workload for preempt in taken))
    return None


def _nodes_of(snapshot: Snapshot, workload: str) -> list[str]:
    mine = snapshot.placed_workload_A == list(snapshot.ids).index(workload)
    return [snapshot.node_names[node] for node in snapshot.placed_node_A[mine].tolist()]


def _remedy(snapshot: Snapshot, policy: Policy, now: float, w: int, waiting: Waiting) -> str:
    if waiting.reason is Reason.NEVER_FITS:
        largest = _largest(snapshot, w)
        if not largest and snapshot.gpu_W[w] and not snapshot.node_gpus_N.any():
            return "No node here has a GPU; ask for none, or add nodes that have some."
        return f"The largest that could start here is {largest}." if largest else "Ask for less of each resource."
    if waiting.reason is Reason.NO_NODE_MATCHES:
        flavors = ", ".join(snapshot.flavors) or "none has a name"
        return f"Choose another flavor or selector; flavors here: {flavors}."
    if waiting.reason is Reason.STOPPING:
        return ""
    smaller = _smaller(snapshot, policy, now, w)
    if smaller:
        return f"It would start now with {smaller}."
    if waiting.reason is Reason.LIMIT:
        return "Wait for its own to end, or ask for a higher limit: narf quota set."
    if waiting.reason is Reason.OVER_QUOTA:
        return "Ask for more quota, or mark it preemptible so that it may borrow."
    return ""


def _sooner(snapshot: Snapshot, policy: Policy, now: float, w: int) -> str:
    """What of a smaller shape would have a right to others' places, where it has none as it is: inside its quota, say."""
    for shape, changed in _smaller_shapes(snapshot, w):
        found = _takes_back(changed, policy, now, w)
        if found is not None:
            return f"If nothing ends before, it would with {shape} take {_taken(found)}."
    return ""


def _smaller(snapshot: Snapshot, policy: Policy, now: float, w: int) -> str:
    """The largest smaller shape that `plan` would admit right now; found with `plan` itself."""
    for shape, changed in _smaller_shapes(snapshot, w):
        if any(admit.workload == snapshot.ids[w] for admit in plan(changed, policy, now).admits):
            return shape
    return ""


def _smaller_shapes(snapshot: Snapshot, w: int) -> Iterator[tuple[str, Snapshot]]:
    """Fewer replicas, then fewer GPUs, the largest first: in words, and the snapshot in which `w` asks for that."""
    gpu, replicas = int(snapshot.gpu_W[w]), int(snapshot.replicas_W[w])
    tries = [(gpu, fewer) for fewer in _halves(replicas)]
    tries += [(fewer * WHOLE, 1) for fewer in _halves(gpu // WHOLE)] + ([(WHOLE // 2, 1)] if gpu == WHOLE else [])
    for less_gpu, less_replicas in tries:
        gpu_W, replicas_W = snapshot.gpu_W.copy(), snapshot.replicas_W.copy()
        gpu_W[w], replicas_W[w] = less_gpu, less_replicas
        was, is_ = gpu * replicas / WHOLE, less_gpu * less_replicas / WHOLE
        shape = f"{amount_of('gpu', is_)} instead of {was:g}" if gpu else f"{less_replicas} replicas instead of {replicas}"
        yield shape, replace(snapshot, gpu_W=gpu_W, replicas_W=replicas_W)


def _halves(number: int) -> list[int]:
    found = []
    while number > 1:
        number //= 2
        found.append(number)
    return found


def _largest(snapshot: Snapshot, w: int) -> str:
    """The most replicas, and else the most GPUs, of its kind that an empty cluster takes."""
    empty, allowed_N = whole_cluster(snapshot), allowed_nodes(snapshot, w, [])
    each = int(snapshot.gpu_W[w])
    fits = max(int(empty.fits(w, set_N).sum()) for set_N in apart(snapshot, w, allowed_N))
    if fits:
        return f"{fits} replicas of {amount_of('gpu', each / WHOLE)} each" if each else f"{fits} replicas"
    if each > WHOLE:
        most = int(snapshot.node_gpus_N[allowed_N].max(initial=0))
        gang = "; ask for more as a gang of replicas" if int(snapshot.node_gpus_N[allowed_N].sum()) > most else ""
        return f"{amount_of('gpu', most)} on one node{gang}" if most else ""
    return ""
