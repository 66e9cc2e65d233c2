"""`search_runs` in MLflow's grammar: first the ids in one narrow query, then everything about the few that are shown.

MLflow carries whole rows of all matching runs through DISTINCT and ORDER BY. Its own parsing, filters and order are
used here, on the id alone; the joins are on primary keys, so no run can appear twice and DISTINCT is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from mlflow.entities import LifecycleStage, Metric, Param, Run, RunData, RunInfo, RunInputs, RunOutputs, RunTag
from mlflow.store.tracking.dbmodels.models import SqlRun
from mlflow.store.tracking.sqlalchemy_store import _get_orderby_clauses, _get_sqlalchemy_filter_clauses, _parse_experiment_ids
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NAME
from mlflow.utils.search_utils import SearchUtils
from sqlalchemy import Text, any_, bindparam, func, select, union_all
from sqlalchemy.dialects.postgresql import ARRAY

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
    if not ids:
        return []
    connection = session.connection()
    metrics: dict[str, list[Metric]] = {run_id: [] for run_id in ids}
    params: dict[str, list[Param]] = {run_id: [] for run_id in ids}
    tags: dict[str, list[RunTag]] = {run_id: [] for run_id in ids}
    nan, given = float("nan"), _given(connection.dialect.name, ids)
    infos = {row[0]: row for row in connection.execute(_INFOS[connection.dialect.name], given).all()}
    for run_id, key, value, time, step, is_nan in connection.execute(_METRICS[connection.dialect.name], given).all():
        metrics[run_id].append(Metric(key, nan if is_nan else value, time, step))
    for run_id, key, value in connection.execute(_PARAMS[connection.dialect.name], given).all():
        params[run_id].append(Param(key, value))
    for run_id, key, value in connection.execute(_TAGS[connection.dialect.name], given).all():
        tags[run_id].append(RunTag(key, value))
    inputs: dict[str, Any] = {}
    outputs: dict[str, Any] = {}
    if linked := {row[0] for row in connection.execute(_LINKED[connection.dialect.name], given).all()}:
        some = [run_id for run_id in ids if run_id in linked]
        for at in range(0, len(some), _AT_ONCE):
            part = some[at : at + _AT_ONCE]
            inputs |= dict(zip(part, store._get_run_inputs(run_uuids=part, session=session), strict=True))
            outputs |= store._get_model_outputs_bulk(run_ids=part, session=session)
    return [
        Run(
            _info(infos[run_id], tags[run_id]),
            RunData(metrics[run_id], params[run_id], tags[run_id]),
            RunInputs(dataset_inputs=inputs.get(run_id, [])),
            RunOutputs(outputs.get(run_id, [])),
        )
        for run_id in ids
    ]


def _info(row: Any, tags: list[RunTag]) -> RunInfo:
    run_id, name, experiment_id, user_id, status, start_time, end_time, stage, artifact_uri = row
    return RunInfo(
        run_id=run_id,
        run_name=name or next((tag.value for tag in tags if tag.key == MLFLOW_RUN_NAME), None),
        experiment_id=str(experiment_id),
        user_id=user_id,
        status=status,
        start_time=start_time,
        end_time=end_time,
        lifecycle_stage=stage,
        artifact_uri=artifact_uri,
    )


def _given(dialect: str, ids: list[str]) -> dict[str, Any]:
    return {"ids": json.dumps(ids) if dialect == "sqlite" else ids}


def _about(column: Any, *columns: Any) -> dict[str, Any]:
    """A query of what is known of given runs, by dialect. The ids are one parameter, however many they are: a list of
    parameters would be rendered anew each time, which takes longer than the query."""
    listed = func.json_each(bindparam("ids", type_=Text)).table_valued("value")
    return {
        "sqlite": select(column, *columns).where(column.in_(select(listed.c.value))),
        "postgresql": select(column, *columns).where(column == any_(bindparam("ids", type_=ARRAY(Text)))),
    }


_r, _m, _p, _t = tables.runs.c, tables.latest_metrics.c, tables.params.c, tables.tags.c
_INFOS = _about(
    _r.run_uuid, _r.name, _r.experiment_id, _r.user_id, _r.status, _r.start_time, _r.end_time, _r.lifecycle_stage, _r.artifact_uri
)
_METRICS = _about(_m.run_uuid, _m.key, _m.value, _m.timestamp, _m.step, _m.is_nan)
_PARAMS = _about(_p.run_uuid, _p.key, _p.value)
_TAGS = _about(_t.run_uuid, _t.key, _t.value)
_used_by, _made_by = _about(tables.inputs.c.destination_id), _about(tables.inputs.c.source_id)
_LINKED = {
    dialect: union_all(
        _used_by[dialect].where(tables.inputs.c.destination_type == "RUN"),
        _made_by[dialect].where(tables.inputs.c.source_type == "RUN_OUTPUT"),
    )
    for dialect in _used_by
}
