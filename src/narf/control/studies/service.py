"""Studies: begin, pause, extend, cancel, and what a caller sees of them. The search itself is the reconciler's."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from unicodedata import normalize

from narf.control.audit.store import record
from narf.control.database import Database
from narf.control.snapshots.service import SnapshotService
from narf.control.studies import store
from narf.control.studies.driver import driver_resources
from narf.control.workloads.service import RunRecorder, WorkloadService
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.names import check_name, new_id
from narf.domain.workload import Program, Resources, WorkloadState
from narf.tuning.binding import command_line, text
from narf.tuning.decisions import limit_reached
from narf.tuning.discovery.dry_run import TIME_LIMIT_SECONDS
from narf.tuning.discovery.dry_run import confirm as dry_run
from narf.tuning.discovery.found import Discovery
from narf.tuning.discovery.static import discover_statically
from narf.tuning.engines import check_search
from narf.tuning.going_on import check_start, used_up, what_differs
from narf.tuning.pbt import lineage
from narf.tuning.planning import SearchPlan, Wishes, settle
from narf.tuning.study import Budget, Engine, Study, StudyEnd, StudyState, Trial, best_of

_TEXT_FILES = (".py", ".yaml", ".yml", ".toml", ".json", ".cfg", ".ini")
_MOST_TEXT = 20_000_000
_PARALLEL = 4


class ModelRegistrar(Protocol):
    """Where models are registered."""

    def register_run(self, project: str, user: str, run_id: str, name: str) -> str:
        """Register the model that a run logged as a new version of `name`; its version.

        Raises:
            BadInput: the run logged no model.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody asks a study to be. Empty fields are settled from what discovery finds."""

    project: str
    owner: str
    script: str
    snapshot: str
    wishes: Wishes
    name: str = ""
    budget: Budget | None = None  # None: 20 trials; to go on with a study, what it has
    parallel: int | None = None  # None: 4, or with Ray as many of them as fit
    engine: Engine = Engine.EMBEDDED
    warm_from: tuple[str, ...] = ()
    trial_time_limit_seconds: float | None = None
    resources: Resources = field(default_factory=Resources)
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()
    requirements: str = ""
    experiment: str = ""
    priority: int = 0
    go_on: bool = False


@dataclass(frozen=True, slots=True)
class Glance:
    """A study with the counts a list shows."""

    study: Study
    counts: Mapping[str, int]
    best_value: float | None


class StudyService:
    """`changed` is called with the id of a study after every change. `may_run`: whether scripts may be run here for a dry run."""

    dry_run_seconds = TIME_LIMIT_SECONDS

    def __init__(
        self,
        database: Database,
        snapshots: SnapshotService,
        workloads: WorkloadService,
        runs: RunRecorder,
        models: ModelRegistrar,
        now: Callable[[], datetime],
        changed: Callable[[str], None] = lambda _study: None,
        may_run: bool = False,
    ) -> None:
        self._database, self._snapshots, self._workloads, self._runs = database, snapshots, workloads, runs
        self._models, self._now, self.changed, self.may_run = models, now, changed, may_run
        self.unused: Callable[[str], Mapping[str, Sequence[int]]] = lambda _study: {}  # see tracked.UnusedValues

    def warnings(self, study: Study) -> list[str]:
        """A sentence for each parameter whose value did not reach the script in some trials."""
        names = {passing.flag or name: name for name, passing in dict(study.bindings).items()}
        return [
            f"{names.get(place, place)} was not used by the script in {_numbered(numbers)}."
            for place, numbers in sorted(self.unused(study.id).items())
        ]

    def discover(self, snapshot: str, script: str, arguments: Sequence[str] = (), *, confirm: bool = False) -> Discovery:
        """What can be searched in a script of a snapshot.

        Raises:
            NotAllowed: a dry run was asked for on a platform that others use too.
        """
        if confirm and not self.may_run:
            raise NotAllowed(
                "A dry run executes the script, which this server does not do.",
                remedy="narf tune SCRIPT --discover does it on your machine.",
            )
        with tempfile.TemporaryDirectory(prefix="narf-discover-") as folder:
            place = self._unpack(snapshot, script, Path(folder), everything=confirm)
            found = discover_statically(place, arguments)
            found = replace(found, script=script)
            return dry_run(place, arguments, found) if confirm else found

    def begin(self, asked: Asked) -> Study:
        """Begin a study, or go on with the one of this name.

        Raises:
            BadInput: there is nothing to search, no metric, or a range makes no sense.
            Conflict: a study of this name exists; or it is to go on with another space.
        """
        plan = settle(asked.wishes, lambda: self.discover(asked.snapshot, asked.script, asked.wishes.arguments), asked.script)
        check_search(asked.engine, plan.search, plan.space)
        parallel = self._parallel(asked)
        name = check_name(asked.name, kind="study") if asked.name else ""
        known = self._named(asked.project, name) if name else None
        if known is not None:
            if not asked.go_on:
                raise Conflict(
                    f"There is a study {name!r} already.", remedy="Choose another name, or go on with it: --resume.", field="name"
                )
            return self._go_on(known, asked, plan)
        earlier = [self.find(asked.project, other) for other in asked.warm_from]
        for study in earlier:
            check_start(plan, study, self.trials(study.id))
        now = self._now()
        study = Study(
            id=new_id("st"),
            project=asked.project,
            owner=asked.owner,
            name=name or self._free_name(asked.project, asked.script),
            created_at=now,
            program=Program(
                script=asked.script,
                arguments=plan.arguments,
                snapshot=asked.snapshot,
                environment=asked.environment,
                secrets=asked.secrets,
                data=asked.data,
                requirements=asked.requirements,
            ),
            resources=asked.resources,
            space=plan.space,
            bindings=tuple(plan.bindings.items()),
            metric=plan.metric,
            direction=plan.direction,
            search=plan.search,
            budget=asked.budget or Budget(trials=20),
            parallel=parallel,
            engine=asked.engine,
            value_from=plan.value_from,
            initial=plan.initial,
            warm_from=tuple(study.id for study in earlier),
            trial_time_limit_seconds=asked.trial_time_limit_seconds,
            priority=asked.priority,
            experiment=asked.experiment,
            active_since=now,
        )
        study = replace(study, run_id=self._parent_run(study))
        with self._database.write() as connection:
            if store.find_by_name(connection, study.project, study.name):
                raise Conflict(f"There is a study {study.name!r} already.", remedy="Choose another name.", field="name")
            store.add(connection, study)
            record(connection, now, asked.owner, "create", "study", study.id, project=study.project)
        self.changed(study.id)
        return study

    def study(self, study_id: str) -> Study:
        with self._database.read() as connection:
            study = store.find(connection, study_id)
        if study is None:
            raise NotFound("study", study_id)
        return study

    def find(self, project: str, name_or_id: str) -> Study:
        """A study of the project, by name or id."""
        with self._database.read() as connection:
            study = store.find(connection, name_or_id) or store.find_by_name(connection, project, name_or_id)
        if study is None or study.project != project:
            raise NotFound("study", name_or_id)
        return study

    def project_of(self, study_id: str) -> str | None:
        with self._database.read() as connection:
            return store.project_of(connection, study_id)

    def glance(self, study: Study) -> Glance:
        return self.glances([study])[0]

    def glances(self, studies: Sequence[Study]) -> list[Glance]:
        ids = [study.id for study in studies]
        with self._database.read() as connection:
            counts, best = store.counts(connection, ids), store.best_values(connection, ids)
        return [
            Glance(
                study,
                {state.value: count for state, count in counts[study.id].items()},
                best[study.id][0 if study.direction.value == "minimize" else 1] if study.id in best else None,
            )
            for study in studies
        ]

    def page(
        self,
        project: str,
        *,
        states: Sequence[StudyState] = (),
        text: str = "",
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[Study]:
        with self._database.read() as connection:
            return store.page(connection, project, states=states, text=text, before=before, limit=limit)

    def trials(self, study_id: str) -> list[Trial]:
        with self._database.read() as connection:
            return store.trials_of(connection, study_id)

    def trial(self, study_id: str, number: int) -> Trial:
        with self._database.read() as connection:
            trial = store.trial(connection, study_id, number)
        if trial is None:
            raise NotFound("trial", f"{number} of {study_id}")
        return trial

    def pause(self, study_id: str, *, by: str) -> Study:
        """No new trials; those that run go on to their end."""
        return self._change(study_id, by, "pause", StudyState.PAUSED, allowed=(StudyState.RUNNING,))

    def resume(self, study_id: str, *, by: str) -> Study:
        return self._change(study_id, by, "resume", StudyState.RUNNING, allowed=(StudyState.PAUSED,))

    def cancel(self, study_id: str, *, by: str) -> Study:
        """Stop it and its trials. Safe to repeat; a study that has ended stays as it is."""
        if self.study(study_id).state.is_finished:
            return self.study(study_id)
        study = self._change(study_id, by, "cancel", StudyState.CANCELLED, allowed=(StudyState.RUNNING, StudyState.PAUSED))
        if study.run_id:
            self._runs.finish_run(study.run_id, WorkloadState.CANCELLED)
        return study

    def extend(self, study_id: str, budget: Mapping[str, float | int | None], *, by: str) -> Study:
        """Give it more; a study that had ended runs again. Each limit given replaces the old one.

        Raises:
            BadInput: a limit is reached already, so it would end at once.
        """
        while True:
            study = self.study(study_id)
            given = {name: value for name, value in budget.items() if value is not None}
            merged: dict[str, Any] = study.budget.to_json() | given
            if study.end is StudyEnd.PLATEAU and "least_gain" not in given:
                merged["least_gain"] = None  # it would end again at once
            now, trials = self._now(), self.trials(study_id)
            changed = replace(study, budget=Budget(**merged))
            if (reached := limit_reached(changed, trials, now)) is not None:
                raise used_up(changed, reached, trials, now)
            if study.state.is_finished:
                changed = replace(changed.to(StudyState.RUNNING), ended_at=None, end=None, detail="", active_since=now, workload_id=None)
            with self._database.write() as connection:
                saved = store.save(connection, changed)
                if saved is not None:
                    record(connection, now, by, "extend", "study", study_id, project=study.project)
            if saved is not None:
                self.changed(study_id)
                return saved

    def best(self, study_id: str) -> Trial:
        """Raises NotFound: no trial has succeeded yet."""
        study = self.study(study_id)
        best = best_of(self.trials(study_id), study.direction)
        if best is None:
            raise NotFound("finished trial of study", study.name, remedy="Wait for one, or look why they fail: narf tune --show.")
        return best

    def segments_to(self, trial: Trial) -> list[Trial]:
        """Of a population: the segments that led to this one, which is the last. Empty for a trial of another kind."""
        return lineage(self.trials(trial.study_id), trial) if trial.member is not None else []

    def command_of(self, study: Study, trial: Trial) -> str:
        """The exact command that runs a trial again."""
        return command_line(study.program.script or "", study.program.arguments, dict(study.bindings), trial.values)

    def register_best(self, study_id: str, name: str, *, by: str) -> tuple[str, Trial]:
        """(version, trial): the model of the best trial becomes a version of the registered model `name`."""
        study, best = self.study(study_id), self.best(study_id)
        if best.run_id is None:
            raise Conflict(f"Trial {best.number} of {study.name} has no run.")
        try:
            return self._models.register_run(study.project, by, best.run_id, check_name(name, kind="model")), best
        except BadInput as error:
            if error.code != "no_model":
                raise
            raise BadInput(
                f"Trial {best.number}, the best of {study.name}, kept no model: its script saves none.",
                remedy="Let it save one (narf.artifact, log_model of MLflow, a checkpoint of Lightning), run the command of the trial, and register that run.",
                code=error.code,
            ) from error

    def _named(self, project: str, name: str) -> Study | None:
        with self._database.read() as connection:
            return store.find_by_name(connection, project, name)

    def _go_on(self, known: Study, asked: Asked, plan: SearchPlan) -> Study:
        remedy = "Begin a new study and start it from this one: --warm-from " + known.name
        if differing := what_differs(known, plan):
            raise Conflict(
                f"Study {known.name!r} searched another space; what differs: {', '.join(differing)}.",
                remedy=remedy,
                field="space",
                code="other_space",
            )
        if self._hash_of(known.program.snapshot, asked.script) != self._hash_of(asked.snapshot, asked.script):
            raise Conflict(
                f"{asked.script} has changed since study {known.name!r} began, so its trials and new ones could not be compared.",
                remedy=f"{remedy}. To go on with the script as it was: narf tune --resume --name {known.name}",
                field="script",
                code="other_script",
            )
        study = known
        if study.state.is_finished or (asked.budget is not None and asked.budget != study.budget):
            study = self.extend(study.id, asked.budget.to_json() if asked.budget else {}, by=asked.owner)
        if study.state is StudyState.PAUSED:
            study = self.resume(study.id, by=asked.owner)
        return study

    def _hash_of(self, snapshot: str | None, path: str) -> str | None:
        return next((file.sha256 for file in self._snapshots.files(snapshot) if file.path == path), None) if snapshot else None

    def _change(self, study_id: str, by: str, verb: str, state: StudyState, *, allowed: tuple[StudyState, ...]) -> Study:
        while True:
            study = self.study(study_id)
            if study.state is state:
                return study
            if study.state not in allowed:
                raise Conflict(
                    f"Study {study.name} is {study.state.value}; one can {verb} it while it is {' or '.join(allowed)}.",
                    remedy=f"Give it more: narf tune --extend {study.name} --trials N" if verb == "resume" else "",
                )
            now = self._now()
            spent = study.spent_seconds(now)
            changed = replace(study.to(state), active_seconds=spent, active_since=now if state is StudyState.RUNNING else None)
            if state.is_finished:
                changed = replace(changed, ended_at=now, end=StudyEnd.CANCELLED)
            with self._database.write() as connection:
                saved = store.save(connection, changed)
                if saved is not None:
                    record(connection, now, by, verb, "study", study_id, project=study.project)
            if saved is not None:
                self.changed(study_id)
                return saved

    def _parallel(self, asked: Asked) -> int:
        """How many trials at once. Those of Ray run in one job, which has to fit as a whole.

        Raises:
            BadInput: not even one fits.
        """
        if asked.engine is not Engine.RAY:
            self._workloads.check_fits(asked.project, asked.resources, 1, True)
            return asked.parallel or _PARALLEL
        refused: BadInput | None = None
        for parallel in [asked.parallel] if asked.parallel else range(_PARALLEL, 0, -1):
            try:
                self._workloads.check_fits(asked.project, driver_resources(asked.resources, parallel), 1, True)
                return parallel
            except BadInput as error:
                refused = error
        assert refused is not None
        raise BadInput(
            f"With Ray, {asked.parallel or 1} at once run in one job. {refused.sentence}",
            remedy=f"{refused.remedy} Fewer at once: --parallel.",
            field="parallel",
            code=refused.code,
        ) from refused

    def _free_name(self, project: str, script: str) -> str:
        plain = normalize("NFKD", PurePosixPath(script).stem.lower()).encode("ascii", "ignore").decode()
        stem = "".join(letter if letter.isalnum() else "-" for letter in plain).strip("-")[:50].strip("-") or "study"
        number = 1
        while self._named(project, f"{stem}-{number}") is not None:
            number += 1
        return f"{stem}-{number}"

    def _parent_run(self, study: Study) -> str:
        params = {f"space.{parameter.name}": parameter.to_text() for parameter in study.space}
        params |= {"sampler": study.search.sampler, "pruner": study.search.pruner, "seed": text(study.search.seed), "metric": study.metric}
        return self._runs.create_run(
            project=study.project,
            experiment=study.experiment,
            name=study.name,
            user=study.owner,
            params=params,
            tags={"narf.kind": "study", "narf.study": study.id, "narf.snapshot": study.program.snapshot or ""},
        )

    def _unpack(self, snapshot: str, script: str, folder: Path, *, everything: bool) -> Path:
        files = self._snapshots.files(snapshot)
        if script not in {file.path for file in files}:
            raise BadInput(
                f"The snapshot has no file {script[:200]!r}.", remedy="Name a script in the folder that was sent.", field="script"
            )
        wanted = [file for file in files if everything or file.path.endswith(_TEXT_FILES)]
        if sum(file.size for file in wanted) > _MOST_TEXT and not everything:
            wanted = [file for file in wanted if file.size < 1_000_000][:2000]
        for file in wanted:
            place = folder / file.path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(self._snapshots.content(file))
        return folder / script


def _numbered(numbers: Sequence[int]) -> str:
    """trial 3; trials 0, 1 and 4; trials 0, 1, 2 and 9 others"""
    shown = [str(number) for number in numbers]
    if len(shown) > 5:
        return f"trials {', '.join(shown[:3])} and {len(shown) - 3} others"
    return f"trial {shown[0]}" if len(shown) == 1 else f"trials {', '.join(shown[:-1])} and {shown[-1]}"
