"""Telemetry arrives exactly once, whatever is repeated, torn or out of step, and odd input has a defined end."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from narf.domain.errors import BadInput, Conflict, NotFound
from narf.tracking.points import record_bytes
from narf.tracking.spool import OffsetMismatch, metric_name

SPOOL = "0123456789abcdef"


def events(*rows: dict[str, object]) -> bytes:
    return b"".join(json.dumps({"time": 1.5, **row}).encode() + b"\n" for row in rows)


def key(number: int, name: str) -> dict[str, object]:
    return {"type": "key", "id": number, "name": name}


def points(*rows: tuple[int, int, float]) -> bytes:
    return record_bytes([r[0] for r in rows], [r[1] for r in rows], [1000.0 + i for i in range(len(rows))], [r[2] for r in rows])


def name_keys(tracking, run: str, *names: str) -> None:
    tracking.ingest(run, SPOOL, "events", 0, events(*(key(i, name) for i, name in enumerate(names))))


def test_points_are_stored_and_the_latest_is_searchable(tracking, run):
    name_keys(tracking, run, "loss", "acc")
    data = points((0, 1, 0.5), (1, 1, 0.8), (0, 2, 0.25))
    assert tracking.ingest(run, SPOOL, "points", 0, data) == len(data)
    assert tracking.history(run, "loss").values.tolist() == [0.5, 0.25]
    assert tracking.latest([run]) == {run: {"loss": 0.25, "acc": 0.8}}
    assert [r.info.run_id for r in tracking.search("default", filter="metrics.acc > 0.7 and metrics.loss < 0.3").runs] == [run]
    assert tracking.run(run).info.status == "RUNNING"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 39), st.integers(1, 640)), min_size=1, max_size=12))
def test_whatever_is_sent_again_every_point_arrives_once_and_in_order(tracking, cuts):
    run = tracking.create_run(project="default")
    name_keys(tracking, run, "loss")
    whole = points(*((0, step, float(step)) for step in range(40)))
    for start, length in [*cuts, (0, len(whole))]:
        try:
            tracking.ingest(run, SPOOL, "points", start * 32, whole[start * 32 : start * 32 + length])
        except OffsetMismatch as error:
            tracking.ingest(run, SPOOL, "points", error.offset, whole[error.offset : error.offset + length])
    assert tracking.offsets(run)[(SPOOL, "points")] == len(whole)
    assert tracking.history(run, "loss").steps.tolist() == list(range(40))


def test_a_sender_that_is_ahead_hears_where_to_go_on(tracking, run):
    name_keys(tracking, run, "loss")
    with pytest.raises(OffsetMismatch) as caught:
        tracking.ingest(run, SPOOL, "points", 64, points((0, 1, 1.0)))
    assert caught.value.offset == 0


def test_a_torn_tail_waits_and_a_corrupt_record_is_refused(tracking, run):
    name_keys(tracking, run, "loss")
    data = points((0, 1, 1.0), (0, 2, 2.0))
    assert tracking.ingest(run, SPOOL, "points", 0, data[:50]) == 32
    assert tracking.ingest(run, SPOOL, "points", 32, data[32:40]) == 32
    with pytest.raises(BadInput, match="byte 32 does not verify"):
        tracking.ingest(run, SPOOL, "points", 32, b"\0" * 32)
    assert tracking.ingest(run, SPOOL, "points", 32, data[32:]) == 64
    assert tracking.history(run, "loss").steps.tolist() == [1, 2]


def test_a_point_without_a_named_key_is_refused_whole(tracking, run):
    name_keys(tracking, run, "loss")
    with pytest.raises(Conflict, match="key 5"):
        tracking.ingest(run, SPOOL, "points", 0, points((0, 1, 1.0), (5, 1, 1.0)))
    assert tracking.offsets(run).get((SPOOL, "points")) is None
    assert tracking.metrics(run) == []


def test_two_processes_may_write_one_metric(tracking, run):
    other = "f" * 16
    name_keys(tracking, run, "loss")
    tracking.ingest(run, other, "events", 0, events(key(7, "loss")))
    tracking.ingest(run, SPOOL, "points", 0, points((0, 1, 1.0)))
    tracking.ingest(run, other, "points", 0, points((7, 2, 2.0)))
    assert tracking.history(run, "loss").values.tolist() == [1.0, 2.0]


def test_params_tags_and_events(tracking, run):
    data = events(
        {"type": "param", "name": "lr", "value": "0.1"},
        {"type": "param", "name": "lr", "value": "0.2"},
        {"type": "tag", "name": "team", "value": "a"},
        {"type": "tag", "name": "team", "value": "b"},
        {"type": "tag", "name": "mlflow.runName", "value": "renamed"},
        {"type": "metric_text", "name": "state", "value": "warm"},
        {"type": "phase", "name": "fit"},
        {"type": "invented later", "x": 1},
    )
    assert tracking.ingest(run, SPOOL, "events", 0, data) == len(data)
    tracking.ingest(run, "a" * 16, "events", 0, events({"type": "param", "name": "lr", "value": "9"}))
    shown = tracking.run(run)
    assert shown.data.params == {"lr": "0.1"}  # parameters do not change: the first value stays
    assert shown.data.tags["team"] == "b"
    assert shown.info.run_name == "renamed"
    assert [(e.type, e.name, e.text) for e in tracking.events(run)] == [("metric_text", "state", "warm"), ("phase", "fit", "")]


def test_a_half_written_line_waits(tracking, run):
    data = events(key(0, "a"), key(1, "b"))
    stored = tracking.ingest(run, SPOOL, "events", 0, data[:-5])
    assert stored == data.index(b"\n") + 1
    assert tracking.ingest(run, SPOOL, "events", stored, data[stored:]) == len(data)


def test_a_line_that_is_no_event_is_refused(tracking, run):
    for line in (b"[1]\n", b"nonsense\n", b'{"type": 3}\n', b'{"type": "key", "id": -1, "name": "a"}\n', b'{"type": "key", "id": 1}\n'):
        with pytest.raises(BadInput):
            tracking.ingest(run, SPOOL, "events", 0, line)


def test_nan_and_infinities_are_kept_as_they_are(tracking, run):
    name_keys(tracking, run, "loss")
    tracking.ingest(run, SPOOL, "points", 0, points((0, 1, math.inf), (0, 2, -math.inf), (0, 3, math.nan)))
    values = tracking.history(run, "loss").values
    assert values[:2].tolist() == [math.inf, -math.inf] and math.isnan(values[2])
    assert math.isnan(tracking.latest([run])[run]["loss"])
    assert tracking.search("default", filter=f"metrics.loss > -1 and attributes.run_id = '{run}'").runs == []  # NaN compares with nothing
    (summary,) = tracking.metrics(run)
    assert (summary.count, summary.least, summary.greatest) == (3, -1.7976931348623157e308, 1.7976931348623157e308)


def test_steps_may_go_backwards(tracking, run):
    name_keys(tracking, run, "loss")
    tracking.ingest(run, SPOOL, "points", 0, points((0, 5, 5.0), (0, 6, 6.0), (0, 3, 3.0), (0, 5, 5.5)))
    history = tracking.history(run, "loss")
    assert history.steps.tolist() == [3, 5, 5, 6]
    assert history.values.tolist() == [3.0, 5.0, 5.5, 6.0]
    assert tracking.latest([run])[run]["loss"] == 6.0


def test_ten_thousand_metric_names(tracking, run):
    names = [f"layer.{i}/weight norm" for i in range(10_000)]
    name_keys(tracking, run, *names)
    data = points(*((i, step, float(i)) for step in range(2) for i in range(10_000)))
    assert tracking.ingest(run, SPOOL, "points", 0, data) == len(data)
    assert len(tracking.metrics(run)) == 10_000
    assert tracking.history(run, "layer.9999/weight norm").values.tolist() == [9999.0, 9999.0]


@pytest.mark.parametrize("name", ["größe", "a b", "x" * 250, "val/acc@1", "q'uote\"", "日本", "a;drop table runs", "%_"])
def test_a_name_with_odd_characters_is_kept(tracking, run, name):
    name_keys(tracking, run, name)
    tracking.ingest(run, SPOOL, "points", 0, points((0, 1, 1.0)))
    assert tracking.latest([run])[run] == {name: 1.0}
    assert tracking.history(run, name).values.tolist() == [1.0]


def test_names_that_cannot_be_kept_are_changed_in_a_way_that_keeps_them_apart():
    assert metric_name("a\x00b\nc") == "a_b_c"
    assert metric_name("") == "unnamed"
    long, longer = metric_name("x" * 400), metric_name("x" * 401)
    assert long != longer and len(long) == len(longer) == 250
    assert metric_name("\ud800") == "?"


def test_logging_after_the_end_is_taken_and_the_end_stays(tracking, run):
    tracking.finish_run(run, "FINISHED")
    name_keys(tracking, run, "loss")
    tracking.ingest(run, SPOOL, "points", 0, points((0, 1, 1.0)))
    assert tracking.history(run, "loss").values.tolist() == [1.0]
    assert tracking.run(run).info.status == "FINISHED"


def test_a_run_that_is_unknown_or_deleted_takes_nothing(tracking, run):
    with pytest.raises(NotFound):
        tracking.ingest("0" * 32, SPOOL, "events", 0, events(key(0, "a")))
    tracking.delete_run(run)
    with pytest.raises(Conflict, match="deleted"):
        tracking.ingest(run, SPOOL, "events", 0, events(key(0, "a")))
    tracking.restore_run(run)
    assert tracking.ingest(run, SPOOL, "events", 0, events(key(0, "a"))) > 0


def test_a_spool_has_a_proper_name(tracking, run):
    for name in ("", "x", "0123456789ABCDEF", "../../../etc/pas"):
        with pytest.raises(BadInput):
            tracking.ingest(run, name, "points", 0, b"")


def test_deleting_a_run_for_good_takes_its_points(tracking, run):
    name_keys(tracking, run, "loss")
    tracking.ingest(run, SPOOL, "points", 0, points((0, 1, 1.0)))
    from narf.tracking.workspaces import in_project

    with in_project("default"):
        tracking.store._hard_delete_run(run)
    with tracking.store.engine.connect() as connection:
        from sqlalchemy import func, select

        from narf.tracking import tables

        for table in (tables.series, tables.spools, tables.spool_keys):
            assert connection.execute(select(func.count()).select_from(table).where(table.c.run_uuid == run)).scalar() == 0
        orphans = select(func.count()).select_from(tables.chunks).where(tables.chunks.c.series_id.not_in(select(tables.series.c.id)))
        assert connection.execute(orphans).scalar() == 0


def test_writers_at_once_lose_nothing(tracking, run):
    import threading

    names = [f"{i:016x}" for i in range(6)]
    for name in names:
        tracking.ingest(run, name, "events", 0, events(key(0, "loss")))

    def ship(name: str, base: int) -> None:
        offset = 0
        for part in range(10):
            data = points(*((0, base + part * 5 + i, float(base + part * 5 + i)) for i in range(5)))
            offset = tracking.ingest(run, name, "points", offset, data)

    threads = [threading.Thread(target=ship, args=(name, i * 50)) for i, name in enumerate(names)]
    for thread in threads:
        thread.start()
    tracking.compact()
    for thread in threads:
        thread.join()
    tracking.compact()
    assert tracking.history(run, "loss").steps.tolist() == list(range(300))
    assert np.array_equal(tracking.history(run, "loss").values, np.arange(300.0))
