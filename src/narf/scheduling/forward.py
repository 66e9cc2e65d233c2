"""Forward: what happens from a snapshot on, if jobs run as long as is drawn for them. Forecasts and what-if come from it.

The decisions are those of `plan` itself; what is drawn is only how long each workload will run.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from narf.scheduling.decisions import Admit, Hold, Plan, Preempt
from narf.scheduling.order import starves_after
from narf.scheduling.planner import plan
from narf.scheduling.policy import Policy
from narf.scheduling.requests import Placed, Queue, Request
from narf.scheduling.snapshot import WHOLE, Bools, Floats, Ints, Snapshot, snapshot_of

MOST_STEPS = 400
_LOOK_SECONDS = 300.0
_ARRIVAL_SECONDS = 60.0  # what arrives closer together is planned for at once
_GRAIN = 20.0
# Measured on one trace and checked on others (benchmarks/scheduling_forecasts.py): of what runs, more ends soon than the durations of what
# ran to its end say, because it fails or is stopped; and starts move with more than is drawn here.
_SOON_OVER = 0.2
_YOUNG_SECONDS = 60.0
_WIDER = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StartForecast:
    """When a waiting workload is expected to start: seconds from now, with the interval that holds nine of ten."""

    seconds: float
    low: float
    high: float


def forecast_starts(
    snapshot: Snapshot, policy: Policy, now: float, workloads: Sequence[str], *, draws: int = 20, steps: int = MOST_STEPS, seed: int = 0
) -> Mapping[str, StartForecast]:
    """For each of `workloads` that starts in most draws: when. The same arguments give the same answer.

    Rows that are submitted after `now` stand for what will arrive (`with_expected`); each draw begins at another moment of them.

    steps: how many plans one draw looks ahead at most.
    """
    rng = random.Random(seed)
    seen: dict[str, list[float]] = {workload: [] for workload in workloads}
    for _ in range(draws):
        drawn = _turned(snapshot, now, rng.random())
        starts = starts_from(drawn, policy, now, set(workloads), drawn_durations(snapshot, policy, now, rng), steps)
        for workload in workloads:
            seen[workload].append(starts.get(workload, float("inf")) - now)
    found = {}
    for workload, waits in seen.items():
        waits.sort()
        middle = waits[len(waits) // 2]
        if middle < float("inf"):
            finite = [wait for wait in waits if wait < float("inf")]
            # The outermost of 20 draws stand for the ends of the interval; not all that may happen is drawn, so it is widened.
            edge = len(finite) // 40
            found[workload] = StartForecast(seconds=middle, low=finite[edge] / _WIDER, high=finite[-1 - edge] * _WIDER)
    return found


def with_expected(snapshot: Snapshot, requests: Sequence[Request]) -> Snapshot:
    """`snapshot` with what is expected to arrive, for forecasts only: `submitted_at` is after its moment. `plan` must not see them.

    What asks for labels or a flavor that nothing in the snapshot asks for is left out: which nodes have them does not stand in it.
    """
    place = {constraint: k for k, constraint in enumerate(snapshot.constraints)}
    usable = [
        r
        for r in requests
        if r.queue in set(snapshot.queue_names) and (r.resources.flavor, tuple(sorted(r.resources.node_selector))) in place
    ]
    if not usable:
        return snapshot
    more = snapshot_of([], [Queue(name=name) for name in snapshot.queue_names], usable)
    own = np.array([place[constraint] for constraint in more.constraints], dtype=np.int64)
    more = replace(more, constraint_W=own[more.constraint_W])
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(snapshot, name), getattr(more, name)], axis=-1)
        for name in Snapshot.__dataclass_fields__ if name.endswith("W")
    }  # fmt: skip
    return replace(snapshot, ids=[*snapshot.ids, *more.ids], **columns)


def _turned(snapshot: Snapshot, now: float, part: float) -> Snapshot:
    """With what will arrive moved on by `part` of the time in which it does, what goes beyond the end coming first."""
    later = snapshot.submitted_W > now
    if not later.any():
        return snapshot
    window = float(snapshot.submitted_W[later].max()) - now + 1.0
    submitted_W = np.where(later, now + 1e-3 + (snapshot.submitted_W - now + part * window) % window, snapshot.submitted_W)
    return replace(snapshot, submitted_W=submitted_W, queued_W=np.where(later, submitted_W, snapshot.queued_W))


def drawn_durations(snapshot: Snapshot, policy: Policy, now: float, rng: random.Random) -> Floats:
    """How long each workload runs in all, drawn from its forecast; longer than it has run already."""
    low_W, middle_W, high_W = snapshot.duration_3W
    default = policy.default_duration_seconds
    ran_W = snapshot.attained_W + np.nan_to_num(np.maximum(0.0, now - snapshot.started_W))
    drawn = np.empty(len(middle_W))
    for w, (low, middle, high, ran) in enumerate(zip(low_W.tolist(), middle_W.tolist(), high_W.tolist(), ran_W.tolist(), strict=True)):
        if not middle > 0:
            low, middle, high = default / 10, default, default * 6
        for _ in range(8):
            duration = _between(low, middle, high, rng.random())
            if duration > ran:
                break
        else:  # it has outlived its forecast: of what lasts, half lasts twice as long
            duration = ran / max(1e-3, rng.random())
        if low < high and rng.random() < _SOON_OVER:
            duration = min(duration, ran + max(ran, _YOUNG_SECONDS) * rng.random() ** 2)  # the longer it ran, the less a moment means
        drawn[w] = min(duration, float(snapshot.max_seconds_W[w]))
    return drawn


def _between(low: float, middle: float, high: float, part: float) -> float:
    """The value at `part` of a distribution with these values at 10, 50 and 90 %, straight in the logarithm between."""
    points = [(0.0, max(1.0, low / 3)), (0.1, max(1.0, low)), (0.5, max(1.0, middle)), (0.9, max(1.0, high)), (1.0, max(1.0, high * 4))]
    for (a, x), (b, y) in pairwise(points):
        if part <= b:
            return float(x * (y / x) ** ((part - a) / (b - a)))
    return points[-1][1]


def starts_from(
    snapshot: Snapshot, policy: Policy, now: float, wanted: set[str], duration_W: Floats, steps: int = MOST_STEPS
) -> dict[str, float]:
    """When each of `wanted` first starts, if all run as long as `duration_W` says. Those that do not start in sight are left out."""
    state = snapshot
    durations = dict(zip(snapshot.ids, duration_W.tolist(), strict=True))
    found: dict[str, float] = {}
    at = now
    for _ in range(steps):
        arriving = np.flatnonzero(state.submitted_W > at)
        answer = plan(without(state, set(arriving.tolist())) if len(arriving) else state, policy, at)
        state = applied(state, answer, at)
        for admit in answer.admits:
            if admit.workload in wanted:
                found.setdefault(admit.workload, at)
        if len(found) == len(wanted):
            break
        if answer.preempts:
            continue  # what they free is given at once
        running = np.flatnonzero(state.phase_W == 1)
        if not len(running):
            break
        ends = [
            max(at, state.started_W[w] + durations[state.ids[w]] - state.attained_W[w], state.started_W[w] + 1.0) for w in running.tolist()
        ]
        following = min(ends)
        if len(arriving):
            following = min(following, max(float(state.submitted_W[arriving].min()), at + _ARRIVAL_SECONDS))
        # Levels change without an event; look from time to time, as production does. The further off, the less a moment matters.
        following = min(following, at + max(_LOOK_SECONDS, (following - at) / 4), _next_right(state, policy, at))
        following = max(following, at + (at - now) / _GRAIN)
        over = {int(w) for w, end in zip(running.tolist(), ends, strict=True) if end <= following}
        state = without(state, over)
        at = float(following)
    return found


def _next_right(snapshot: Snapshot, policy: Policy, at: float) -> float:
    """When next some workload may be taken from, or may take: it has run its least, or waited long enough. In steps, not each by itself."""
    pending, running = (snapshot.phase_W == 0) & (snapshot.submitted_W <= at), (snapshot.phase_W == 1) & snapshot.preemptible_W
    gpus = max(1, int(snapshot.node_gpus_N.max(initial=0))) * WHOLE
    nodes_W = np.maximum(1.0, snapshot.gpu_W * snapshot.replicas_W / gpus)
    moments = np.concatenate(
        [
            snapshot.started_W[running] + policy.least_run_seconds,
            (snapshot.queued_W + policy.patience_seconds * nodes_W)[pending],
            (snapshot.queued_W + starves_after(snapshot, policy))[pending],
        ]
    )
    later = moments[moments > at]
    return max(float(later.min()), at + _LOOK_SECONDS) if len(later) else float("inf")


def applied(snapshot: Snapshot, answer: Plan, now: float) -> Snapshot:
    """`snapshot` after the decisions of `answer`: those asked to leave have left, the admitted run, the holds are held."""
    index = {workload: w for w, workload in enumerate(snapshot.ids)}
    phase_W, started_W = snapshot.phase_W.copy(), snapshot.started_W.copy()
    queued_W, attained_W = snapshot.queued_W.copy(), snapshot.attained_W.copy()
    stay_W = snapshot.phase_W == 1
    places: list[tuple[int, tuple[Placed, ...]]] = []
    stopped = [index[d.workload] for d in answer.decisions if isinstance(d, Preempt)] + np.flatnonzero(snapshot.phase_W == 2).tolist()
    for w in stopped:
        attained_W[w] += max(0.0, now - float(started_W[w])) if started_W[w] == started_W[w] else 0.0
        phase_W[w], started_W[w], queued_W[w], stay_W[w] = 0, np.nan, now, False
    for decision in answer.decisions:
        if isinstance(decision, Admit):
            w = index[decision.workload]
            phase_W[w], started_W[w] = 1, now
            places.append((w, decision.placed))
        elif isinstance(decision, Hold):
            places.append((index[decision.workload], decision.placed))
        elif decision.moves_to:
            places.append((index[decision.workload], decision.moves_to))
    none = np.empty(0, dtype=np.int64)
    changed = replace(snapshot, phase_W=phase_W, started_W=started_W, queued_W=queued_W, attained_W=attained_W)
    return _placed(replace(changed, moves_workload_M=none, moves_node_M=none, moves_gpu_M=none), stay_W, places)


def without(snapshot: Snapshot, gone: set[int]) -> Snapshot:
    """`snapshot` without these rows."""
    keep_W = np.ones(len(snapshot.ids), dtype=np.bool_)
    keep_W[list(gone)] = False
    new_W = np.cumsum(keep_W) - 1
    rows_A, rows_G = keep_W[snapshot.placed_workload_A], keep_W[snapshot.slice_workload_G]
    rows_M = keep_W[snapshot.moves_workload_M]
    columns = {
        name: getattr(snapshot, name)[..., keep_W] for name in Snapshot.__dataclass_fields__ if name.endswith("W")
    }  # fmt: skip
    return replace(
        snapshot,
        ids=[workload for workload, keep in zip(snapshot.ids, keep_W.tolist(), strict=True) if keep],
        placed_workload_A=new_W[snapshot.placed_workload_A[rows_A]],
        placed_replica_A=snapshot.placed_replica_A[rows_A],
        placed_node_A=snapshot.placed_node_A[rows_A],
        slice_workload_G=new_W[snapshot.slice_workload_G[rows_G]],
        slice_replica_G=snapshot.slice_replica_G[rows_G],
        slice_node_G=snapshot.slice_node_G[rows_G],
        slice_gpu_G=snapshot.slice_gpu_G[rows_G],
        slice_amount_G=snapshot.slice_amount_G[rows_G],
        moves_workload_M=new_W[snapshot.moves_workload_M[rows_M]],
        moves_node_M=snapshot.moves_node_M[rows_M],
        moves_gpu_M=snapshot.moves_gpu_M[rows_M],
        **columns,
    )


def _placed(snapshot: Snapshot, stay_W: Bools, places: list[tuple[int, tuple[Placed, ...]]]) -> Snapshot:
    """With the placements of `stay_W` as they are, and `places` besides."""
    node_index = {name: n for n, name in enumerate(snapshot.node_names)}
    rows_A, rows_G = stay_W[snapshot.placed_workload_A], stay_W[snapshot.slice_workload_G]
    placed = [(w, r, node_index[p.node]) for w, all_placed in places for r, p in enumerate(all_placed)]
    slices = [
        (w, r, node_index[p.node], gpu, min(int(snapshot.gpu_W[w]), WHOLE))
        for w, all_placed in places
        for r, p in enumerate(all_placed)
        for gpu in p.gpu_indices
    ]
    new_A = np.array(placed, dtype=np.int64).reshape(-1, 3)
    new_G = np.array(slices, dtype=np.int64).reshape(-1, 5)

    def joined(old: Ints, rows: Bools, new: Ints) -> Ints:
        return np.concatenate([old[rows], new])

    return replace(
        snapshot,
        placed_workload_A=joined(snapshot.placed_workload_A, rows_A, new_A[:, 0]),
        placed_replica_A=joined(snapshot.placed_replica_A, rows_A, new_A[:, 1]),
        placed_node_A=joined(snapshot.placed_node_A, rows_A, new_A[:, 2]),
        slice_workload_G=joined(snapshot.slice_workload_G, rows_G, new_G[:, 0]),
        slice_replica_G=joined(snapshot.slice_replica_G, rows_G, new_G[:, 1]),
        slice_node_G=joined(snapshot.slice_node_G, rows_G, new_G[:, 2]),
        slice_gpu_G=joined(snapshot.slice_gpu_G, rows_G, new_G[:, 3]),
        slice_amount_G=joined(snapshot.slice_amount_G, rows_G, new_G[:, 4]),
    )
