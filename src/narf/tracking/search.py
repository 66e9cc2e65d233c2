"""`search_runs` in MLflow's grammar: first the ids in one narrow query, then everything about the few that are shown.

MLflow carries whole rows of all matching runs through DISTINCT and ORDER BY. Its own parsing, filters and order are
used here, on the id alone; the joins are on primary keys, so no run can appear twice and DISTINCT is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlflow.entities import LifecycleStage, Metric, Param, Run, RunData, RunInfo, RunInputs, RunOutputs, RunTag
from mlflow.store.tracking.dbmodels.models import SqlRun
from mlflow.store.tracking.sqlalchemy_store import _get_orderby_clauses, _get_sqlalchemy_filter_clauses, _parse_experiment_ids
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.search_utils import SearchUtils
from sqlalchemy import select

from narf.tracking import tables

_AT_ONCE = 900


def search_runs(
    store: Any,
    experiment_ids: Sequence[str],
    filter_string: str | None,
    run_view_type: Any,
    max_results: int | None,
    order_by: Sequence[str] | None,
    page_token: str | None,
) -> tuple[list[Run], str | None]:
    """A page of runs and the token of the next, as MLflow's `_search_runs` gives them."""
    parsed = SearchUtils.parse_search_filter(filter_string)
    offset = SearchUtils.parse_start_offset_from_page_token(page_token)
    stages = LifecycleStage.view_type_to_stages(run_view_type)
    with store.ManagedSessionMaker() as session:
        cases, order, sorting_joins = _get_orderby_clauses(order_by, session)
        attributes, others, datasets = _get_sqlalchemy_filter_clauses(parsed, session, store._get_dialect())
        experiments = store._filter_experiment_ids(session, _parse_experiment_ids(experiment_ids))
        query = select(SqlRun.run_uuid, *cases)
        for subquery in others:
            query = query.join(subquery)
        for subquery in datasets:
            query = query.where(SqlRun.run_uuid.in_(select(subquery.c.destination_id)))
        for subquery in sorting_joins:
            query = query.outerjoin(subquery)
        query = query.where(SqlRun.experiment_id.in_(experiments), SqlRun.lifecycle_stage.in_(stages), *attributes)
        query = query.order_by(*order).offset(offset)
        if max_results is not None:
            query = query.limit(max_results + 1)
        ids = [row[0] for row in session.execute(query)]
        token = None
        if max_results is not None and len(ids) > max_results:
            ids, token = ids[:max_results], SearchUtils.create_page_token(offset + max_results)
        return _load(store, session, ids), token


def _load(store: Any, session: Any, ids: list[str]) -> list[Run]:
    runs: list[Run] = []
    for at in range(0, len(ids), _AT_ONCE):
        some = ids[at : at + _AT_ONCE]
        infos = {row.run_uuid: row for row in session.execute(select(tables.runs).where(tables.runs.c.run_uuid.in_(some)))}
        metrics: dict[str, list[Metric]] = {run_id: [] for run_id in some}
        params: dict[str, list[Param]] = {run_id: [] for run_id in some}
        tags: dict[str, list[RunTag]] = {run_id: [] for run_id in some}
        latest = tables.latest_metrics
        for row in session.execute(select(latest).where(latest.c.run_uuid.in_(some))):
            metrics[row.run_uuid].append(Metric(row.key, float("nan") if row.is_nan else row.value, row.timestamp, row.step))
        for row in session.execute(select(tables.params).where(tables.params.c.run_uuid.in_(some))):
            params[row.run_uuid].append(Param(row.key, row.value))
        for row in session.execute(select(tables.tags).where(tables.tags.c.run_uuid.in_(some))):
            tags[row.run_uuid].append(RunTag(row.key, row.value))
        inputs = store._get_run_inputs(run_uuids=some, session=session)
        outputs = store._get_model_outputs_bulk(run_ids=some, session=session)
        runs += [
            Run(
                _info(infos[run_id], tags[run_id]),
                RunData(metrics[run_id], params[run_id], tags[run_id]),
                RunInputs(dataset_inputs=inputs[i]),
                RunOutputs(outputs[run_id]),
            )
            for i, run_id in enumerate(some)
        ]
    return runs


def _info(row: Any, tags: list[RunTag]) -> RunInfo:
    name = row.name or next((tag.value for tag in tags if tag.key == MLFLOW_RUN_NAME), None)
    return RunInfo(
        run_id=row.run_uuid,
        run_name=name,
        experiment_id=str(row.experiment_id),
        user_id=row.user_id,
        status=row.status,
        start_time=row.start_time,
        end_time=row.end_time,
        lifecycle_stage=row.lifecycle_stage,
        artifact_uri=row.artifact_uri,
    )
