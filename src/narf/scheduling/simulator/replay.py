"""Replay: a trace through the very `plan` that production runs, from event to event.

What the cluster does besides is simulated: how long jobs run, restarts and the work lost to them, nodes that fail.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from narf.scheduling.decisions import Admit, Hold, Plan, Preempt
from narf.scheduling.planner import plan
from narf.scheduling.policy import DEFAULT_POLICY, Policy
from narf.scheduling.requests import Node, Placed, Queue
from narf.scheduling.simulator.history import History
from narf.scheduling.simulator.outcome import JobOutcome, Outcome
from narf.scheduling.simulator.restart import RestartCost
from narf.scheduling.simulator.traces import Trace, TraceJob, shape_of
from narf.scheduling.snapshot import WHOLE, Ints, Snapshot, snapshot_of

Progress = Callable[[float], None]  # part done, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What is simulated around the plan.

    checkpoint_seconds: how often jobs save by themselves; 0: whenever they are asked to leave. coalesce_seconds: events this
    close together are planned for at once, as the control plane does. look_again_seconds: how long until a plan is made though
    nothing happened, while something waits. node_mtbf_seconds: mean time between failures of a node, 0: none fail.
    """

    restart: RestartCost = field(default_factory=RestartCost)
    checkpoint_seconds: float = 0.0
    coalesce_seconds: float = 0.0
    look_again_seconds: float = 300.0
    node_mtbf_seconds: float = 0.0
    node_repair_seconds: float = 3600.0
    seed: int = 0


def replay(
    trace: Trace,
    nodes: Sequence[Node],
    policy: Policy = DEFAULT_POLICY,
    *,
    queues: Sequence[Queue] = (),
    world: World | None = None,
    name: str = "narf",
    progress: Progress | None = None,
    watch: Callable[[Snapshot, Plan, float], None] | None = None,
) -> Outcome:
    """What `policy` makes of `trace`. `watch` sees every snapshot and plan (to record, or to forecast)."""
    return _Replay(trace, nodes, policy, queues, world or World(), name, progress, watch).run()


_ARRIVE, _END, _LOOK, _FAIL, _REPAIR = range(5)


class _Columns:
    """One row a job of the trace; a snapshot takes the rows that are waiting or running."""

    def __init__(self, jobs: Sequence[TraceJob], nodes: Sequence[Node], queues: Sequence[Queue]) -> None:
        largest = max((node.gpus for node in nodes), default=0)
        shapes = [shape_of(job.gpus, largest) for job in jobs]
        known = {queue.name for queue in queues}
        made = [Queue(name=name) for name in dict.fromkeys(job.project for job in jobs) if name not in known]
        self.base = snapshot_of(nodes, [*queues, *made], [])
        index = {name: q for q, name in enumerate(self.base.queue_names)}
        self.constraints = tuple(sorted({job.flavors for job in jobs}))
        self.eligible = np.array(
            [[not flavors or node.flavor in flavors for node in nodes] for flavors in self.constraints], dtype=np.bool_
        )
        place = {flavors: k for k, flavors in enumerate(self.constraints)}
        self.ids = np.array([job.id for job in jobs], dtype=object)
        self.queue = _column(index[job.project] for job in jobs)
        self.constraint = _column(place[job.flavors] for job in jobs)
        self.replicas = _column(replicas for replicas, _ in shapes)
        self.gpu = _column(gpu for _, gpu in shapes)
        self.cpu = _column(round(job.cpu * WHOLE) // replicas for job, (replicas, _) in zip(jobs, shapes, strict=True))
        self.memory = _column(job.memory_bytes // replicas for job, (replicas, _) in zip(jobs, shapes, strict=True))
        self.priority = _column(job.priority for job in jobs)
        self.submitted = np.array([job.submitted_at for job in jobs])
        count = len(jobs)
        self.duration = np.array([job.duration for job in jobs])
        self.phase = np.zeros(count, dtype=np.int64)
        self.queued = self.submitted.copy()
        self.attained = np.zeros(count)
        self.done = np.zeros(count)  # work that counts
        self.started = np.full(count, np.nan)
        self.forecast = np.full((3, count), np.nan)
        self.tie = np.arange(count, dtype=np.int64)
        self.zeros = np.zeros(count, dtype=np.int64)
        self.ones = np.ones(count, dtype=np.bool_)
        self.forever = np.full(count, np.inf)


def _column(values: object) -> Ints:
    return np.fromiter(values, dtype=np.int64)  # type: ignore[call-overload, no-any-return]


class _Replay:
    def __init__(
        self, trace: Trace, nodes: Sequence[Node], policy: Policy, queues: Sequence[Queue], world: World, name: str,
        progress: Progress | None, watch: Callable[[Snapshot, Plan, float], None] | None,
    ) -> None:  # fmt: skip
        self.jobs, self.nodes, self.policy, self.world, self.name = trace.jobs, list(nodes), policy, world, name
        self.progress, self.watch = progress, watch
        self.columns = _Columns(trace.jobs, nodes, queues)
        self.number = {job.id: j for j, job in enumerate(trace.jobs)}
        self.node_index = {node.name: n for n, node in enumerate(nodes)}
        self.schedulable = np.array([node.schedulable for node in nodes], dtype=np.bool_)
        self.history = History()
        self.random = random.Random(world.seed)
        count = len(trace.jobs)
        self.waiting: dict[int, None] = {}
        self.running: dict[int, tuple[Placed, ...]] = {}
        self.held: dict[int, tuple[Placed, ...]] = {}
        self.epoch = [0] * count
        self.first = [float("nan")] * count
        self.finish = [float("nan")] * count
        self.overhead, self.preemptions, self.failures = [0.0] * count, [0] * count, [0] * count
        self.events: list[tuple[float, int, int, int]] = []
        self.lost = self.used = 0.0
        self.busy = 0.0
        self.plans = self.counted = 0
        self.samples: list[tuple[float, float, int]] = []
        self.never: list[str] = []
        self.looking = False
        self.placed_rows: dict[int, tuple[list[int], list[int], list[int], list[int]]] = {}

    def run(self) -> Outcome:
        began = time.perf_counter()
        jobs = self.jobs
        start = last = jobs[0].submitted_at if jobs else 0.0
        self.events = [(job.submitted_at, _ARRIVE, j, 0) for j, job in enumerate(jobs)]
        heapq.heapify(self.events)
        if self.world.node_mtbf_seconds:
            for n in range(len(self.nodes)):
                self._push(start + self.random.expovariate(1 / self.world.node_mtbf_seconds), _FAIL, n, 0)
        left = len(jobs)
        now = start
        while self.events and left:
            now = self.events[0][0]
            self.used += (now - last) * self.busy
            last = now
            changed = False
            until = now + self.world.coalesce_seconds
            while self.events and self.events[0][0] <= until:
                at, kind, j, epoch = heapq.heappop(self.events)
                if at > now:
                    self.used += (at - last) * self.busy
                    now = last = at
                ended = self._happen(now, kind, j, epoch)
                left -= ended
                changed = True
                self.counted += 1
            if changed and self.waiting:
                left -= self._plan(now)
            if self.progress and self.counted % 2000 < 2:
                self.progress(1 - left / max(1, len(jobs)))
        return self._outcome(start, now, time.perf_counter() - began)

    def _push(self, at: float, kind: int, j: int, epoch: int) -> None:
        heapq.heappush(self.events, (at, kind, j, epoch))

    def _happen(self, now: float, kind: int, j: int, epoch: int) -> int:
        """Carries one event out; 1 when a job came to its end."""
        if kind == _ARRIVE:
            forecast = self.history.forecast(self.jobs[j].similar)
            if forecast is not None:
                self.columns.forecast[:, j] = (forecast.low, forecast.middle, forecast.high)
            self.waiting[j] = None
        elif kind == _END and epoch == self.epoch[j]:
            self._leave(j)
            self.finish[j] = now
            self.history.add(self.jobs[j].similar, self.jobs[j].duration)
            return 1
        elif kind == _LOOK:
            self.looking = False
        elif kind == _FAIL:
            self._fail(now, j)
        elif kind == _REPAIR:
            self.schedulable[j] = True
            self._push(now + self.random.expovariate(1 / self.world.node_mtbf_seconds), _FAIL, j, 0)
        return 0

    def _fail(self, now: float, node: int) -> None:
        self.schedulable[node] = False
        self._push(now + self.world.node_repair_seconds, _REPAIR, node, 0)
        name = self.nodes[node].name
        for j in [j for j, placed in self.running.items() if any(where.node == name for where in placed)]:
            self.failures[j] += 1
            self._stop(j, now, checkpoints=False)

    def _plan(self, now: float) -> int:
        """Plans until nothing more is decided at this moment; how many jobs turned out never to fit."""
        gone = 0
        for _ in range(8):
            snapshot = self._snapshot(now)
            answer = plan(snapshot, self.policy, now)
            self.plans += 1
            if self.watch is not None:
                self.watch(snapshot, answer, now)
            for decision in answer.decisions:
                if isinstance(decision, Admit):
                    self._start(self.number[decision.workload], decision.placed, now)
            preempts = [decision for decision in answer.decisions if isinstance(decision, Preempt)]
            for preempt in preempts:
                self._stop(self.number[preempt.workload], now, checkpoints=True)
                self.preemptions[self.number[preempt.workload]] += 1
            self.held = {self.number[d.workload]: d.placed for d in answer.decisions if isinstance(d, Hold)}
            self.held |= {self.number[d.workload]: d.moves_to for d in preempts if d.moves_to}
            if not preempts:
                break  # those who were asked to leave have left at once, so that what is held can be given
        gone = self._drop_what_never_fits(answer)
        self.samples.append((now, self.busy, len(self.waiting)))
        if self.waiting and not self.looking and self.world.look_again_seconds:
            self.looking = True
            self._push(now + self.world.look_again_seconds, _LOOK, 0, 0)
        return gone

    def _drop_what_never_fits(self, answer: Plan) -> int:
        if not self.schedulable.all():
            return 0  # it may fit when the nodes are back
        dropped = [self.number[w] for w in answer.never_fit]
        for j in dropped:
            del self.waiting[j]
            self.never.append(self.jobs[j].id)
        return len(dropped)

    def _start(self, j: int, placed: tuple[Placed, ...], now: float) -> None:
        columns = self.columns
        again = self.preemptions[j] + self.failures[j] > 0
        restart = self.world.restart.of(self.jobs[j].gpus) if again else 0.0
        self.overhead[j] += restart
        del self.waiting[j]
        self.held.pop(j, None)
        self.running[j] = placed
        self._place(j, placed)
        columns.phase[j] = 1
        columns.started[j] = now
        self.busy += self.jobs[j].gpus
        if self.first[j] != self.first[j]:
            self.first[j] = now
        self.epoch[j] += 1
        self._push(now + restart + float(columns.duration[j] - columns.done[j]), _END, j, self.epoch[j])

    def _stop(self, j: int, now: float, *, checkpoints: bool) -> None:
        """Takes job `j` from the cluster and puts it back in the queue, with the work that it has saved."""
        columns = self.columns
        ran = now - float(columns.started[j])
        restart = self.world.restart.of(self.jobs[j].gpus) if self.preemptions[j] + self.failures[j] > (0 if checkpoints else 1) else 0.0
        if ran < restart:  # stopped while it was starting again
            self.overhead[j] -= restart - ran
            restart = ran
        worked = ran - restart
        every = self.world.checkpoint_seconds
        saved = worked if checkpoints and not every else float(worked // every * every) if every else 0.0
        columns.done[j] += saved
        columns.attained[j] += ran
        self.overhead[j] += worked - saved
        self._leave(j)
        columns.phase[j], columns.started[j] = 0, np.nan
        columns.queued[j] = now
        self.epoch[j] += 1
        self.waiting[j] = None

    def _leave(self, j: int) -> None:
        del self.running[j]
        self.placed_rows.pop(j, None)
        self.busy -= self.jobs[j].gpus

    def _place(self, j: int, placed: tuple[Placed, ...]) -> None:
        """Rows for the placement tables: (replica, node) and (replica, node, GPU), flat."""
        replicas = [self.node_index[where.node] for where in placed]
        slices = [(r, self.node_index[where.node], gpu) for r, where in enumerate(placed) for gpu in where.gpu_indices]
        self.placed_rows[j] = (replicas, [s[0] for s in slices], [s[1] for s in slices], [s[2] for s in slices])

    def _snapshot(self, now: float) -> Snapshot:
        columns, base, every = self.columns, self.columns.base, self.world.checkpoint_seconds
        alive = [*self.waiting, *self.running]
        rows = np.array(alive, dtype=np.int64)
        for j, placed in self.held.items():
            self._place(j, placed)
        aw: list[int] = []
        ar: list[int] = []
        an: list[int] = []
        gw: list[int] = []
        gr: list[int] = []
        gn: list[int] = []
        gg: list[int] = []
        for w, j in enumerate(alive):
            if j in self.placed_rows and (j in self.running or j in self.held):
                replicas, slice_replicas, slice_nodes, slice_gpus = self.placed_rows[j]
                aw.extend([w] * len(replicas))
                ar.extend(range(len(replicas)))
                an.extend(replicas)
                gw.extend([w] * len(slice_gpus))
                gr.extend(slice_replicas)
                gn.extend(slice_nodes)
                gg.extend(slice_gpus)
        gpu, started = columns.gpu[rows], columns.started[rows]
        # Without an interval a job saves when it is asked to leave, which is as good as having saved just now.
        checkpointed = started + (now - started) // every * every if every else np.where(np.isnan(started), started, now)
        slice_workload = np.array(gw, dtype=np.int64)
        return Snapshot(
            node_names=base.node_names, node_cluster_N=base.node_cluster_N, flavors=base.flavors, node_flavor_N=base.node_flavor_N, node_cpu_N=base.node_cpu_N,
            node_memory_N=base.node_memory_N, node_gpus_N=base.node_gpus_N, node_gpu_memory_N=base.node_gpu_memory_N,
            schedulable_N=self.schedulable.copy(), queue_names=base.queue_names, queue_parent_Q=base.queue_parent_Q,
            quota_QR=base.quota_QR, limit_QR=base.limit_QR, weight_Q=base.weight_Q, usage_Q=base.usage_Q,
            constraints=tuple((flavors[0] if len(flavors) == 1 else "", ()) for flavors in columns.constraints),
            eligible_KN=columns.eligible, ids=columns.ids[rows].tolist(), queue_W=columns.queue[rows],
            constraint_W=columns.constraint[rows], replicas_W=columns.replicas[rows], gpu_W=gpu, cpu_W=columns.cpu[rows],
            memory_W=columns.memory[rows], gpu_memory_W=columns.zeros[rows], priority_W=columns.priority[rows],
            preemptible_W=columns.ones[rows], phase_W=columns.phase[rows], submitted_W=columns.submitted[rows],
            queued_W=columns.queued[rows], attained_W=columns.attained[rows], started_W=started,
            checkpointed_W=checkpointed, duration_3W=columns.forecast[:, rows], max_seconds_W=columns.forever[rows],
            tie_W=columns.tie[rows], placed_workload_A=np.array(aw, dtype=np.int64), placed_replica_A=np.array(ar, dtype=np.int64),
            placed_node_A=np.array(an, dtype=np.int64), slice_workload_G=slice_workload, slice_replica_G=np.array(gr, dtype=np.int64),
            slice_node_G=np.array(gn, dtype=np.int64), slice_gpu_G=np.array(gg, dtype=np.int64),
            slice_amount_G=np.minimum(gpu[slice_workload], WHOLE),
        )  # fmt: skip

    def _outcome(self, start: float, end: float, wall: float) -> Outcome:
        outcomes = [
            JobOutcome(
                id=job.id, project=job.project, gpus=job.gpus, submitted_at=job.submitted_at, first_started_at=self.first[j],
                finished_at=self.finish[j], duration=job.duration, preemptions=self.preemptions[j], overhead=self.overhead[j],
                failures=self.failures[j],
            )
            for j, job in enumerate(self.jobs)
        ]  # fmt: skip
        lost = sum(job.overhead * job.gpus for job in outcomes)
        capacity = float(sum(node.gpus for node in self.nodes))
        return Outcome(
            policy=self.name, capacity_gpus=capacity, jobs=outcomes, used_gpu_seconds=self.used, lost_gpu_seconds=lost, seconds=end - start,
            events=self.counted, plans=self.plans, samples=self.samples, never_fit=self.never, wall_seconds=wall,
        )  # fmt: skip
