"""The workload that drives a study of an engine which runs trials by itself (Ray Tune)."""

from __future__ import annotations

import sys
from dataclasses import replace

from narf.control.workloads.service import Submission
from narf.domain.workload import Program, WorkloadKind
from narf.tuning.study import Study


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
    resources = replace(study.resources, cpu=study.resources.cpu * study.parallel, gpu=study.resources.gpu * study.parallel)
    return Submission(
        project=study.project,
        owner=study.owner,
        name=f"{study.name}/driver",
        kind=WorkloadKind.STUDY,
        program=program,
        resources=resources,
        priority=study.priority,
        experiment=study.experiment,
        parent=f"study:{study.id}",
        run_id=study.run_id,
        idempotency_key=f"driver:{study.id}:{done}:{study.version}",
        max_retries=0,
    )
