"""A search reads the covering indexes that were made for it, once the database has looked at its tables."""

from __future__ import annotations

from sqlalchemy import event, insert

from narf.tracking import tables


def test_a_search_of_many_runs_reads_indexes_alone(tmp_path):
    from narf.tracking.server import open_stores
    from narf.tracking.tracking import Tracking

    tracking = Tracking(open_stores(f"sqlite:///{tmp_path / 'mlflow.db'}", str(tmp_path / "artifacts"), lambda _project: True))
    experiment = int(tracking.experiment("default"))
    base = {"experiment_id": experiment, "lifecycle_stage": "active", "status": "FINISHED", "artifact_uri": "x", "user_id": "me"}
    ids = [f"{i:032x}" for i in range(500)]
    with tracking.store.engine.begin() as connection:
        connection.execute(insert(tables.runs), [{**base, "run_uuid": id, "name": "n", "start_time": i} for i, id in enumerate(ids)])
        rows = [
            {"run_uuid": id, "key": f"m{k}", "value": i / 500, "timestamp": 1, "step": 1, "is_nan": False}
            for i, id in enumerate(ids)
            for k in range(4)
        ]
        connection.execute(insert(tables.latest_metrics), rows)
    tracking.compact()
    asked: list[tuple[str, object]] = []
    event.listen(
        tracking.store.engine, "before_cursor_execute", lambda _c, _u, statement, values, _x, _m: asked.append((statement, values))
    )
    found = tracking.search("default", filter="metrics.m0 < 0.5", order_by=["metrics.m1 DESC"], limit=10).runs
    assert [run.info.run_id for run in found] == ids[249:239:-1]
    statement, values = next((s, v) for s, v in asked if "ORDER BY" in s)
    with tracking.store.engine.connect() as connection:
        plan = [row[3] for row in connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, values)]
    reads = [step for step in plan if step.startswith(("SEARCH", "SCAN"))]
    assert len(reads) == 3 and all("COVERING INDEX narf_" in step for step in reads), plan
    tracking.close()
