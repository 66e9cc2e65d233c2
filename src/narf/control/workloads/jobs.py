"""Makes the job of an attempt: what the program finds in its environment, and the token it holds."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from narf.backends.protocol import Job
from narf.control.access.service import AccessService
from narf.control.secrets.service import SecretService
from narf.control.workloads.service import DataAccess
from narf.control.workloads.store import Attempt
from narf.domain.access import Role
from narf.domain.workload import Workload, WorkloadKind


class JobMaker:
    """`url` is where programs reach the platform. `extra` adds variables of a kind of workload (a trial's parameters).
    `experiment_of` names the MLflow experiment of a run."""

    def __init__(
        self,
        access: AccessService,
        secrets: SecretService,
        data: DataAccess,
        url: str,
        checkpoints: str,
        extra: Callable[[Workload], dict[str, str]] = lambda _workload: {},
        experiment_of: Callable[[str], str | None] = lambda _run: None,
    ) -> None:
        self._access, self._secrets, self._data = access, secrets, data
        self._url, self._checkpoints, self.extra = url, checkpoints, extra
        self._experiment_of = experiment_of

    def __call__(self, workload: Workload, attempt: Attempt) -> Job:
        """Raises NarfError: a secret or dataset version it names is gone."""
        program = workload.program
        return Job(
            id=workload.job_id,
            workload_id=workload.id,
            attempt=workload.attempt,
            run_id=workload.run_id,
            replicas=attempt.placement,
            resources=workload.resources,
            script=program.script,
            arguments=program.arguments,
            command=program.command,
            snapshot=program.snapshot,
            working_directory=program.working_directory,
            python=program.python,
            requirements=program.requirements,
            environment=self._environment(workload),
            time_limit_seconds=workload.time_limit_seconds,
            hooks=program.hooks,
            series=workload.parent if workload.kind is WorkloadKind.TRIAL else "",
        )

    def _environment(self, workload: Workload) -> dict[str, str]:
        token = self._token(workload)
        given = {
            "NARF_WORKLOAD_ID": workload.id,
            "NARF_ATTEMPT": str(workload.attempt),
            "NARF_URL": self._url,
            "NARF_TOKEN": token,
            "NARF_PROJECT": workload.project,
            "NARF_CHECKPOINTS": f"{self._checkpoints}/{workload.id}",
            "MLFLOW_DISABLE_TELEMETRY": "true",  # a library on the platform tells its makers nothing
        }
        if workload.run_id:
            given |= {
                "NARF_RUN_ID": workload.run_id,
                "MLFLOW_TRACKING_URI": self._url,
                "MLFLOW_TRACKING_TOKEN": token,
                "MLFLOW_RUN_ID": workload.run_id,
            }
            if experiment := self._experiment_of(workload.run_id):
                given["MLFLOW_EXPERIMENT_ID"] = experiment
        for reference in workload.program.data:
            name = reference.split("@")[0].upper().replace("-", "_").replace(".", "_")
            given[f"NARF_DATA_{name}"] = self._data.folder_for(workload.project, reference)
        for variable, secret in workload.program.secrets:
            given[variable] = self._secrets.value(workload.project, secret)
        return dict(workload.program.environment) | given | self.extra(workload)

    def _token(self, workload: Workload) -> str:
        """One that reaches what this workload needs and ends with it: after a month at the latest, but for a replica, which may serve for years."""
        _, secret = self._access.create_token(
            workload.owner,
            name=f"workload {workload.id}",
            by="platform",
            role_limit=Role.DEVELOPER,
            projects_limit=(workload.project,),
            expires_in=None if workload.kind is WorkloadKind.REPLICA else timedelta(days=30),
            run_id=workload.run_id,
            workload_id=workload.id,
        )
        return secret
