"""The workload that drives a study of an engine which runs trials by itself (Ray Tune)."""

from __future__ import annotations

import sys
from dataclasses import replace

from narf.control.workloads.service import Submission
from narf.domain.workload import Program, Resources, WorkloadKind
from narf.tuning.study import Study

_RAY_BYTES, _ACTOR_BYTES = 1 << 30, 1 << 28  # measured with two actors: 0.8 GB in all


def driver_resources(of_trial: Resources, parallel: int) -> Resources:
    """What the job that runs so many trials at once asks for: theirs, and where memory is limited, Ray's own."""
    memory = _RAY_BYTES + parallel * (of_trial.memory_bytes + _ACTOR_BYTES) if of_trial.memory_bytes else 0
    return replace(of_trial, cpu=of_trial.cpu * parallel, gpu=of_trial.gpu * parallel, memory_bytes=memory)


def driver_of(study: Study, done: int) -> Submission:
    """`python -m narf.tuning.ray_driver`, in the code of the study. `done`: trials on record, part of what makes a start new."""
    program = Program(
        command=(sys.executable, "-m", "narf.tuning.ray_driver", study.id),
        snapshot=study.program.snapshot,
        environment=study.program.environment,
        secrets=study.program.secrets,
        data=study.program.data,
        requirements=study.program.requirements,
    )
    return Submission(
        project=study.project,
        owner=study.owner,
        name=f"{study.name}/driver",
        kind=WorkloadKind.STUDY,
        program=program,
        resources=driver_resources(study.resources, study.parallel),
        priority=study.priority,
        experiment=study.experiment,
        parent=f"study:{study.id}",
        run_id=study.run_id,
        idempotency_key=f"driver:{study.id}:{done}:{study.version}",
        max_retries=0,
    )
