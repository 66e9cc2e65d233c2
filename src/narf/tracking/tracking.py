"""Tracking as the platform uses it: runs, their telemetry and their metrics, without a detour over HTTP.

Nothing here asks who calls: callers are parts of the platform that have authorised already. Projects are MLflow
workspaces of the same name.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.name_utils import _generate_random_name as generate_random_name
from mlflow.utils.uri import append_to_uri_path
from mlflow.utils.validation import _validate_batch_log_data as validate_batch_log_data
from sqlalchemy import bindparam, insert, select, update

from narf.domain.errors import BadInput, Conflict, NarfError, NotFound, Unavailable
from narf.tracking import compaction, metrics, spool, tables
from narf.tracking.metrics import Summary
from narf.tracking.points import Points
from narf.tracking.series import Series
from narf.tracking.server import Stores
from narf.tracking.shipment import SpoolPart
from narf.tracking.workspaces import in_project

DEFAULT_EXPERIMENT = "Default"
CHECKPOINTED_TAG = "narf.checkpointed_at"  # written by `narf.training.recorder`
_MOST_FOUND = 50_000


# Made once: a run is begun, looked up and ended so often that to put these together anew would cost as much as to execute them.
_r, _e, _t = tables.runs.c, tables.experiments.c, tables.tags.c
_ADD_RUN, _ADD_TAGS, _ADD_PARAMS = insert(tables.runs), insert(tables.tags), insert(tables.params)
_SET_STATUS = update(tables.runs).where(_r.run_uuid == bindparam("run"))
_EXPERIMENT = select(_e.experiment_id, _e.artifact_location).where(
    _e.workspace == bindparam("project"), _e.name == bindparam("named"), _e.lifecycle_stage == "active"
)
_PLACE = select(_e.workspace, _r.experiment_id, _r.artifact_uri).where(
    _r.run_uuid == bindparam("run"), _e.experiment_id == _r.experiment_id
)
_CHECKPOINTED = select(_t.run_uuid, _t.value).where(_t.key == CHECKPOINTED_TAG, _t.run_uuid.in_(bindparam("runs", expanding=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvent:
    """Something that happened in a run besides numbers; `time` in milliseconds since 1970."""

    time: int
    type: str
    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    runs: list[Run]
    next: str | None


class Tracking:
    def __init__(self, stores: Stores) -> None:
        self.store, self.registry, self.artifacts_root = stores.tracking, stores.registry, stores.artifacts
        self._place = lru_cache(maxsize=10_000)(self._read_place)  # project, experiment and artifacts of a run: asked thrice for each trial
        self._rows_known = 0  # when the database last looked at its tables

    # -- who owns what

    def project_of_run(self, run_id: str) -> str | None:
        try:
            return self._place(run_id)[0]
        except NotFound:
            return None

    def project_of_experiment(self, experiment_id: str) -> str | None:
        if not experiment_id.isdigit() or len(experiment_id) > 18:
            return None
        e = tables.experiments.c
        with self.store.engine.connect() as connection:
            return _text(connection.execute(select(e.workspace).where(e.experiment_id == int(experiment_id))).scalar())

    def tag_of_run(self, run_id: str, key: str) -> str | None:
        t = tables.tags.c
        with self.store.engine.connect() as connection:
            return _text(connection.execute(select(t.value).where(t.run_uuid == run_id, t.key == key)).scalar())

    def place_of_run(self, run_id: str) -> tuple[str, str]:
        """Its experiment's id and where its artifacts lie; neither ever changes.

        Raises:
            NotFound: there is no such run.
        """
        return self._place(run_id)[1:]

    def _read_place(self, run_id: str) -> tuple[str, str, str]:
        with self.store.engine.connect() as connection:
            row = connection.execute(_PLACE, {"run": run_id}).first()
        if row is None:
            raise NotFound("run", run_id)
        return str(row.workspace), str(row.experiment_id), str(row.artifact_uri)

    def checkpointed(self, run_ids: Sequence[str]) -> dict[str, float]:
        """When (seconds since 1970) each of the runs last wrote a checkpoint to go on from; those that have not are left out."""
        found: dict[str, float] = {}
        with self.store.engine.connect() as connection:
            for at in range(0, len(run_ids), 500):
                for run_id, value in connection.execute(_CHECKPOINTED, {"runs": run_ids[at : at + 500]}):
                    with contextlib.suppress(ValueError):  # the program's own words: it may have written anything there
                        found[run_id] = float(value)
        return found

    # -- runs

    def experiment(self, project: str, name: str = "") -> str:
        """The id of the experiment of this name in the project; made if there is none, restored if it was deleted."""
        name = name or DEFAULT_EXPERIMENT
        with in_project(project), _narf_errors("experiment", name):
            found = self.store.get_experiment_by_name(name)
            if found is None:
                try:
                    return str(self.store.create_experiment(name))
                except MlflowException:  # somebody was quicker
                    found = self.store.get_experiment_by_name(name)
                    if found is None:
                        raise
            if found.lifecycle_stage != "active":
                self.store.restore_experiment(found.experiment_id)
            return str(found.experiment_id)

    def create_run(
        self,
        *,
        project: str,
        experiment: str = "",
        name: str = "",
        user: str = "",
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        created_at: int | None = None,
    ) -> str:
        """A new run, its id. Its state is SCHEDULED until it starts. `created_at` in milliseconds since 1970, by default now."""
        named = ({"mlflow.user": user} if user else {}) | {key: str(value) for key, value in (tags or {}).items()}
        name = name or named.get("mlflow.runName") or generate_random_name()
        named["mlflow.runName"] = name
        run_id = uuid.uuid4().hex
        with _narf_errors("experiment", experiment):
            experiment_id, place = self._open_experiment(project, experiment)
            many = [Param(key, str(value)) for key, value in (params or {}).items()]
            _, many, checked = validate_batch_log_data([], many, [RunTag(key, value) for key, value in named.items()])
            row = {
                "run_uuid": run_id,
                "name": name[:250],
                "source_type": "UNKNOWN",
                "source_name": "",
                "entry_point_name": "",
                "user_id": user,
                "status": "SCHEDULED",
                "start_time": _now() if created_at is None else created_at,
                "source_version": "",
                "lifecycle_stage": "active",
                "artifact_uri": append_to_uri_path(place, run_id, "artifacts"),
                "experiment_id": int(experiment_id),
            }
            # What MLflow's own calls would write in five transactions and twenty queries: a study makes a run for each trial.
            with self.store.writing() as connection:
                connection.execute(_ADD_RUN, row)
                for add, pairs in ((_ADD_TAGS, checked), (_ADD_PARAMS, many)):
                    if pairs:
                        connection.execute(add, [{"run_uuid": run_id, "key": one.key, "value": one.value} for one in pairs])
        return run_id

    def _open_experiment(self, project: str, name: str) -> tuple[str, str]:
        """The id of an active experiment, as `experiment` finds or makes it, and where the artifacts of its runs lie."""
        with self.store.engine.connect() as connection:
            row = connection.execute(_EXPERIMENT, {"project": project, "named": name or DEFAULT_EXPERIMENT}).first()
        if row is not None and row.artifact_location:
            return str(row.experiment_id), str(row.artifact_location)
        experiment_id = self.experiment(project, name)
        with in_project(project):
            return experiment_id, str(self.store.get_experiment(experiment_id).artifact_location)

    def start_run(self, run_id: str) -> None:
        """It runs (again). Safe to repeat."""
        self._set_status(run_id, "RUNNING", None)

    def finish_run(self, run_id: str, status: str, ended_at: int | None = None) -> None:
        """It ended: FINISHED, FAILED or KILLED. Safe to repeat; a run that is gone is nothing to worry about."""
        if status not in ("FINISHED", "FAILED", "KILLED"):
            raise BadInput(f"{status!r} is no end of a run.", remedy="Use FINISHED, FAILED or KILLED.")
        self._set_status(run_id, status, _now() if ended_at is None else ended_at)

    def run(self, run_id: str) -> Run:
        project = self.project_of_run(run_id)
        if project is None:
            raise NotFound("run", run_id)
        with in_project(project), _narf_errors("run", run_id):
            return self.store.get_run(run_id)

    def delete_run(self, run_id: str) -> None:
        with in_project(self._project(run_id)), _narf_errors("run", run_id):
            self.store.delete_run(run_id)

    def restore_run(self, run_id: str) -> None:
        with in_project(self._project(run_id)), _narf_errors("run", run_id):
            self.store.restore_run(run_id)

    def search(
        self,
        project: str,
        *,
        experiments: Sequence[str] = (),
        filter: str = "",
        order_by: Sequence[str] = (),
        limit: int = 100,
        page: str | None = None,
        deleted: bool = False,
    ) -> Found:
        """Runs of a project in MLflow's language; `experiments` by name, all of them by default.

        Raises:
            BadInput: the filter or the order cannot be read.
            NotFound: there is no such experiment.
        """
        if not 1 <= limit <= _MOST_FOUND:
            raise BadInput(f"A search gives 1 to {_MOST_FOUND:,} runs.", field="limit")
        ids = self.experiment_ids(project, experiments)
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        with in_project(project), _narf_errors("run", "", field="filter"):
            found = self.store.search_runs(ids, filter, view, limit, list(order_by), page)
            return Found(runs=list(found), next=_token(found.token))

    def experiment_ids(self, project: str, names: Sequence[str] = ()) -> list[str]:
        e = tables.experiments.c
        query = select(e.experiment_id, e.name).where(e.workspace == project, e.lifecycle_stage == "active")
        with self.store.engine.connect() as connection:
            known = {row.name: str(row.experiment_id) for row in connection.execute(query)}
        for name in names:
            if name not in known:
                raise NotFound("experiment", name)
        return [known[name] for name in names] if names else list(known.values())

    # -- written by the platform

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        with _narf_errors("run", run_id), self.store.writing_run(run_id, anywhere=True) as connection:
            spool.set_tags(connection, run_id, {key[:250]: str(value)[:8000] for key, value in tags.items()})

    def log_batch(
        self,
        run_id: str,
        *,
        metrics: Sequence[tuple[str, float, int, int]] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Metrics as (key, value, step, milliseconds since 1970). As MLflow's own call: the same point twice is one."""
        with in_project(self._project(run_id)), _narf_errors("run", run_id):
            self.store.log_batch(
                run_id,
                [Metric(key, value, at, step) for key, value, step, at in metrics],
                [Param(key, str(value)) for key, value in (params or {}).items()],
                [RunTag(key, str(value)) for key, value in (tags or {}).items()],
            )

    def append(self, run_id: str, points: Mapping[str, Points]) -> None:
        """Add points by the column, as they are."""
        with _narf_errors("run", run_id), self.store.writing_run(run_id, anywhere=True) as connection:
            metrics.append(connection, run_id, [(key, one) for key, one in points.items() if len(one)])

    def ingest(self, run_id: str, spool_id: str, stream: spool.Stream, offset: int, data: bytes) -> int:
        """See `spool.ingest`. When it returns, the bytes up to the offset that it returns are on disk for good."""
        with _narf_errors("run", run_id), self.store.writing_run(run_id, anywhere=True, durable=True) as connection:
            stored, _ = spool.ingest(connection, run_id, spool_id, stream, offset, data)
        return stored

    def ingest_all(self, run_id: str, parts: Sequence[SpoolPart]) -> list[int]:
        """The same for several in one transaction: all are stored, or none. The offset after each."""
        with _narf_errors("run", run_id), self.store.writing_run(run_id, anywhere=True, durable=True) as connection:
            return [spool.ingest(connection, run_id, part.spool, part.stream, part.offset, part.data)[0] for part in parts]

    def offsets(self, run_id: str) -> dict[tuple[str, str], int]:
        with self.store.engine.connect() as connection:
            return spool.offsets(connection, run_id)

    # -- metrics read

    def metrics(self, run_id: str) -> list[Summary]:
        with self.store.engine.connect() as connection:
            return metrics.summaries(connection, run_id)

    def latest(self, run_ids: Sequence[str], keys: Sequence[str] = ()) -> dict[str, dict[str, float]]:
        """The latest value of each metric (or of `keys`) of each run."""
        latest = tables.latest_metrics.c
        result: dict[str, dict[str, float]] = {run_id: {} for run_id in run_ids}
        with self.store.engine.connect() as connection:
            for at in range(0, len(run_ids), 500):
                query = select(latest.run_uuid, latest.key, latest.value, latest.is_nan).where(latest.run_uuid.in_(run_ids[at : at + 500]))
                if keys:
                    query = query.where(latest.key.in_(keys))
                for row in connection.execute(query):
                    result[row.run_uuid][row.key] = float("nan") if row.is_nan else row.value
        return result

    def history(self, run_id: str, key: str) -> Points:
        """Every point of a metric in order of step; within a step in the order in which they arrived."""
        from narf.tracking.series import in_step_order

        with self.store.engine.connect() as connection:
            found = metrics.find_series(connection, run_id, key)
            if found is None:
                raise NotFound("metric", key, remedy="See what the run has: narf run-show RUN")
            return in_step_order(metrics.read(connection, found.id))

    def series(
        self, run_ids: Sequence[str], keys: Sequence[str], *, buckets: int = 2000, from_step: int | None = None, to_step: int | None = None
    ) -> list[tuple[str, str, Series]]:
        """A chart for each metric of each run that has it."""
        found = []
        for run_id in run_ids:
            for key in keys:
                one = self.store.chart(run_id, key, buckets=buckets, from_step=from_step, to_step=to_step)
                if one is not None:
                    found.append((run_id, key, one))
        return found

    def events(self, run_id: str, *, limit: int = 1000) -> list[RunEvent]:
        e = tables.run_events.c
        query = select(e.time, e.type, e.name, e.text).where(e.run_uuid == run_id).order_by(e.id).limit(limit)
        with self.store.engine.connect() as connection:
            return [RunEvent(**row) for row in connection.execute(query).mappings()]

    # -- housekeeping

    def compact(self, most: int = 50) -> int:
        """Merge small chunks of at most `most` series, each in its own transaction; the number of chunks that went away."""
        with self.store.engine.connect() as connection:
            waiting = compaction.waiting(connection, most)
        gone = 0
        for series_id in waiting:
            with self.store.writing() as connection:
                if compaction.lock(connection, series_id):
                    gone += compaction.compact_series(connection, series_id)
        self._rows_known = tables.refresh_statistics(self.store.engine, self._rows_known)
        return gone

    def close(self) -> None:
        self.store.engine.dispose()

    def _project(self, run_id: str) -> str:
        project = self.project_of_run(run_id)
        if project is None:
            raise NotFound("run", run_id)
        return project

    def _set_status(self, run_id: str, status: str, ended: int | None) -> None:
        with self.store.writing() as connection:
            connection.execute(_SET_STATUS, {"run": run_id, "status": status, "end_time": ended})


class _narf_errors:
    """MLflow's exceptions as ours."""

    def __init__(self, kind: str, name: str, *, field: str | None = None) -> None:
        self._kind, self._name, self._field = kind, name, field

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, MlflowException):
            raise _as_narf(error, self._kind, self._name, self._field) from error


def _as_narf(error: MlflowException, kind: str, name: str, field: str | None) -> NarfError:
    sentence = str(error.message)
    if error.error_code == "RESOURCE_DOES_NOT_EXIST":
        return NotFound(kind, name)
    if error.error_code in ("TEMPORARILY_UNAVAILABLE",):
        return Unavailable("The tracking database is busy.", remedy="Try again in a moment.")
    if "must be in the 'active' state" in sentence:
        return Conflict(f"The {kind} {name} is deleted.", remedy="Restore it first.", code="deleted")
    if error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"):
        return BadInput(sentence, field=field)
    raise error


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _token(token: Any) -> str | None:
    return token.decode() if isinstance(token, bytes) else token


def _now() -> int:
    return round(time.time() * 1000)


def columns(history: Points) -> dict[str, np.ndarray[Any, Any]]:
    """A history as named columns, for data frames."""
    return {"step": history.steps, "time": history.times, "value": history.values}
