"""Studies' view of tracking: values that trials reported, notes on the run of a study, models that a trial logged."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sqlalchemy import select

from narf.domain.errors import BadInput
from narf.tracking import metrics, tables
from narf.tracking.tracking import Tracking


class TrackedMetrics:
    """Metrics of trials, read from the tracking store."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def points(self, run_id: str, key: str, after: int) -> Sequence[tuple[int, float]]:
        with self._tracking.store.engine.connect() as connection:
            found = metrics.find_series(connection, run_id, key)
            if found is None or found[1] <= after:
                return []
            points = metrics.read(connection, found[0]).take(slice(after, None))
        return list(zip(points.steps.tolist(), points.values.tolist(), strict=True))

    def names(self, run_id: str) -> Sequence[str]:
        return [summary.key for summary in self._tracking.metrics(run_id) if not summary.key.startswith("system/")]

    def is_complete(self, run_id: str) -> bool:
        """The program has said that it ends, which it does after all it reported."""
        e = tables.run_events.c
        with self._tracking.store.engine.connect() as connection:
            return connection.execute(select(e.id).where(e.run_uuid == run_id, e.type == "end").limit(1)).first() is not None


class TrackedParents:
    """Notes on the runs of studies."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def note(self, run_id: str, *, tags: dict[str, str], metrics: dict[str, float]) -> None:
        at = round(time.time() * 1000)
        self._tracking.set_tags(run_id, tags)
        self._tracking.log_batch(run_id, metrics=[(key, value, 0, at) for key, value in metrics.items()])


class TrackedModels:
    """Registers what a run logged in the registry beside the tracking store."""

    def __init__(self, tracking: Tracking) -> None:
        self._tracking = tracking

    def register_run(self, project: str, user: str, run_id: str, name: str) -> str:
        from mlflow.exceptions import MlflowException

        from narf.tracking.workspaces import in_project

        run = self._tracking.run(run_id)
        with in_project(project):
            source = self._source(run_id, str(run.info.artifact_uri))
            try:
                self._tracking.registry.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
            version = self._tracking.registry.create_model_version(name, source, run_id)
        return str(version.version)

    def _source(self, run_id: str, artifacts: str) -> str:
        """Where the model of a run lies: an MLflow model, else its newest checkpoint."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(artifacts)
        waiting, checkpoints = [""], []
        while waiting:
            folder = waiting.pop()
            for item in repository.list_artifacts(folder or None):
                if item.is_dir:
                    waiting.append(item.path)
                elif item.path.rpartition("/")[2] == "MLmodel":
                    return f"{artifacts}/{item.path.rpartition('/')[0]}".rstrip("/")
                elif item.path.endswith((".ckpt", ".pt", ".pth", ".safetensors", ".joblib", ".pkl", ".onnx")):
                    checkpoints.append(item.path)
        if checkpoints:
            return f"{artifacts}/{sorted(checkpoints)[-1]}"
        raise BadInput(
            f"Run {run_id} logged no model.",
            remedy="Let the script log one (mlflow.pytorch.log_model, or a Lightning checkpoint), and run its command again.",
            code="no_model",
        )
