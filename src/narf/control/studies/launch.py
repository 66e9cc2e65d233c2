"""The workload of a trial: the study's program with this trial's values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from narf.control.workloads.service import Submission
from narf.domain.workload import Workload, WorkloadKind
from narf.tuning.binding import bind, text
from narf.tuning.pbt import population_of
from narf.tuning.study import Study, Trial

RESUME_LABEL = "narf.resume_from"


def submission_of(study: Study, trial: Trial, source: Trial | None = None) -> Submission:
    """What to submit for `trial`."""
    arguments, injected = bind(dict(study.bindings), trial.values)
    environment = dict(study.program.environment)
    if injected:
        environment["NARF_PARAMS"] = json.dumps(injected)
        if not arguments:
            environment["NARF_PARAMS_ARE_ALL"] = "1"
    labels = {}
    if trial.member is not None:
        reports = population_of(study.search).reports
        environment |= {"NARF_SEGMENT": json.dumps({"metric": study.metric, "reports": reports}), "NARF_RESUME_OVERRIDES": "1"}
    if source is not None and source.workload_id is not None:
        labels[RESUME_LABEL] = source.workload_id
    program = replace(study.program, arguments=(*study.program.arguments, *arguments), environment=tuple(sorted(environment.items())))
    tags = {"narf.study": study.id, "narf.study_name": study.name, "narf.trial": str(trial.number)}
    if study.run_id:
        tags["mlflow.parentRunId"] = study.run_id
    if study.program.snapshot:
        tags["narf.snapshot"] = study.program.snapshot
    return Submission(
        project=study.project,
        owner=study.owner,
        name=f"{study.name}/{trial.number}",
        kind=WorkloadKind.TRIAL,
        program=program,
        resources=study.resources,
        priority=study.priority,
        experiment=study.experiment,
        parent=f"study:{study.id}",
        time_limit_seconds=study.trial_time_limit_seconds,
        tags=tuple(sorted(tags.items())),
        params=tuple((name, text(value)) for name, value in trial.values.items()),
        labels=tuple(labels.items()),
    )


def has_checkpoint(checkpoints: Path) -> Callable[[str], bool]:
    """Whether a workload left anything to go on from. Beside its checkpoints there are marks of how far it has reported."""

    def look(workload_id: str) -> bool:
        folder = checkpoints / workload_id
        return folder.is_dir() and any(not file.name.startswith("marks.") for file in folder.iterdir())

    return look


def resume_from(checkpoints: Path) -> Callable[[Workload], dict[str, str]]:
    """What the job of a workload needs before it starts: a segment begins with a copy of the checkpoint it goes on from."""

    def prepare(workload: Workload) -> dict[str, str]:
        source = dict(workload.labels).get(RESUME_LABEL)
        if source is not None and (checkpoints / source).is_dir() and not (checkpoints / workload.id).exists():
            part = checkpoints / f"{workload.id}.part"
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(checkpoints / source, part)
            part.rename(checkpoints / workload.id)
        return {}

    return prepare
