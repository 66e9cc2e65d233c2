"""Use cases of runs: find, show, change and compare them, take their telemetry in, keep their artifacts."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from mlflow.entities import Run
from sqlalchemy import func, select

from narf.control.tracking.gate import PARENT_TAG
from narf.control.workloads.service import Submission, WorkloadService
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.workload import Workload, WorkloadState
from narf.tracking import tables
from narf.tracking.artifacts import Artifact, Artifacts
from narf.tracking.compare import Differences, Recorded, compare
from narf.tracking.series import Series
from narf.tracking.shipment import ArtifactPart, SpoolPart
from narf.tracking.spool import Stream
from narf.tracking.tracking import Tracking

_STATUS = {
    WorkloadState.QUEUED: "SCHEDULED",
    WorkloadState.ADMITTED: "SCHEDULED",
    WorkloadState.STARTING: "SCHEDULED",
    WorkloadState.RUNNING: "RUNNING",
    WorkloadState.PREEMPTING: "RUNNING",
    WorkloadState.SUCCEEDED: "FINISHED",
    WorkloadState.FAILED: "FAILED",
    WorkloadState.CANCELLED: "KILLED",
}
RERUN_TAG = "narf.rerunOf"
_MOST_COMPARED = 20
_MOST_COMPARED_BYTES = 4 << 20
_MOST_SERIES = 200


class RunRecords:
    """The run of a workload, as the workload service wants it recorded."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def create_run(self, *, project: str, experiment: str, name: str, user: str, params: Any, tags: Any) -> str:
        return self._tracking.create_run(project=project, experiment=experiment, name=name, user=user, params=params, tags=tags)

    def experiment_of(self, run_id: str) -> str:
        """The id of the run's experiment in MLflow."""
        return self._tracking.place_of_run(run_id)[0]

    def start_run(self, run_id: str) -> None:
        self._tracking.start_run(run_id)

    def finish_run(self, run_id: str, state: WorkloadState) -> None:
        status = _STATUS[state]
        if status in ("FINISHED", "FAILED", "KILLED"):
            self._tracking.finish_run(run_id, status)


class RunService:
    """`workloads` is set once there are some: it is made after this, because it records its runs here."""

    workloads: WorkloadService | None = None

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.artifacts = Artifacts(tracking.artifacts_root)

    def project_of(self, run_id: str) -> str | None:
        return self.tracking.project_of_run(run_id)

    def parent_of(self, run_id: str) -> str | None:
        """The run whose program made this one."""
        return self.tracking.tag_of_run(run_id, PARENT_TAG)

    def check_may_write(self, principal: Principal, run_id: str) -> None:
        """A workload's token writes to its own run and to runs that its program made."""
        if principal.run_id is not None and run_id != principal.run_id and self.parent_of(run_id) != principal.run_id:
            raise NotAllowed("This token may change its own run only.", remedy="Use a token of a person: narf token create")

    def check_may_see(self, principal: Principal, run_ids: Sequence[str]) -> None:
        for run_id in run_ids:
            project = self.project_of(run_id)
            if project is None or principal.role_in(project) is None:
                raise NotFound("run", run_id)

    def experiments(self, project: str) -> list[tuple[str, str, int, int]]:
        """(id, name, made at in milliseconds, runs) of each, the newest first."""
        e, r = tables.experiments.c, tables.runs.c
        counted = (
            select(r.experiment_id, func.count().label("runs")).where(r.lifecycle_stage == "active").group_by(r.experiment_id).subquery()
        )
        query = (
            select(e.experiment_id, e.name, e.creation_time, func.coalesce(counted.c.runs, 0))
            .select_from(tables.experiments.outerjoin(counted, counted.c.experiment_id == e.experiment_id))
            .where(e.workspace == project, e.lifecycle_stage == "active")
            .order_by(e.creation_time.desc(), e.experiment_id.desc())
        )
        with self.tracking.store.engine.connect() as connection:
            return [(str(row[0]), row[1], row[2] or 0, row[3]) for row in connection.execute(query)]

    def experiment_names(self, ids: Sequence[str]) -> dict[str, str]:
        e = tables.experiments.c
        with self.tracking.store.engine.connect() as connection:
            query = select(e.experiment_id, e.name).where(e.experiment_id.in_([int(one) for one in ids]))
            return {str(row[0]): row[1] for row in connection.execute(query)}

    def compare(self, runs: Sequence[Run]) -> Differences:
        return compare([self._recorded(run) for run in runs])

    def runs_to_compare(self, run_ids: Sequence[str]) -> list[Run]:
        if not 2 <= len(run_ids) <= _MOST_COMPARED:
            raise BadInput(f"Compare 2 to {_MOST_COMPARED} runs.", field="run")
        return [self.tracking.run(run_id) for run_id in run_ids]

    def series(
        self, run_ids: Sequence[str], keys: Sequence[str], *, buckets: int, from_step: int | None, to_step: int | None
    ) -> list[tuple[str, str, Series]]:
        if len(run_ids) * len(keys) > _MOST_SERIES:
            raise BadInput(f"One request gives at most {_MOST_SERIES} series.", remedy="Ask for fewer runs or metrics.", field="run")
        return self.tracking.series(run_ids, keys, buckets=buckets, from_step=from_step, to_step=to_step)

    def ingest(self, run_id: str, spool_id: str, stream: Stream, offset: int, data: bytes) -> int:
        return self.tracking.ingest(run_id, spool_id, stream, offset, data)

    def take_shipment(self, run_id: str, parts: Sequence[SpoolPart | ArtifactPart]) -> list[int]:
        """Events and points in one transaction, then the artifacts; the offset after each part of a spool. Safe to repeat."""
        stored = self.tracking.ingest_all(run_id, [part for part in parts if isinstance(part, SpoolPart)])
        artifacts = [part for part in parts if isinstance(part, ArtifactPart)]
        place = self._uri(run_id) if artifacts else ""
        for part in artifacts:
            self.artifacts.put(place, part.path, io.BytesIO(part.data))
        return stored

    # -- artifacts

    def list_artifacts(self, run_id: str, path: str) -> list[Artifact]:
        return self.artifacts.list(self._uri(run_id), path)

    @contextmanager
    def open_artifact(self, run_id: str, path: str) -> Iterator[Path]:
        with self.artifacts.open(self._uri(run_id), path) as file:
            yield file

    def put_artifact(self, run_id: str, path: str, stream: IO[bytes]) -> int:
        return self.artifacts.put(self._uri(run_id), path, stream)

    def delete_artifact(self, run_id: str, path: str) -> None:
        self.artifacts.delete(self._uri(run_id), path)

    def _uri(self, run_id: str) -> str:
        return self.tracking.place_of_run(run_id)[1]

    def _recorded(self, run: Run) -> Recorded:
        datasets: dict[str, str] = {}
        code: dict[str, str] = {}
        environment: dict[str, str] = {}
        for used in run.inputs.dataset_inputs if run.inputs else ():
            context = next((tag.value for tag in used.tags if tag.key == "mlflow.data.context"), "")
            datasets[f"{used.dataset.name} ({context})" if context else used.dataset.name] = used.dataset.digest
        if workload := self._workload(run.info.run_id):
            program = workload.program
            datasets |= {name: version for name, _, version in (reference.partition("@") for reference in program.data)}
            code["program"] = program.script or " ".join(program.command)
            code["arguments"] = " ".join(program.arguments)
            environment |= {f"variable {name}": value for name, value in program.environment}
            environment["requirements"] = program.requirements
        environment |= self._packages(run)
        if diff := self._small_artifact(run, "code/uncommitted.diff"):
            code["uncommitted changes"] = hashlib.sha256(diff).hexdigest()[:16]
        return Recorded(
            params=run.data.params, tags=run.data.tags, metrics=run.data.metrics, datasets=datasets, code=code, environment=environment
        )

    def _packages(self, run: Run) -> dict[str, str]:
        """Installed packages and allowed variables, as the hooks noted them."""
        found: dict[str, str] = {}
        for line in self._small_artifact(run, "environment/packages.txt").decode("utf-8", "replace").splitlines():
            name, _, version = line.partition("==")
            found[f"package {name}"] = version
        try:
            variables = json.loads(self._small_artifact(run, "environment/variables.json") or b"{}")
        except ValueError:  # a program may write what it likes there
            variables = {}
        if isinstance(variables, dict):
            found |= {f"variable {name}": str(value) for name, value in variables.items()}
        return found

    def _small_artifact(self, run: Run, path: str) -> bytes:
        """The content of an artifact of the run, empty if there is none or it is too large to compare."""
        try:
            with self.artifacts.open(str(run.info.artifact_uri), path) as file:
                return file.read_bytes() if file.stat().st_size <= _MOST_COMPARED_BYTES else b""
        except BadInput:
            return b""

    def _workload(self, run_id: str) -> Workload | None:
        return self.workloads.of_run(run_id) if self.workloads else None

    # -- again

    def rerun(self, run_id: str, *, by: str) -> Workload:
        """Run it again as it was: code, arguments, environment, data versions and resources, in a new run of the same experiment.

        Raises:
            Conflict: the platform did not run it, so it does not know how.
        """
        run, old = self.tracking.run(run_id), self._workload(run_id)
        if old is None or self.workloads is None:
            raise Conflict(
                f"Run {run_id} was not started by the platform, so there is nothing to start again.",
                remedy="Run its script once with: narf run",
                code="not_ours",
            )
        kept = {key: value for key, value in run.data.tags.items() if key.startswith(("narf.code.", "narf.snapshot"))}
        names = self.experiment_names([run.info.experiment_id])
        return self.workloads.submit(
            Submission(
                project=old.project,
                owner=by,
                name=old.name,
                kind=old.kind,
                program=old.program,
                resources=old.resources,
                replicas=old.replicas,
                priority=old.priority,
                preemptible=old.preemptible,
                experiment=names.get(run.info.experiment_id, ""),
                time_limit_seconds=old.time_limit_seconds,
                max_retries=old.max_retries,
                labels=old.labels,
                tags=(*kept.items(), (RERUN_TAG, run_id)),
            )
        )
