"""Moves studies on: results are taken in, the sampler is told and asked, trials begin and stop.

The reconciler is the only writer of trials. What it keeps in memory (proposers, records) is rebuilt from the tables whenever the
version of a study is not the one it wrote itself: after a restart, or when another process had the lead.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from sqlalchemy import Connection

from narf.control.database import Database
from narf.control.studies import store
from narf.control.studies.driver import driver_of
from narf.control.studies.launch import submission_of
from narf.control.workloads.service import RunRecorder, WorkloadService
from narf.domain.errors import BadInput, NarfError
from narf.domain.workload import Workload, WorkloadState
from narf.tuning.decisions import Step, decide, wants_more
from narf.tuning.engines import make_proposer
from narf.tuning.outcome import Outcome, is_diverging, outcome_of
from narf.tuning.pbt import PbtProposer
from narf.tuning.proposer import Earlier, Proposer, SearchBroken
from narf.tuning.study import Engine, Fault, Study, StudyEnd, StudyState, Trial, TrialState

_log = logging.getLogger(__name__)
_METRIC_PATIENCE_SECONDS = 3.0  # how long points of a trial that has ended may take to arrive, when nobody knows of any
_DELIVERY_PATIENCE_SECONDS = 600.0  # and when they are known to be on their way: we were away, or come back elsewhere
_OUTPUT_BYTES = 16_384
_LONGEST_REST_SECONDS = 60.0


class TrialMetrics(Protocol):
    """Where values that runs reported are read."""

    def counts(self, run_ids: Sequence[str], key: str) -> Mapping[str, int]:
        """How many points each run has of one metric; a run without any may be left out."""
        ...

    def points(self, run_id: str, key: str, after: int) -> Sequence[tuple[int, float]]:
        """(step, value) of one metric in the order in which they came, from point number `after` on."""
        ...

    def names(self, run_id: str) -> Sequence[str]:
        """Names of all metrics of a run."""
        ...

    def is_complete(self, run_id: str) -> bool:
        """Whether all that the program of this run reported has arrived, as far as is known."""
        ...


class ParentRun(Protocol):
    """Notes on the run of a study."""

    def note(self, run_id: str, *, tags: dict[str, str], metrics: dict[str, float]) -> None: ...


class _Overtaken(Exception):
    """Somebody has changed the study since it was loaded: what we hold of it is forgotten, and loaded again."""


@dataclass
class _Held:
    """What is kept of one study between passes."""

    study: Study
    trials: dict[int, Trial]
    proposer: Proposer | PbtProposer | None
    stored: set[int]  # numbers that have a row
    fresh: dict[int, Trial] = field(default_factory=dict)  # changed, not written yet

    def put(self, trial: Trial) -> None:
        self.trials[trial.number] = self.fresh[trial.number] = trial


class StudyReconciler:
    name = "studies"

    def __init__(
        self,
        database: Database,
        workloads: WorkloadService,
        metrics: TrialMetrics,
        runs: RunRecorder,
        parents: ParentRun,
        changed: Callable[[Study], None] = lambda _study: None,
        has_checkpoint: Callable[[str], bool] = lambda _workload: True,
    ) -> None:
        """has_checkpoint: whether a workload left something to go on from."""
        self._database, self._workloads, self._metrics, self._runs = database, workloads, metrics, runs
        self._parents, self.changed, self._has_checkpoint = parents, changed, has_checkpoint
        self._held: dict[str, _Held] = {}
        self._resting: dict[str, tuple[int, datetime]] = {}  # how often a study has failed in a row, and when it is tried again
        self._alive = 0
        self._looks_again = False
        self.asks_on = True  # a study would begin another trial if none waited

    def next_look_seconds(self) -> float:
        """Live trials are looked at for new values twice a second; the end of one wakes us."""
        return 0.5 if self._alive else 5.0

    def pass_once(self, now: datetime) -> bool:
        """Raises what one of the studies stumbled over, once all others have been looked at."""
        with self._database.read() as connection:
            active = store.active(connection)
        for gone in (self._held.keys() | self._resting.keys()) - {study.id for study in active}:
            self._held.pop(gone, None)
            self._resting.pop(gone, None)
        self._alive, self._looks_again = 0, False
        self.asks_on, asks_on = True, False  # until it is known
        stumbled: Exception | None = None
        for study in active:
            failures, again_at = self._resting.get(study.id, (0, now))
            if now < again_at:
                continue
            try:
                held = self._pass_over(study, now)
            except _Overtaken:
                self._looks_again = asks_on = True
            except Exception as error:
                asks_on = True
                if isinstance(error, NarfError):
                    _log.warning("study %s cannot go on now: %s", study.name, error)
                    continue
                stumbled = stumbled or error
                self._resting[study.id] = failures + 1, now + timedelta(seconds=min(_LONGEST_REST_SECONDS, 2.0**failures))
            else:
                self._resting.pop(study.id, None)
                asks_on |= wants_more(held.study, list(held.trials.values()))
                if held.study.version != study.version:
                    self.changed(held.study)
        self.asks_on = asks_on
        if stumbled is not None:
            raise stumbled
        return self._looks_again

    def _pass_over(self, study: Study, now: datetime) -> _Held:
        """Move one study on. What is held of it is forgotten when that fails: it may have been ahead of the tables."""
        try:
            held = self._hold(study)
            self._move(held, now)
        except SearchBroken as error:
            self._held.pop(study.id, None)
            _log.warning("study %s ends: %s", study.name, error, exc_info=True)
            held = self._load(study, searches=False)
            self._stop(held, decide(replace(study, state=StudyState.FAILED), list(held.trials.values()), now))
            self._finish(held, StudyEnd.SEARCH_FAILED, str(error), now)
        except Exception:
            self._held.pop(study.id, None)
            raise
        return held

    def _hold(self, study: Study) -> _Held:
        held = self._held.get(study.id)
        if held is not None and held.study.version == study.version:
            return held
        self._held[study.id] = self._load(study, searches=study.engine is Engine.EMBEDDED and not study.state.is_finished, known=held)
        return self._held[study.id]

    def _load(self, study: Study, *, searches: bool, known: _Held | None = None) -> _Held:
        """The record of a study and, if it still searches, a proposer that has been told of it: the known one where that is up to date."""
        with self._database.read() as connection:
            trials = {trial.number: trial for trial in store.trials_of(connection, study.id)}
            earlier = self._earlier(connection, study) if searches else []
        if (
            known is not None
            and known.study.events == study.events
            and known.trials == trials
            and (known.proposer is not None or not searches)
        ):
            known.study = study  # its state or budget was changed; the search goes on where it was
            return known
        proposer: Proposer | PbtProposer | None = None
        if searches:
            proposer = make_proposer(study.space, study.direction, study.search, study.initial, earlier)
            proposer.replay(list(trials.values()))
        return _Held(study, trials, proposer, set(trials))

    def _earlier(self, connection: Connection, study: Study) -> list[Earlier]:
        found = []
        for other in study.warm_from:
            for trial in store.trials_of(connection, other):
                if trial.state is TrialState.SUCCEEDED and trial.value is not None:
                    found.append(Earlier(trial.values, trial.value))
        return found

    def _move(self, held: _Held, now: datetime) -> None:
        if held.study.engine is not Engine.EMBEDDED:
            self._watch_driver(held, now)
            return
        waiting = self._take_in(held, now)
        trials = [held.trials[number] for number in sorted(held.trials)]
        if held.proposer is None:  # the search has ended, its trials have not
            step = decide(held.study, trials, now)
        else:
            held.proposer.know(trials)
            step = decide(held.study, trials, now, waiting=waiting, exhausted=held.proposer.is_exhausted, ready=held.proposer.ready)
        self._stop(held, step)
        for _ in range(step.ask):
            if held.proposer is not None and held.proposer.is_exhausted:
                self._looks_again = True
                break
            self._begin(held, now)
        self._alive += sum(trial.state is TrialState.RUNNING for trial in held.trials.values())
        if step.end is not None:
            self._finish(held, step.end, step.detail, now)
        elif held.fresh:
            self._write(held)

    # -- results

    def _take_in(self, held: _Held, now: datetime) -> int:
        """Look at every live trial; how many of them wait for capacity."""
        waiting = 0
        running = [trial for trial in held.trials.values() if trial.state is TrialState.RUNNING]
        if not running:
            return 0
        workloads = self._workloads.of_ids([trial.workload_id for trial in running if trial.workload_id is not None])
        counts = self._metrics.counts([trial.run_id for trial in running if trial.run_id is not None], held.study.metric)
        for trial in running:
            workload = workloads.get(trial.workload_id or "")
            if workload is None:
                self._end(held, trial, Outcome(TrialState.CANCELLED, detail="Its workload was deleted."), now)
                continue
            waiting += workload.state is WorkloadState.QUEUED
            if workload.state is WorkloadState.QUEUED:
                continue
            trial = self._with_start(held, trial, workload)
            if not workload.state.is_finished and trial.run_id is not None and counts.get(trial.run_id, 0) > len(trial.reports):
                self._with_reports(held, trial, workload)
            if workload.state.is_finished:
                self._take_result(held, trial, workload, now)
        return waiting

    def _with_start(self, held: _Held, trial: Trial, workload: Workload) -> Trial:
        if trial.started_at is None and workload.started_at is not None:
            trial = replace(trial, started_at=workload.started_at)
            held.put(trial)
        return trial

    def _with_reports(self, held: _Held, trial: Trial, workload: Workload) -> Trial:
        """New values of the metric, each shown to the pruner in its order."""
        points = list(self._metrics.points(trial.run_id, held.study.metric, len(trial.reports))) if trial.run_id else []
        if not points:
            return trial
        trial = replace(trial, reports=(*trial.reports, *points))
        is_behind = False
        for _, value in points:
            is_behind |= held.proposer is not None and held.proposer.report(trial.number, value)
        if trial.stopping is None and not workload.state.is_finished:
            if is_behind:
                trial = self._ask_to_stop(trial, TrialState.PRUNED, None)
            elif is_diverging(trial.reports):
                trial = self._ask_to_stop(trial, TrialState.FAILED, Fault.DIVERGED)
        held.put(trial)
        return trial

    def _take_result(self, held: _Held, trial: Trial, workload: Workload, now: datetime) -> None:
        ended = workload.ended_at or now
        if workload.run_id and self._may_still_report(workload, (now - ended).total_seconds()):
            return
        trial = self._with_reports(held, trial, workload)  # now that all has arrived
        output, names = "", []
        if workload.state is WorkloadState.FAILED:
            output = self._output(workload)
        elif not trial.reports and trial.run_id:
            names = list(self._metrics.names(trial.run_id))
        outcome = outcome_of(held.study, trial, workload, output=output, metrics=names)
        trial = replace(
            trial, started_at=trial.started_at or workload.started_at, gpu_seconds=workload.used_seconds * workload.resources.gpu
        )
        self._end(held, trial, outcome, ended)

    def _may_still_report(self, workload: Workload, seconds: float) -> bool:
        """Whether something that it reported may still arrive, so many seconds after its end."""
        assert workload.run_id is not None
        if seconds > _DELIVERY_PATIENCE_SECONDS or self._metrics.is_complete(workload.run_id):
            return False
        return seconds <= _METRIC_PATIENCE_SECONDS or not self._workloads.is_delivered(workload)

    def _end(self, held: _Held, trial: Trial, outcome: Outcome, ended: datetime) -> None:
        if held.proposer is not None:
            held.proposer.tell(trial.number, outcome.state, outcome.value)
        held.put(
            replace(
                trial,
                state=outcome.state,
                value=outcome.value,
                fault=outcome.fault,
                detail=outcome.detail,
                ended_at=ended,
                told_at=held.study.events,
            )
        )
        held.study = replace(held.study, events=held.study.events + 1)

    def _output(self, workload: Workload) -> str:
        """The end of what a workload printed."""
        try:
            chunk = self._workloads.logs(workload.id, limit=1 << 20)
            while not chunk.is_complete and chunk.data:
                chunk = self._workloads.logs(workload.id, offset=chunk.start + len(chunk.data), limit=1 << 20)
            return chunk.data[-_OUTPUT_BYTES:].decode(errors="replace")
        except NarfError as error:
            return str(error)

    # -- trials begin and stop

    def _stop(self, held: _Held, step: Step) -> None:
        for number, becomes, fault in step.stop:
            trial = held.trials[number]
            if trial.stopping is None and trial.state is TrialState.RUNNING:
                held.put(self._ask_to_stop(trial, becomes, fault))

    def _ask_to_stop(self, trial: Trial, becomes: TrialState, fault: Fault | None) -> Trial:
        if trial.workload_id is not None:
            self._workloads.cancel(trial.workload_id, by="platform")
        return replace(trial, stopping=becomes, fault=fault)

    def _begin(self, held: _Held, now: datetime) -> None:
        """Ask for the next trial and submit it. It is written down with its workload, and so is what else is new."""
        assert held.proposer is not None
        number = len(held.trials)
        proposal = held.proposer.propose(number)
        source = held.trials[proposal.source] if proposal.source is not None else None
        if source is not None and source.workload_id is not None and not self._has_checkpoint(source.workload_id):
            raise SearchBroken(
                f"trial {source.number} left no checkpoint to go on from.",
                remedy="A population needs a script that Narf resumes: one that trains with Lightning, or uses narf.checkpoint.",
            )
        trial = Trial(
            study_id=held.study.id,
            number=number,
            values=proposal.values,
            created_at=now,
            asked_at=held.study.events,
            member=proposal.member,
            generation=proposal.generation,
            source=proposal.source,
        )
        held.put(trial)
        held.proposer.know(held.trials.values())
        held.study = replace(held.study, events=held.study.events + 1)

        def together(connection: Connection, workload: Workload) -> None:
            held.put(replace(trial, workload_id=workload.id, run_id=workload.run_id))
            self._save(connection, held)

        try:
            self._workloads.submit(submission_of(held.study, trial, source), together)
        except BadInput as error:
            self._end(held, trial, Outcome(TrialState.FAILED, fault=Fault.NOT_STARTED, detail=str(error)), now)
            self._looks_again = True

    def _write(self, held: _Held) -> None:
        with self._database.write() as connection:
            self._save(connection, held)

    def _save(self, connection: Connection, held: _Held) -> None:
        """Write what changed, guarded by the study's version.

        Raises:
            _Overtaken: somebody has changed the study since it was loaded.
        """
        fresh, held.fresh = list(held.fresh.values()), {}
        saved = store.save(connection, held.study)
        if saved is None:
            raise _Overtaken
        for trial in fresh:
            if trial.number not in held.stored:
                store.add_trial(connection, trial)
        store.save_trials(connection, [trial for trial in fresh if trial.number in held.stored])
        held.study = saved
        held.stored.update(trial.number for trial in fresh)

    # -- the end

    def _finish(self, held: _Held, end: StudyEnd, detail: str, now: datetime) -> None:
        failed = end in (StudyEnd.ALL_FAIL, StudyEnd.NOTHING_WORKED, StudyEnd.DRIVER_FAILED, StudyEnd.SEARCH_FAILED)
        state = StudyState.FAILED if failed else StudyState.SUCCEEDED
        study = held.study
        held.study = replace(
            study.to(state), ended_at=now, end=end, detail=detail, active_seconds=study.spent_seconds(now), active_since=None
        )
        self._write(held)
        if study.run_id:
            self._note_best(held)
            self._runs.finish_run(study.run_id, WorkloadState.FAILED if failed else WorkloadState.SUCCEEDED)

    def _note_best(self, held: _Held) -> None:
        from narf.tuning.study import best_of

        best = best_of(list(held.trials.values()), held.study.direction)
        if best is None or held.study.run_id is None or best.value is None:
            return
        tags = {f"narf.best.{name}": str(value) for name, value in best.values.items()} | {"narf.best.trial": str(best.number)}
        self._parents.note(held.study.run_id, tags=tags, metrics={held.study.metric: best.value})

    # -- engines with a driver of their own

    def _watch_driver(self, held: _Held, now: datetime) -> None:
        """Submit the driver once; stop it when the study is to stop; end the study when it has ended."""
        study = held.study
        if study.state.is_finished or study.state is StudyState.PAUSED:
            if study.workload_id is not None:
                stopped = self._workloads.cancel(study.workload_id, by="platform").state.is_finished
                if stopped and study.state is StudyState.PAUSED:
                    held.study = replace(study, workload_id=None)  # to go on takes another driver
                    self._write(held)
                    return
            if study.state.is_finished:
                self._drop_running(held, now)
            return
        if study.workload_id is None:
            try:
                workload = self._workloads.submit(driver_of(study, len(held.trials)))
            except BadInput as error:
                self._finish(held, StudyEnd.DRIVER_FAILED, str(error), now)
                return
            held.study = replace(study, workload_id=workload.id)
            self._write(held)
            return
        self._alive += 1
        workload = self._workloads.workload(study.workload_id)
        if not workload.state.is_finished:
            return
        self._settle_paused(held)
        trials = list(held.trials.values())
        if workload.state is WorkloadState.SUCCEEDED:
            step = decide(study, [replace(t, state=TrialState.CANCELLED) if t.state is TrialState.RUNNING else t for t in trials], now)
            self._finish(held, step.end or StudyEnd.TRIALS, step.detail, now)
        else:
            self._finish(held, StudyEnd.DRIVER_FAILED, f"{workload.sentence()} {self._output(workload)[-300:]}".strip(), now)

    def _settle_paused(self, held: _Held) -> None:
        """Nobody is left to go on with the members of a population that were put aside: what they reached counts."""
        for trial in [trial for trial in held.trials.values() if trial.state is TrialState.PAUSED]:
            held.put(replace(trial, state=TrialState.SUCCEEDED))
            if trial.run_id:
                self._runs.finish_run(trial.run_id, WorkloadState.SUCCEEDED)

    def _drop_running(self, held: _Held, now: datetime) -> None:
        self._settle_paused(held)
        running = [trial for trial in held.trials.values() if trial.state is TrialState.RUNNING]
        for trial in running:
            held.put(replace(trial, state=TrialState.CANCELLED, ended_at=now, told_at=held.study.events))
        if held.fresh:
            self._write(held)
