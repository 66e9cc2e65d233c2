"""MLflow's tracking store with our metric storage: `narf:` before any SQLite or PostgreSQL address that MLflow knows.

Experiments, runs, parameters, tags, models and traces are MLflow's own code on MLflow's own tables. Whatever touches
metric points is ours: they live in chunks (see `metrics`), while `latest_metrics` stays as MLflow has it. What
MLflow promises holds: a point logged twice through its API is kept once, infinities come back as the greatest float.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from mlflow.entities import Metric, Run, RunTag
from mlflow.entities.metric import MetricWithRunId
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, TEMPORARILY_UNAVAILABLE
from mlflow.store.db.utils import _make_parent_dirs_if_sqlite
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from mlflow.utils.search_utils import SearchUtils
from mlflow.utils.validation import (
    _validate_batch_log_data,
    _validate_batch_log_limits,
    _validate_metric,
    _validate_param_keys_unique,
    _validate_run_id,
)
from sqlalchemy import Connection, Engine, create_engine, event, select
from sqlalchemy.exc import OperationalError

from narf.tracking import metrics as points_of
from narf.tracking import tables
from narf.tracking.charts import chart
from narf.tracking.points import Points
from narf.tracking.search import search_runs
from narf.tracking.series import Series

SCHEME = "narf"
_GREATEST = 1.7976931348623157e308
_CACHED_POINTS = 4_000_000


class NarfTrackingStore(WorkspaceAwareSqlAlchemyStore):  # type: ignore[misc]
    """`store_uri` is `narf:` and a database address; `artifact_uri` the root of artifacts."""

    def __init__(self, store_uri: str | None = None, artifact_uri: str | None = None, *, workspaces: Any = None) -> None:
        self._one_writer = threading.Lock()
        self._histories: OrderedDict[tuple[int, int], Points] = OrderedDict()
        self._histories_lock = threading.Lock()
        self._given_workspaces = workspaces
        super().__init__(database_of(store_uri or ""), artifact_uri or "./mlruns")
        tables.create(self.engine)

    @classmethod
    def _get_or_create_engine(cls, db_uri: str) -> Engine:
        if not db_uri.startswith("sqlite"):
            return cast(Engine, super()._get_or_create_engine(db_uri))
        with cls._engine_map_lock:
            if db_uri not in cls._engine_map:
                _make_parent_dirs_if_sqlite(db_uri)
                # MLflow's would ask whether a connection still lives before each transaction; a file does not hang up.
                engine = create_engine(db_uri)
                event.listen(engine, "connect", _configure_sqlite)
                cls._engine_map[db_uri] = engine
            return cast(Engine, cls._engine_map[db_uri])

    def _get_workspace_provider_instance(self) -> Any:
        if self._given_workspaces is not None:
            self._workspace_provider = self._given_workspaces
        return super()._get_workspace_provider_instance()

    # -- transactions

    @contextmanager
    def writing(self, *, durable: bool = False) -> Iterator[Connection]:
        """A write transaction. `durable`: it survives a loss of power once committed (on SQLite this costs a sync)."""
        if self.engine.dialect.name != "sqlite":
            with self.engine.begin() as connection:
                yield connection
            return
        # SQLite has one writer; threads of this process queue here instead of polling the file's lock.
        with self._one_writer, self.engine.connect() as connection:
            try:
                if durable:
                    connection.exec_driver_sql("PRAGMA synchronous=FULL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
                yield connection
                connection.commit()
            finally:
                connection.rollback()
                if durable:
                    connection.exec_driver_sql("PRAGMA synchronous=NORMAL")

    @contextmanager
    def writing_run(self, run_id: str, *, anywhere: bool = False, durable: bool = False) -> Iterator[Connection]:
        """A write transaction that holds the lock of an active run of the current workspace (`anywhere`: of any).

        Raises:
            MlflowException: there is no such run, or it is deleted.
        """
        with self._as_mlflow(), self.writing(durable=durable) as connection:
            r, e = tables.runs.c, tables.experiments.c
            query = select(r.lifecycle_stage).where(r.run_uuid == run_id)
            if not anywhere:
                query = query.where(r.experiment_id == e.experiment_id, e.workspace == self._get_active_workspace())
            if connection.dialect.name == "postgresql":
                query = query.with_for_update(of=tables.runs, key_share=True)
            stage = connection.execute(query).scalar()
            if stage is None:
                raise MlflowException(f"Run with id={run_id} not found", RESOURCE_DOES_NOT_EXIST)
            if stage != "active":
                raise MlflowException(f"The run {run_id} must be in the 'active' state. Current state is {stage}.", INVALID_PARAMETER_VALUE)
            yield connection

    @contextmanager
    def _as_mlflow(self) -> Iterator[None]:
        try:
            yield
        except OperationalError as error:
            raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error

    # -- metrics written

    def log_batch(self, run_id: str, metrics: Sequence[Metric], params: Sequence[Any], tags: Sequence[RunTag]) -> None:
        _validate_run_id(run_id)
        metrics, params, tags = _validate_batch_log_data(metrics, params, tags)
        _validate_batch_log_limits(metrics, params, tags)
        _validate_param_keys_unique(params)
        if params or tags or not metrics:
            with self.ManagedSessionMaker() as session:
                self._check_run_is_active(self._get_run(run_uuid=run_id, session=session))
        self._log_params(run_id, params)
        if metrics:
            self._append(run_id, metrics)
            if any(metric.model_id is not None for metric in metrics):
                self._log_model_metrics(run_id, metrics, experiment_id=self._experiment_of(run_id))
        self._set_tags(run_id, tags)

    def _log_metrics(self, run_id: str, metrics: Sequence[Metric]) -> None:
        for index, metric in enumerate(metrics):
            _validate_metric(metric.key, metric.value, metric.timestamp, metric.step, path="" if len(metrics) == 1 else f"metrics[{index}]")
        self._append(run_id, metrics)

    def _append(self, run_id: str, metrics: Sequence[Metric]) -> None:
        by_key: dict[str, list[tuple[int, int, float]]] = {}
        for metric in metrics:
            by_key.setdefault(metric.key, []).append((int(metric.step), int(metric.timestamp), float(metric.value)))
        groups = []
        for key, rows in by_key.items():
            steps, times, values = zip(*rows, strict=True)
            points = Points(np.array(steps, np.int64), np.array(times, np.int64), np.array(values, np.float64))
            groups.append((key, points_of.distinct(points) if len(rows) > 1 else points))
        with self.writing_run(run_id) as connection:
            points_of.append(connection, run_id, points_of.without_stored(connection, run_id, groups))

    def _experiment_of(self, run_id: str) -> Any:
        with self.engine.connect() as connection:
            return connection.execute(select(tables.runs.c.experiment_id).where(tables.runs.c.run_uuid == run_id)).scalar()

    # -- metrics read, as MLflow asks for them

    def get_metric_history(self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None) -> PagedList:
        offset = SearchUtils.parse_start_offset_from_page_token(page_token)
        with self._reading_runs([run_id]) as connection:
            points = self._history(connection, run_id, metric_key)
        end = len(points) if max_results is None else offset + max_results
        token = SearchUtils.create_page_token(end) if end < len(points) else None
        return PagedList(_entities(metric_key, points.take(slice(offset, end))), token)

    def get_metric_history_bulk(self, run_ids: Sequence[str], metric_key: str, max_results: int) -> list[MetricWithRunId]:
        with self.ManagedSessionMaker() as session:
            known = self._readable(session, run_ids)
        result: list[MetricWithRunId] = []
        with self.engine.connect() as connection:
            for run_id in sorted(known):
                points = self._history(connection, run_id, metric_key).take(slice(0, max_results - len(result)))
                result += [MetricWithRunId(run_id=run_id, metric=metric) for metric in _entities(metric_key, points)]
                if len(result) >= max_results:
                    break
        return result

    def get_max_step_for_metric(self, run_id: str, metric_key: str) -> int:
        with self._reading_runs([run_id]) as connection:
            found = points_of.find_series(connection, run_id, metric_key)
        return int(found.last_step) if found else 0

    def get_metric_history_bulk_interval_from_steps(
        self, run_id: str, metric_key: str, steps: Sequence[int], max_results: int
    ) -> list[MetricWithRunId]:
        with self._reading_runs([run_id]) as connection:
            points = self._history(connection, run_id, metric_key)
        points = points.take(np.isin(points.steps, np.array(list(steps), np.int64)))
        points = _sorted(points, by_step=True).take(slice(0, max_results))
        return [MetricWithRunId(run_id=run_id, metric=metric) for metric in _entities(metric_key, points)]

    def get_metric_history_bulk_interval(
        self, run_ids: Sequence[str], metric_key: str, max_results: int, start_step: int | None, end_step: int | None
    ) -> list[MetricWithRunId]:
        if (start_step is None) != (end_step is None):
            raise MlflowException.invalid_parameter_value(
                "Both start_step and end_step must be specified together, or neither may be specified."
            )
        result: list[MetricWithRunId] = []
        with self._reading_runs(run_ids) as connection:
            for run_id in run_ids:
                points = _sorted(self._history(connection, run_id, metric_key), by_step=True)
                if start_step is not None and end_step is not None:
                    points = points.take((points.steps >= start_step) & (points.steps <= end_step))
                points = points.take(_sample(len(points), max(1, max_results)))
                result += [MetricWithRunId(run_id=run_id, metric=metric) for metric in _entities(metric_key, points)]
        return result

    def _history(self, connection: Connection, run_id: str, key: str) -> Points:
        """All points by time, step and value. Series only grow, so the number of points says whether a copy is still whole."""
        found = points_of.find_series(connection, run_id, key)
        if found is None:
            return Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))
        with self._histories_lock:
            points = self._histories.get((found.id, found.points))
        if points is None:
            points = _sorted(points_of.read(connection, found.id), by_step=False)
            with self._histories_lock:
                self._histories[(found.id, len(points))] = points
                while len(self._histories) > 1 and sum(len(kept) for kept in self._histories.values()) > _CACHED_POINTS:
                    self._histories.popitem(last=False)
        return points

    @contextmanager
    def _reading_runs(self, run_ids: Sequence[str]) -> Iterator[Connection]:
        if self._workspaces_enabled():
            with self.ManagedSessionMaker() as session:
                for run_id in run_ids:
                    self._validate_run_accessible(session, run_id)
        with self.engine.connect() as connection:
            yield connection

    def _readable(self, session: Any, run_ids: Sequence[str]) -> list[str]:
        from mlflow.entities.entity_type import EntityAssociationType

        return list(self._filter_entity_ids(session, EntityAssociationType.RUN, list(run_ids)))

    # -- what MLflow has no call for

    def chart(self, run_id: str, key: str, *, buckets: int, from_step: int | None = None, to_step: int | None = None) -> Series | None:
        """See `charts.chart`. Does not look at workspaces: ask only for runs that the caller may see."""
        with self.engine.connect() as connection:
            return chart(connection, run_id, key, buckets=buckets, from_step=from_step, to_step=to_step)

    # -- search

    def _search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str | None,
        run_view_type: Any,
        max_results: int | None,
        order_by: Sequence[str] | None,
        page_token: str | None,
    ) -> tuple[list[Run], str | None]:
        self._validate_max_results_param(max_results, allow_null=True)
        return search_runs(self, experiment_ids, filter_string, run_view_type, max_results, order_by, page_token)


def database_of(store_uri: str) -> str:
    """The database's own address in a `narf:` address.

    Raises:
        MlflowException: it is none, or of a database that we do not support.
    """
    address = store_uri.removeprefix(SCHEME + ":")
    if address.startswith("postgresql://"):
        address = "postgresql+psycopg://" + address.removeprefix("postgresql://")
    if not address.startswith(("sqlite:", "postgresql+")):
        raise MlflowException.invalid_parameter_value(
            f"{store_uri!r} is no address of a tracking store; write narf:sqlite:////path/mlflow.db or narf:postgresql://user@host/name."
        )
    return address


def _configure_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "foreign_keys=ON",
        "busy_timeout=20000",
        "case_sensitive_like=true",
        "cache_size=-65536",
        "mmap_size=1073741824",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _entities(key: str, points: Points) -> list[Metric]:
    values = np.clip(points.values, -_GREATEST, _GREATEST).tolist()  # NaN stays NaN
    return [Metric(key, value, time, step) for value, time, step in zip(values, points.times.tolist(), points.steps.tolist(), strict=True)]


def _sorted(points: Points, *, by_step: bool) -> Points:
    first, second = (points.steps, points.times) if by_step else (points.times, points.steps)
    rising = (first[1:] > first[:-1]) | ((first[1:] == first[:-1]) & (second[1:] > second[:-1]))
    if bool(rising.all()):
        return points
    is_nan = np.isnan(points.values)
    return points.take(np.lexsort((is_nan, np.where(is_nan, 0.0, points.values), second, first)))


def _sample(count: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Indices of the first of each of `most` even parts of `count` points, and of the last point, as MLflow samples."""
    if count <= most:
        return np.arange(count)
    size, longer = divmod(count, most)
    part = np.arange(most)
    starts = part * size + np.minimum(part, longer)
    if starts[-1] != count - 1:
        starts[-1] = count - 1
    return starts
