"""What drivers of studies (Ray Tune) ask and tell: the record stays here, whichever engine runs the trials."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from narf.control.database import Database
from narf.control.studies import store
from narf.control.studies.launch import submission_of
from narf.control.tracking.gate import PARENT_TAG
from narf.control.workloads.service import RunRecorder
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.workload import EndReason, Resources, Workload, WorkloadKind, WorkloadState
from narf.tuning.decisions import longest_of
from narf.tuning.outcome import outcome_of
from narf.tuning.space import Value
from narf.tuning.study import Fault, Study, Trial, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class DrivenResult:
    """The end of a trial as its driver saw it. `state`: succeeded, failed, pruned, hung, or paused: a member of a population that may go on."""

    number: int
    values: Mapping[str, Value]
    state: str
    reports: Sequence[tuple[int, float]]
    output: str
    reason: EndReason | None
    exit_code: int | None
    started_at: datetime
    ended_at: datetime


class DrivenStudies:
    """`names`: the metrics that a run has reported."""

    def __init__(
        self,
        database: Database,
        runs: RunRecorder,
        now: Callable[[], datetime],
        names: Callable[[str], Sequence[str]] = lambda _run: (),
        changed: Callable[[str], None] = lambda _study: None,
    ) -> None:
        self._database, self._runs, self._now, self._names, self.changed = database, runs, now, names, changed

    def begin(self, study_id: str, caller: Principal) -> tuple[Study, list[Trial]]:
        """A driver begins, or begins again: trials that another one had in its hands are given up."""
        study = self._own(study_id, caller)
        now = self._now()
        with self._database.write() as connection:
            known = store.trials_of(connection, study_id)
            lost = [
                replace(trial, state=TrialState.CANCELLED, ended_at=now, detail="Its driver was lost.", told_at=study.events)
                for trial in known
                if trial.state is TrialState.RUNNING
            ]
            left = [replace(trial, state=TrialState.SUCCEEDED) for trial in known if trial.state is TrialState.PAUSED]
            store.save_trials(connection, lost + left)
        for trial in lost + left:
            if trial.run_id:
                ended = WorkloadState.SUCCEEDED if trial.state is TrialState.SUCCEEDED else WorkloadState.CANCELLED
                self._runs.finish_run(trial.run_id, ended)
        gone = {trial.number for trial in lost + left}
        return study, [trial for trial in known if trial.number not in gone] + lost + left

    def trial(self, study_id: str, caller: Principal, key: str, values: Mapping[str, Value]) -> tuple[Trial, float]:
        """The trial that the driver calls `key`, with its run; made when it is first asked for. And how many seconds it may take before
        it hangs, by those that have worked until now."""
        study = self._own(study_id, caller)
        if study.state.is_finished:
            raise Conflict(f"Study {study.name} is {study.state.value}.", remedy="Stop.", code="study_over")
        checked = study.space.check(values, field="values")
        with self._database.read() as connection:
            known = store.trial_by_key(connection, study_id, key)
            if known is not None:
                return known, longest_of(store.trials_of(connection, study_id))
        now = self._now()
        draft = Trial(study_id=study_id, number=0, values=checked, created_at=now)
        asked = submission_of(study, draft)
        run_id = self._runs.create_run(
            project=study.project,
            experiment=study.experiment,
            name=study.name,
            user=study.owner,
            params=dict(asked.params),
            tags=dict(asked.tags) | ({PARENT_TAG: study.run_id} if study.run_id else {}),  # lets the driver's token write to it
        )
        with self._database.write() as connection:
            current = store.find(connection, study_id) or study
            before = store.trials_of(connection, study_id)
            trial = replace(draft, number=len(before), run_id=run_id, started_at=now, asked_at=current.events)
            store.add_trial(connection, trial, key)
            store.save(connection, replace(current, events=current.events + 1))
        self.changed(study_id)
        return trial, longest_of(before)

    def result(self, study_id: str, caller: Principal, result: DrivenResult) -> Trial:
        """What came of a trial. Told again, the first answer stands; but a member of a population may have been paused, and what is told
        of it later, of the time since, comes on top: its newest values and value count."""
        study = self._own(study_id, caller)
        with self._database.write() as connection:
            known = store.trial(connection, study_id, result.number)
            if known is None:
                raise NotFound("trial", f"{result.number} of {study.name}")
            goes_on = study.search.sampler == "pbt" and known.ended_at is not None and result.ended_at > known.ended_at
            if known.state is not TrialState.RUNNING and not goes_on:
                return known
            current = store.find(connection, study_id) or study
            reports = (*known.reports, *result.reports) if goes_on else tuple(result.reports)
            trial = replace(known, values=study.space.check(result.values, field="values"), reports=reports)
            names = self._names(trial.run_id) if trial.run_id and not trial.reports else ()
            ended = _as_workload(study, trial, result)
            outcome = outcome_of(study, _stopping(trial, result), ended, output=result.output, metrics=names)
            is_paused = result.state == "paused" and outcome.state is TrialState.SUCCEEDED
            trial = replace(
                trial,
                state=TrialState.PAUSED if is_paused else outcome.state,
                value=outcome.value,
                fault=outcome.fault,
                detail=outcome.detail,
                started_at=known.started_at if goes_on else result.started_at,
                ended_at=result.ended_at,
                told_at=current.events,
                gpu_seconds=known.gpu_seconds + max(0.0, (result.ended_at - result.started_at).total_seconds()) * study.resources.gpu,
            )
            store.save_trials(connection, [trial])
            store.save(connection, replace(current, events=current.events + 1))
        if trial.run_id and trial.state.is_finished:
            states = {TrialState.SUCCEEDED: WorkloadState.SUCCEEDED, TrialState.FAILED: WorkloadState.FAILED}
            self._runs.finish_run(trial.run_id, states.get(trial.state, WorkloadState.CANCELLED))
        self.changed(study_id)
        return trial

    def _own(self, study_id: str, caller: Principal) -> Study:
        """The study that the caller drives: its token is that of the study's run."""
        with self._database.read() as connection:
            study = store.find(connection, study_id)
        if study is None:
            raise NotFound("study", study_id)
        if caller.run_id is not None and caller.run_id != study.run_id:
            raise NotAllowed("This token drives another study.", remedy="Use the token that the driver was started with.")
        return study


def spec_of(study: Study, trials: Sequence[Trial], now: datetime) -> dict[str, Any]:
    """What a driver needs to know of its study."""
    seconds = None if study.budget.seconds is None else max(1.0, study.budget.seconds - study.spent_seconds(now))
    return {
        "id": study.id,
        "project": study.project,
        "script": study.program.script,
        "arguments": list(study.program.arguments),
        "environment": dict(study.program.environment),
        "space": study.space.to_json(),
        "bindings": {name: passing.to_json() for name, passing in study.bindings},
        "metric": study.metric,
        "direction": study.direction.value,
        "value_from": study.value_from,
        "sampler": study.search.sampler,
        "sampler_options": dict(study.search.sampler_options),
        "pruner": study.search.pruner,
        "pruner_options": dict(study.search.pruner_options),
        "seed": study.search.seed,
        "initial": list(study.initial) if not trials else [],
        "budget": study.budget.to_json(),
        "seconds_left": seconds,
        "parallel": study.parallel,
        "cpu": study.resources.cpu,
        "gpu": study.resources.gpu,
        "memory_bytes": study.resources.memory_bytes,
        "trial_time_limit_seconds": study.trial_time_limit_seconds,
        "trials": [
            {"number": trial.number, "values": trial.values, "state": trial.state.value, "value": trial.value}
            | {"fault": trial.fault.value if trial.fault else None, "detail": trial.detail}
            for trial in sorted(trials, key=lambda trial: trial.number)
        ],
    }


def _stopping(trial: Trial, result: DrivenResult) -> Trial:
    if result.state == "hung":
        return replace(trial, stopping=TrialState.FAILED, fault=Fault.HUNG)
    return replace(trial, stopping=TrialState.PRUNED) if result.state == "pruned" else trial


def _as_workload(study: Study, trial: Trial, result: DrivenResult) -> Workload:
    """The trial's process as the workload it would have been, for the one rule of what an end means."""
    states = {"succeeded": WorkloadState.SUCCEEDED, "failed": WorkloadState.FAILED, "pruned": WorkloadState.CANCELLED}
    states |= {"paused": WorkloadState.SUCCEEDED, "hung": WorkloadState.CANCELLED}  # so far; by us
    if result.state not in states:
        raise BadInput(f"{result.state!r} is no end of a trial.", remedy="Use succeeded, failed, pruned, paused or hung.", field="state")
    return Workload(
        id="driven",
        project=study.project,
        owner=study.owner,
        name=study.name,
        kind=WorkloadKind.TRIAL,
        created_at=trial.created_at,
        resources=Resources(),
        state=states[result.state],
        end_reason=result.reason,
        exit_code=result.exit_code,
    )


def numbers(reports: Sequence[Sequence[float | None]]) -> list[tuple[int, float]]:
    """Reports as JSON carries them: null stands for what is no number."""
    return [(int(step or 0), math.nan if value is None else float(value)) for step, value in reports]
