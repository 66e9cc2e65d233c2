"""Progress: what was admitted is started, what runs is watched, what ended is recorded, retried or put back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from narf.backends.protocol import Backend, Job, JobPhase, JobStatus
from narf.control.database import Database
from narf.control.workloads import store
from narf.control.workloads.alive import Alive
from narf.control.workloads.service import RunRecorder
from narf.control.workloads.store import Attempt
from narf.domain.errors import NarfError
from narf.domain.workload import EndReason, Workload, WorkloadKind, WorkloadState

_log = logging.getLogger(__name__)

_SHORT_SECONDS = 0.25  # a search of short trials writes down their ends; that one runs only when it has run for so long
_HELD = (WorkloadState.ADMITTED, WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.PREEMPTING)


@dataclass(frozen=True, slots=True)
class Next:
    """What the status of its job means for a workload. `ended` closes the attempt."""

    workload: Workload
    ended: bool


def after(workload: Workload, status: JobStatus, now: datetime) -> Next | None:
    """The workload as it should be, given the status of its current job; None: as it is. Pure.

    An attempt that ended for no fault of the user's is tried again, `max_retries` times; a preempted one always.
    """
    if status.phase is JobPhase.ENDED:
        return Next(_ended(workload, status, now), ended=True)
    if status.phase is JobPhase.UNKNOWN and workload.state is not WorkloadState.ADMITTED:
        lost = replace(status, phase=JobPhase.ENDED, reason=EndReason.NODE_LOST, ended_at=now)
        return Next(_ended(workload, lost, now), ended=True)
    started = workload.started_at or status.started_at
    if status.phase is JobPhase.RUNNING and workload.state in (WorkloadState.ADMITTED, WorkloadState.STARTING):
        if workload.kind is WorkloadKind.TRIAL and started is not None and (now - started).total_seconds() < _SHORT_SECONDS:
            return None
        return Next(replace(workload.to(WorkloadState.RUNNING), started_at=started), ended=False)
    if status.phase is JobPhase.STARTING and workload.state is WorkloadState.ADMITTED:
        return Next(workload.to(WorkloadState.STARTING), ended=False)
    return None


def _ended(workload: Workload, status: JobStatus, now: datetime) -> Workload:
    reason = status.reason or EndReason.NODE_LOST
    ended_at = status.ended_at or now
    ran = max(0.0, (ended_at - status.started_at).total_seconds()) if status.started_at else 0.0
    facts = replace(
        workload,
        started_at=workload.started_at or status.started_at,
        used_seconds=workload.used_seconds + ran,
        exit_code=status.exit_code,
        end_reason=reason,
        detail=status.detail,
    )
    if reason is EndReason.COMPLETED:
        return replace(facts.to(WorkloadState.SUCCEEDED), ended_at=ended_at)
    if workload.cancel_requested:
        return replace(facts.to(WorkloadState.CANCELLED), ended_at=ended_at, end_reason=EndReason.CANCELLED)
    taken_back = workload.state is WorkloadState.PREEMPTING and reason is not EndReason.USER_ERROR
    if taken_back or reason is EndReason.PREEMPTED:
        return replace(facts.to(WorkloadState.QUEUED), queued_at=now, end_reason=EndReason.PREEMPTED)
    if reason.may_retry and workload.failures < workload.max_retries:
        return replace(facts.to(WorkloadState.QUEUED), queued_at=now, failures=workload.failures + 1)
    return replace(facts.to(WorkloadState.FAILED), ended_at=ended_at)


class ProgressReconciler:
    """`job_of` prepares the job of an attempt: token, environment, data folders. `ended` hears of finished workloads."""

    name = "progress"

    def __init__(
        self,
        database: Database,
        backends: Mapping[str, Backend],
        runs: RunRecorder,
        job_of: Callable[[Workload, Attempt], Job],
        *,
        changed: Callable[[Workload], None] = lambda _workload: None,
        ended: Callable[[Workload], None] = lambda _workload: None,
        busy_seconds: float = 0.1,
    ) -> None:
        self._database, self._backends, self._runs, self._job_of = database, backends, runs, job_of
        self.changed, self.ended, self._busy_seconds = changed, ended, busy_seconds
        self._alive = 0
        self._known = Alive(_HELD)

    def next_look_seconds(self) -> float:
        return self._busy_seconds if self._alive else 2.0

    def pass_once(self, now: datetime) -> bool:
        with self._database.read() as connection:
            alive = self._known.load(connection)
        self._alive = len(alive)
        if not alive:
            return False
        attempts = {workload.id: attempt for workload, attempt in alive if attempt is not None}
        pairs = [(workload, attempts[workload.id]) for workload, _ in alive if workload.id in attempts]
        is_overtaken = False
        for workload, status in self._observe(pairs, now):
            attempt = attempts[workload.id]
            if workload.state is WorkloadState.ADMITTED and status.phase is JobPhase.UNKNOWN:
                is_overtaken |= not self._start(workload, attempt, now)
                continue
            if status.phase in (JobPhase.STARTING, JobPhase.RUNNING):
                self._stop_if_asked(workload, attempt)
            is_overtaken |= not self._keep(workload, status, now)
        return is_overtaken

    def _observe(self, pairs: Sequence[tuple[Workload, Attempt]], now: datetime) -> list[tuple[Workload, JobStatus]]:
        """A backend that is not connected, or cannot be asked now, says nothing: what runs there is left as it is."""
        found = []
        for name in {attempt.backend for _, attempt in pairs}:
            ours = [(workload, attempt) for workload, attempt in pairs if attempt.backend == name]
            backend = self._backends.get(name)
            if backend is None:
                # Admitted while its cluster was being removed: it never started, so it may go elsewhere.
                gone = EndReason.NODE_LOST, f"The cluster {name!r} is not connected."
                found += [
                    (workload, JobStatus(id=workload.job_id, phase=JobPhase.ENDED, reason=gone[0], ended_at=now, detail=gone[1]))
                    for workload, _ in ours
                    if workload.state is WorkloadState.ADMITTED
                ]
                continue
            try:
                statuses = backend.observe([workload.job_id for workload, _ in ours])
            except (NarfError, OSError) as error:
                _log.warning("the backend %s cannot be observed now: %s", name, error)
                continue
            found += [(workload, status) for (workload, _), status in zip(ours, statuses, strict=True)]
        return found

    def _start(self, workload: Workload, attempt: Attempt, now: datetime) -> bool:
        if workload.cancel_requested:
            status = JobStatus(id=workload.job_id, phase=JobPhase.ENDED, reason=EndReason.CANCELLED, ended_at=now)
            return self._keep(workload, status, now)
        try:
            self._backends[attempt.backend].submit(self._job_of(workload, attempt))
        except NarfError as error:
            _log.warning("workload %s cannot start: %s", workload.id, error)
            status = JobStatus(id=workload.job_id, phase=JobPhase.ENDED, reason=EndReason.START_FAILED, ended_at=now, detail=str(error))
            return self._keep(workload, status, now)
        # Most run within milliseconds, and say so: that it starts is written down by the next look, if it takes longer.
        return True

    def lose(self, workload: Workload, detail: str, now: datetime) -> None:
        """Its cluster is gone for good: the attempt counts as lost, and the workload is tried again."""
        self._keep(
            workload, JobStatus(id=workload.job_id, phase=JobPhase.ENDED, reason=EndReason.NODE_LOST, ended_at=now, detail=detail), now
        )

    def _stop_if_asked(self, workload: Workload, attempt: Attempt) -> None:
        if workload.cancel_requested:
            self._backends[attempt.backend].cancel(workload.job_id, EndReason.CANCELLED)
        elif workload.state is WorkloadState.PREEMPTING:
            self._backends[attempt.backend].cancel(workload.job_id, EndReason.PREEMPTED)

    def _keep(self, workload: Workload, status: JobStatus, now: datetime) -> bool:
        """Write down what its status means; false when somebody changed it meanwhile: the next pass decides again."""
        following = after(workload, status, now)
        if following is None:
            return True
        with self._database.write() as connection:
            done = store.save_all(connection, [following.workload], now)
            if not done:
                return False
            saved = done[0]
            if following.ended:
                store.end_attempt(
                    connection,
                    workload.id,
                    workload.attempt,
                    started_at=status.started_at,
                    ended_at=status.ended_at or now,
                    reason=saved.end_reason or EndReason.NODE_LOST,
                    exit_code=status.exit_code,
                    detail=status.detail,
                    cpu_seconds=status.cpu_seconds,
                    peak_memory_bytes=status.peak_memory_bytes,
                )
            elif status.started_at is not None:
                store.start_attempt(connection, workload.id, workload.attempt, status.started_at)
        self.changed(saved)
        if saved.state.is_finished:
            if saved.run_id:
                self._runs.finish_run(saved.run_id, saved.state)
            self.ended(saved)
        return True
