"""HTTP of studies: discover, begin, follow, steer, and their results."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Depends, Query

from narf.control.access.caller import caller
from narf.control.access.rules import Rules, in_project, of
from narf.control.studies.driven import DrivenResult, DrivenStudies, numbers, spec_of
from narf.control.studies.service import Asked, Glance, StudyService
from narf.control.workloads.routes import resources_of
from narf.domain.access import Principal, Role
from narf.domain.errors import BadInput
from narf.tuning import results
from narf.tuning.discovery.found import How, Passing
from narf.tuning.planning import Wishes
from narf.tuning.study import Budget, Engine, Search, Study, StudyState, Trial, TrialState
from narf.wire.page import Limit, Page, decode_cursor, encode_cursor
from narf.wire.studies import (
    AxisOut,
    BestOut,
    BoardGroup,
    BoardOut,
    BoardRow,
    BudgetBody,
    DiscoverIn,
    DiscoveryOut,
    DrivenResultIn,
    DrivenTrialIn,
    DrivenTrialOut,
    ExtendIn,
    HistoryOut,
    ImportanceOut,
    ParallelOut,
    RegisteredOut,
    RegisterIn,
    ScheduleStep,
    SliceOut,
    StudyIn,
    StudyOut,
    TrialOut,
)

_STUDY = "/api/v1/studies/{study}"
RULES: Rules = {
    ("POST", "/api/v1/projects/{project}/studies/discover"): in_project(Role.DEVELOPER),
    ("GET", "/api/v1/projects/{project}/studies"): in_project(Role.VIEWER),
    ("POST", "/api/v1/projects/{project}/studies"): in_project(Role.DEVELOPER),
    ("GET", "/api/v1/projects/{project}/studies/board"): in_project(Role.VIEWER),
    ("GET", "/api/v1/projects/{project}/studies/named/{name}"): in_project(Role.VIEWER),
    ("GET", _STUDY): of("study", Role.VIEWER),
    ("GET", _STUDY + "/trials"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/trials/{number}"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/best"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/history"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/importance"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/parallel"): of("study", Role.VIEWER),
    ("GET", _STUDY + "/slice"): of("study", Role.VIEWER),
    ("POST", _STUDY + "/pause"): of("study", Role.DEVELOPER),
    ("POST", _STUDY + "/resume"): of("study", Role.DEVELOPER),
    ("POST", _STUDY + "/cancel"): of("study", Role.DEVELOPER),
    ("POST", _STUDY + "/extend"): of("study", Role.DEVELOPER),
    ("POST", _STUDY + "/register"): of("study", Role.DEVELOPER),
    ("POST", _STUDY + "/driver/begin"): of("study", Role.DEVELOPER, workload_may=True),
    ("POST", _STUDY + "/driver/trials"): of("study", Role.DEVELOPER, workload_may=True),
    ("POST", _STUDY + "/driver/results"): of("study", Role.DEVELOPER, workload_may=True),
}


def router(studies: StudyService, driven: DrivenStudies, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> APIRouter:
    routes = APIRouter(prefix="/api/v1", tags=["studies"])
    _add_studies(routes, studies, now)
    _add_one(routes, studies, now)
    _add_results(routes, studies)
    _add_driver(routes, driven, now)
    return routes


def _add_studies(routes: APIRouter, studies: StudyService, now: Callable[[], datetime]) -> None:
    @routes.post("/projects/{project}/studies/discover", response_model=DiscoveryOut)
    def discover(project: str, body: DiscoverIn) -> Any:
        """List the parameters and metrics of a script, with a range proposed for each that can be searched."""
        found = studies.discover(body.snapshot, body.script, body.arguments, confirm=body.confirm)
        return found.to_json() | {"may_start": studies.may_run, "start_seconds": studies.dry_run_seconds}

    @routes.get("/projects/{project}/studies", response_model=Page[StudyOut])
    def list_studies(
        project: str,
        state: list[StudyState] = Query(default=[]),
        text: str = Query("", max_length=200, description="part of a name"),
        limit: Limit = 50,
        cursor: str = Query("", max_length=500),
    ) -> Page[StudyOut]:
        """Studies of a project, newest first."""
        before = None
        if cursor:
            at, key = decode_cursor(cursor, 2)
            try:
                before = (datetime.fromisoformat(str(at)), str(key))
            except ValueError:
                raise BadInput("The cursor is not one that this list gave.", field="cursor") from None
        found = studies.page(project, states=state, text=text, before=before, limit=limit + 1)
        last = found[limit - 1] if len(found) > limit else None
        following = encode_cursor(last.created_at.isoformat(), last.id) if last else None
        return Page(items=[study_out(glance, now()) for glance in studies.glances(found[:limit])], next=following)

    @routes.post("/projects/{project}/studies", response_model=StudyOut, status_code=201)
    def begin(project: str, body: StudyIn, principal: Principal = Depends(caller)) -> StudyOut:
        """Begin a search over the parameters of a script."""
        study = studies.begin(_asked(project, body, principal.user))
        return study_out(studies.glance(study), now())

    @routes.get("/projects/{project}/studies/board", response_model=BoardOut)
    def board(project: str, limit: int = Query(200, ge=1, le=1000, description="how many studies, newest first")) -> BoardOut:
        """Across the studies of a project: which parameters matter for which script, and the best known region."""
        found = [(study, studies.trials(study.id)) for study in studies.page(project, limit=limit)]
        return BoardOut(groups=[_group(group) for group in results.board(found)])

    @routes.get("/projects/{project}/studies/named/{name}", response_model=StudyOut)
    def named(project: str, name: str) -> StudyOut:
        """A study by its name, or id."""
        found = studies.find(project, name)
        return study_out(studies.glance(found), now()).model_copy(update={"warnings": studies.warnings(found)})


def _add_one(routes: APIRouter, studies: StudyService, now: Callable[[], datetime]) -> None:
    @routes.get("/studies/{study}", response_model=StudyOut)
    def show(study: str) -> StudyOut:
        """One study with its counts and best value."""
        found = studies.study(study)
        return study_out(studies.glance(found), now()).model_copy(update={"warnings": studies.warnings(found)})

    @routes.get("/studies/{study}/trials", response_model=Page[TrialOut])
    def list_trials(
        study: str,
        state: list[TrialState] = Query(default=[]),
        limit: Limit = 50,
        cursor: str = Query("", max_length=500),
    ) -> Page[TrialOut]:
        """Trials in the order in which they were proposed."""
        known = studies.study(study)
        after = -1
        if cursor:
            (key,) = decode_cursor(cursor, 1)
            if not isinstance(key, int):
                raise BadInput("The cursor is not one that this list gave.", field="cursor")
            after = key
        found = [trial for trial in studies.trials(study) if trial.number > after and (not state or trial.state in state)]
        following = encode_cursor(found[limit - 1].number) if len(found) > limit else None
        return Page(items=[trial_out(studies, known, trial) for trial in found[:limit]], next=following)

    @routes.get("/studies/{study}/trials/{number}", response_model=TrialOut)
    def show_trial(study: str, number: int) -> TrialOut:
        return trial_out(studies, studies.study(study), studies.trial(study, number))

    @routes.post("/studies/{study}/pause", response_model=StudyOut)
    def pause(study: str, principal: Principal = Depends(caller)) -> StudyOut:
        """No new trials; those that run go on to their end."""
        return study_out(studies.glance(studies.pause(study, by=principal.user)), now())

    @routes.post("/studies/{study}/resume", response_model=StudyOut)
    def resume(study: str, principal: Principal = Depends(caller)) -> StudyOut:
        return study_out(studies.glance(studies.resume(study, by=principal.user)), now())

    @routes.post("/studies/{study}/cancel", response_model=StudyOut)
    def cancel(study: str, principal: Principal = Depends(caller)) -> StudyOut:
        """Stop the study and its trials."""
        return study_out(studies.glance(studies.cancel(study, by=principal.user)), now())

    @routes.post("/studies/{study}/extend", response_model=StudyOut)
    def extend(study: str, body: ExtendIn, principal: Principal = Depends(caller)) -> StudyOut:
        """Give it more budget; a study that had ended goes on."""
        return study_out(studies.glance(studies.extend(study, body.budget.model_dump(), by=principal.user)), now())

    @routes.post("/studies/{study}/register", response_model=RegisteredOut, status_code=201)
    def register(study: str, body: RegisterIn, principal: Principal = Depends(caller)) -> RegisteredOut:
        """Register the model of the best trial."""
        version, trial = studies.register_best(study, body.name, by=principal.user)
        return RegisteredOut(name=body.name, version=version, run_id=trial.run_id or "")


def _add_results(routes: APIRouter, studies: StudyService) -> None:
    @routes.get("/studies/{study}/best", response_model=BestOut)
    def best(study: str) -> BestOut:
        """The best trial and the exact command that runs it again."""
        known, found = studies.study(study), studies.best(study)
        return BestOut(
            trial=trial_out(studies, known, found),
            command=studies.command_of(known, found),
            schedule=[ScheduleStep(trial=each.number, values=each.values) for each in studies.segments_to(found)],
        )

    @routes.get("/studies/{study}/history", response_model=HistoryOut)
    def history(study: str) -> HistoryOut:
        found = results.history(studies.trials(study), studies.study(study).direction)
        return HistoryOut(numbers=found.numbers, values=found.values, best=found.best, states=found.states)

    @routes.get("/studies/{study}/importance", response_model=ImportanceOut)
    def importance(study: str) -> ImportanceOut:
        """How much of the variation of the result each parameter explains."""
        trials = studies.trials(study)
        found = results.importance(studies.study(study), trials)
        note = "" if found else f"It takes {results.LEAST_FOR_IMPORTANCE} trials with different values."
        return ImportanceOut(importance=found, trials=len(results.valued(trials)), note=note)

    @routes.get("/studies/{study}/parallel", response_model=ParallelOut)
    def parallel(study: str) -> ParallelOut:
        """Data of a parallel-coordinates chart."""
        found = results.parallel_coordinates(studies.study(study), studies.trials(study))
        axes = [
            AxisOut(name=p.name, type=p.kind.value, scale=p.scale.value, low=p.low, high=p.high, choices=list(p.choices))
            for p in found.axes
        ]
        return ParallelOut(axes=axes, numbers=found.numbers, lines=found.lines, values=found.values)

    @routes.get("/studies/{study}/slice", response_model=SliceOut)
    def slices(study: str) -> SliceOut:
        """Each parameter against the result."""
        return SliceOut(parameters=results.slices(studies.study(study), studies.trials(study)))


def _add_driver(routes: APIRouter, driven: DrivenStudies, now: Callable[[], datetime]) -> None:
    @routes.post("/studies/{study}/driver/begin")
    def begin(study: str, principal: Principal = Depends(caller)) -> dict[str, Any]:
        """For the program that drives a study: everything it needs. Trials of a driver that was lost are given up."""
        known, trials = driven.begin(study, principal)
        return spec_of(known, trials, now())

    @routes.post("/studies/{study}/driver/trials", response_model=DrivenTrialOut)
    def trial(study: str, body: DrivenTrialIn, principal: Principal = Depends(caller)) -> DrivenTrialOut:
        """A trial begins; asked again with the same key, it is the same trial."""
        found, longest = driven.trial(study, principal, body.key, body.values)
        return DrivenTrialOut(number=found.number, run_id=found.run_id or "", longest_seconds=longest if math.isfinite(longest) else None)

    @routes.post("/studies/{study}/driver/results", response_model=DrivenTrialOut)
    def result(study: str, body: DrivenResultIn, principal: Principal = Depends(caller)) -> DrivenTrialOut:
        """What came of a trial."""
        fields = {name: value for name, value in body if name != "reports"}
        found = driven.result(study, principal, DrivenResult(**fields, reports=numbers(body.reports)))
        fault = found.fault.value if found.fault else None
        return DrivenTrialOut(number=found.number, run_id=found.run_id or "", fault=fault, detail=found.detail)


def study_out(glance: Glance, now: datetime) -> StudyOut:
    study = glance.study
    return StudyOut(
        id=study.id,
        project=study.project,
        owner=study.owner,
        name=study.name,
        state=study.state.value,
        sentence=study.sentence(),
        script=study.program.script,
        arguments=list(study.program.arguments),
        snapshot=study.program.snapshot,
        metric=study.metric,
        direction=study.direction.value,
        value_from=study.value_from,
        space=[parameter.to_json() | {"range": parameter.to_text()} for parameter in study.space],
        sampler=study.search.sampler,
        sampler_options=dict(study.search.sampler_options),
        pruner=study.search.pruner,
        pruner_options=dict(study.search.pruner_options),
        seed=study.search.seed,
        budget=BudgetBody(**study.budget.to_json()),
        parallel=study.parallel,
        engine=study.engine.value,
        run_id=study.run_id,
        workload_id=study.workload_id,
        created_at=study.created_at,
        ended_at=study.ended_at,
        spent_seconds=study.spent_seconds(now),
        trials={state.value: glance.counts.get(state.value, 0) for state in TrialState},
        best_value=glance.best_value,
    )


def trial_out(studies: StudyService, study: Study, trial: Trial) -> TrialOut:
    last = trial.reports[-1][1] if trial.reports else None
    return TrialOut(
        number=trial.number,
        state=trial.state.value,
        sentence=_sentence(study, trial),
        values=trial.values,
        value=trial.value,
        last_value=last if last is not None and math.isfinite(last) else None,
        reports=len(trial.reports),
        fault=trial.fault.value if trial.fault else None,
        run_id=trial.run_id,
        workload_id=trial.workload_id,
        created_at=trial.created_at,
        started_at=trial.started_at,
        ended_at=trial.ended_at,
        seconds=trial.seconds,
        command=studies.command_of(study, trial),
    )


def _sentence(study: Study, trial: Trial) -> str:
    if trial.fault is not None:
        return trial.fault.sentence(metric=study.metric, detail=trial.detail)
    if trial.state is TrialState.RUNNING:
        return "It is being stopped." if trial.stopping else "It runs." if trial.started_at else "It waits for capacity."
    return {
        TrialState.SUCCEEDED: "It ended by itself.",
        TrialState.PAUSED: "It goes on when its turn comes.",
        TrialState.PRUNED: "It was behind the others and was stopped early.",
        TrialState.CANCELLED: "It was cancelled.",
    }.get(trial.state, trial.detail or "It failed.")


def _asked(project: str, body: StudyIn, user: str) -> Asked:
    bindings = {
        name: Passing(How(passing.how), passing.flag, passing.off_flag, passing.on_value) for name, passing in body.bindings.items()
    }
    search = Search(
        sampler=body.sampler,
        sampler_options=tuple(sorted(body.sampler_options.items())),
        pruner=body.pruner,
        pruner_options=tuple(sorted(body.pruner_options.items())),
        seed=body.seed,
    )
    wishes = Wishes(
        arguments=tuple(body.arguments),
        space=body.space,
        only_space=body.only_space,
        skip=tuple(body.skip),
        bindings=bindings,
        metric=body.metric,
        direction=body.direction,
        value_from=body.value_from,
        search=search,
        initial=tuple(body.initial),
    )
    return Asked(
        project=project,
        owner=user,
        script=body.script,
        snapshot=body.snapshot,
        wishes=wishes,
        name=body.name,
        budget=Budget(**body.budget.model_dump()) if "budget" in body.model_fields_set else None,
        parallel=body.parallel if "parallel" in body.model_fields_set else None,
        engine=Engine(body.engine),
        warm_from=tuple(body.warm_from),
        trial_time_limit_seconds=body.trial_time_limit_seconds,
        resources=resources_of(body.resources),
        environment=tuple(sorted(body.environment.items())),
        secrets=tuple(sorted(body.secrets.items())),
        data=tuple(body.data),
        requirements=body.requirements,
        experiment=body.experiment,
        priority=body.priority,
        go_on=body.go_on,
    )


def _group(group: results.Group) -> BoardGroup:
    rows = [
        BoardRow(
            parameter=name,
            importance=group.importance.get(name),
            best_low=region.low,
            best_high=region.high,
            best_choices=list(region.choices),
        )
        for name, region in group.regions.items()
    ]
    return BoardGroup(
        script=group.script,
        metric=group.metric,
        direction=group.direction.value,
        studies=group.studies,
        trials=group.trials,
        best_value=group.best_value,
        best_values=group.best_values,
        best_study=group.best_study,
        parameters=sorted(rows, key=lambda row: -(row.importance or 0.0)),
    )
