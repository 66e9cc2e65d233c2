"""The workload of a trial: the study's program with this trial's values."""

from __future__ import annotations

import json
from dataclasses import replace

from narf.control.workloads.service import Submission
from narf.domain.workload import WorkloadKind
from narf.tuning.binding import bind, text
from narf.tuning.study import Study, Trial


def submission_of(study: Study, trial: Trial) -> Submission:
    """What to submit for `trial`. The same trial always gives the same idempotency key, so it runs once."""
    arguments, injected = bind(dict(study.bindings), trial.values)
    environment = dict(study.program.environment)
    if injected:
        environment["NARF_PARAMS"] = json.dumps(injected)
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
        idempotency_key=f"trial:{study.id}:{trial.number}",
    )
