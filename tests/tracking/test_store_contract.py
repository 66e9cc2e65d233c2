"""What MLflow promises of a tracking store, asked of MLflow's own store and of ours with the same assertions."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    LoggedModelParameter,
    LoggedModelStatus,
    Metric,
    Param,
    RunStatus,
    RunTag,
    ViewType,
)
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from narf.tracking.store import NarfTrackingStore

GREATEST = 1.7976931348623157e308


@pytest.fixture(scope="module", params=["mlflow", "narf", pytest.param("narf on postgres", marks=pytest.mark.postgres)])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("contract")
    if request.param == "mlflow":
        made: Any = SqlAlchemyStore(f"sqlite:///{home / 'm.db'}", str(home / "a"))
    elif request.param == "narf":
        made = NarfTrackingStore(f"narf:sqlite:///{home / 'm.db'}", str(home / "a"))
    else:
        made = NarfTrackingStore("narf:" + request.getfixturevalue("postgres_database"), str(home / "a"))
    yield made
    made.engine.dispose()


@pytest.fixture
def experiment(store: Any) -> str:
    return store.create_experiment(uuid.uuid4().hex)


@pytest.fixture
def run(store: Any, experiment: str) -> str:
    return new_run(store, experiment)


def new_run(store: Any, experiment: str, start: int = 0, **metrics: float) -> str:
    run = store.create_run(experiment, "me", start, [], "name").info.run_id
    for key, value in metrics.items():
        store.log_metric(run, Metric(key, value, 1, 1))
    return run


def history(store: Any, run: str, key: str, **page: Any) -> list[tuple[int, int, float]]:
    return [(m.step, m.timestamp, m.value) for m in store.get_metric_history(run, key, **page)]


def found(store: Any, experiment: str, filter: str = "", **options: Any) -> list[str]:
    view = options.pop("view", ViewType.ACTIVE_ONLY)
    return [r.info.run_id for r in store.search_runs([experiment], filter, view, options.pop("most", 100), **options)]


# -- writing and reading metrics


def test_a_history_is_ordered_by_time_step_and_value(store, run):
    for step, time, value in [(3, 30, 1.0), (1, 10, 2.0), (2, 10, 3.0), (2, 10, 2.5), (0, 50, 0.0)]:
        store.log_metric(run, Metric("m", value, time, step))
    assert history(store, run, "m") == [(1, 10, 2.0), (2, 10, 2.5), (2, 10, 3.0), (3, 30, 1.0), (0, 50, 0.0)]


def test_the_latest_value_is_of_the_greatest_step_then_time_then_value(store, run):
    for step, time, value in [(1, 10, 1.0), (5, 1, 7.0), (5, 2, 3.0), (5, 2, 9.0), (5, 2, 8.0), (4, 99, 100.0)]:
        store.log_metric(run, Metric("m", value, time, step))
    assert store.get_run(run).data.metrics == {"m": 9.0}


def test_within_a_batch_the_latest_counts_too(store, run):
    store.log_batch(run, [Metric("m", v, t, s) for s, t, v in [(2, 1, 1.0), (3, 1, 5.0), (3, 1, 4.0), (1, 1, 9.0)]], [], [])
    assert store.get_run(run).data.metrics == {"m": 5.0}


def test_a_point_logged_twice_is_kept_once(store, run):
    batch = [
        Metric("m", 1.0, 1, 1),
        Metric("m", 1.0, 1, 1),
        Metric("m", 2.0, 1, 1),
        Metric("n", math.nan, 1, 1),
        Metric("n", math.nan, 1, 1),
    ]
    store.log_batch(run, batch, [], [])
    store.log_batch(run, [*batch, Metric("m", 3.0, 2, 2)], [], [])
    store.log_metric(run, Metric("m", 3.0, 2, 2))
    assert history(store, run, "m") == [(1, 1, 1.0), (1, 1, 2.0), (2, 2, 3.0)]
    assert len(store.get_metric_history(run, "n")) == 1


def test_nan_and_infinities(store, run):
    store.log_batch(run, [Metric("nan", math.nan, 1, 1), Metric("up", math.inf, 1, 1), Metric("down", -math.inf, 1, 1)], [], [])
    shown = store.get_run(run).data.metrics
    assert math.isnan(shown["nan"]) and shown["up"] == GREATEST and shown["down"] == -GREATEST
    assert math.isnan(store.get_metric_history(run, "nan")[0].value)
    assert store.get_metric_history(run, "up")[0].value == GREATEST


def test_pages_of_a_history_make_up_the_whole(store, run):
    store.log_batch(run, [Metric("m", float(i), i, i) for i in range(25)], [], [])
    got, token = [], None
    while True:
        page = store.get_metric_history(run, "m", max_results=10, page_token=token)
        got += [m.step for m in page]
        token = page.token
        if token is None:
            break
    assert got == list(range(25))
    assert history(store, run, "nothing") == []


def test_histories_of_several_runs(store, experiment):
    runs = sorted(new_run(store, experiment, m=float(i)) for i in range(3))
    rows = store.get_metric_history_bulk(runs[::-1], "m", 100)
    assert [row.run_id for row in rows] == runs
    assert len(store.get_metric_history_bulk(runs, "m", 2)) == 2


@pytest.mark.parametrize(("count", "most"), [(10, 20), (10, 10), (100, 7), (100, 1), (1000, 320), (5, 2)])
def test_a_sample_keeps_the_ends_and_is_spread_evenly(store, run, count, most):
    store.log_batch(run, [Metric("m", float(i), i, i) for i in range(count)], [], [])
    rows = store.get_metric_history_bulk_interval([run], "m", most, None, None)
    steps = [row.step for row in rows]
    assert len(steps) <= max(most, 1) and steps == sorted(set(steps))
    assert steps[-1] == count - 1
    if most > 1:
        assert steps[0] == 0
    expected = {(10, 20): list(range(10)), (100, 7): [0, 15, 30, 44, 58, 72, 99], (100, 1): [99], (5, 2): [0, 4]}
    if (count, most) in expected:
        assert steps == expected[(count, most)]


def test_a_sample_of_a_range_of_steps(store, run):
    store.log_batch(run, [Metric("m", float(i), i, i) for i in range(50)], [], [])
    assert [row.step for row in store.get_metric_history_bulk_interval([run], "m", 100, 10, 14)] == [10, 11, 12, 13, 14]
    with pytest.raises(MlflowException, match="together"):
        store.get_metric_history_bulk_interval([run], "m", 100, 10, None)
    assert [row.step for row in store.get_metric_history_bulk_interval_from_steps(run, "m", [3, 7], 10)] == [3, 7]
    assert store.get_max_step_for_metric(run, "m") == 49
    assert store.get_max_step_for_metric(run, "nothing") == 0


def test_many_points_of_one_step(store, run):
    store.log_batch(run, [Metric("m", float(i), i, 0) for i in range(200)], [], [])
    assert len(store.get_metric_history_bulk_interval([run], "m", 50, None, None)) == 50


# -- what is refused


@pytest.mark.parametrize(
    "metric",
    [
        Metric("m", "text", 1, 1),
        Metric("m", 1.0, 1, "one"),
        Metric("m", 1.0, "now", 1),
        Metric(None, 1.0, 1, 1),
        Metric("", 1.0, 1, 1),
        Metric("x" * 251, 1.0, 1, 1),
        Metric("a\nb", 1.0, 1, 1),
        Metric("../up", 1.0, 1, 1),
        Metric("m", 1.0, None, 1),
    ],
)
def test_a_bad_metric_is_refused_and_nothing_changes(store, run, metric):
    for write in (lambda: store.log_metric(run, metric), lambda: store.log_batch(run, [Metric("ok", 1.0, 1, 1), metric], [], [])):
        with pytest.raises(MlflowException) as caught:
            write()
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert store.get_run(run).data.metrics == {}


def test_an_unknown_or_deleted_run_takes_nothing(store, run):
    with pytest.raises(MlflowException, match="not found"):
        store.log_metric("0" * 32, Metric("m", 1.0, 1, 1))
    store.delete_run(run)
    for write in (
        lambda: store.log_metric(run, Metric("m", 1.0, 1, 1)),
        lambda: store.log_batch(run, [Metric("m", 1.0, 1, 1)], [], []),
        lambda: store.log_batch(run, [], [Param("a", "b")], []),
    ):
        with pytest.raises(MlflowException, match="must be in the 'active' state"):
            write()
    store.restore_run(run)
    store.log_metric(run, Metric("m", 1.0, 1, 1))
    assert store.get_run(run).data.metrics == {"m": 1.0}


def test_a_parameter_does_not_change(store, run):
    store.log_batch(run, [], [Param("lr", "1")], [])
    store.log_batch(run, [], [Param("lr", "1")], [])
    with pytest.raises(MlflowException, match="not allowed"):
        store.log_batch(run, [Metric("m", 1.0, 1, 1)], [Param("lr", "2")], [])
    assert store.get_run(run).data.params == {"lr": "1"}
    assert store.get_run(run).data.metrics == {}


def test_a_batch_has_bounds(store, run):
    with pytest.raises(MlflowException, match="at most"):
        store.log_batch(run, [Metric("m", 1.0, i, i) for i in range(1001)], [], [])
    with pytest.raises(MlflowException):
        store.log_batch(run, [], [Param("a", "1"), Param("a", "2")], [])


def test_a_batch_of_everything(store, run):
    store.log_batch(run, [Metric("m", 1.0, 1, 1)], [Param("p", "1")], [RunTag("t", "x"), RunTag("t", "y")])
    store.log_batch(run, [], [], [])
    data = store.get_run(run).data
    assert (data.metrics, data.params, data.tags["t"]) == ({"m": 1.0}, {"p": "1"}, "y")


# -- search


def test_filters_of_every_kind(store, experiment):
    one, two, three = (new_run(store, experiment, start=i, m=float(i)) for i in range(3))
    store.log_batch(one, [], [Param("p", "x"), Param("k", "ab")], [RunTag("t", "1")])
    store.log_batch(two, [Metric("n", math.nan, 1, 1)], [Param("p", "y")], [RunTag("mlflow.runName", "second")])
    store.update_run_info(three, RunStatus.FINISHED, 100, "third")
    cases = {
        "metrics.m > 0": {two, three},
        "metrics.m >= 1 and metrics.m < 2": {two},
        "metrics.m != 1": {one, three},
        "metrics.n > -1": set(),
        "metrics.n != 3": {two},
        "params.p = 'x'": {one},
        "params.p != 'x'": {two},
        "params.k LIKE 'a%'": {one},
        "params.k ILIKE 'A%'": {one},
        "params.k LIKE 'A%'": set(),
        "tags.t = '1'": {one},
        "tags.nothing = '1'": set(),
        "attributes.status = 'FINISHED'": {three},
        "attributes.run_name = 'third'": {three},
        "run_name LIKE '%second%'": {two},
        f"attributes.run_id = '{one}'": {one},
        f"attributes.run_id IN ('{one}', '{two}')": {one, two},
        "attributes.start_time >= 1": {two, three},
        "params.p IS NULL": {three},
        "params.p IS NOT NULL and metrics.m < 1": {one},
        "metrics.m > 0 and params.p = 'x'": set(),
        "": {one, two, three},
    }
    for filter, expected in cases.items():
        assert set(found(store, experiment, filter)) == expected, filter


def test_orders_and_what_has_no_value_comes_last(store, experiment):
    low, high, nan, none = (
        new_run(store, experiment, 1, m=1.0),
        new_run(store, experiment, 2, m=2.0),
        new_run(store, experiment, 3, m=math.nan),
        new_run(store, experiment, 4),
    )
    store.log_batch(low, [], [Param("p", "b")], [])
    store.log_batch(high, [], [Param("p", "a")], [])
    assert found(store, experiment, order_by=["metrics.m ASC"]) == [low, high, nan, none]
    assert found(store, experiment, order_by=["metrics.m DESC"]) == [high, low, nan, none]
    assert found(store, experiment, order_by=["params.p"])[:2] == [high, low]
    assert found(store, experiment) == [none, nan, high, low]  # the newest first
    assert found(store, experiment, order_by=["start_time ASC"]) == [low, high, nan, none]
    assert found(store, experiment, order_by=["params.p DESC", "metrics.m"])[:2] == [low, high]
    with pytest.raises(MlflowException, match="duplicate"):
        found(store, experiment, order_by=["metrics.m", "metrics.m"])


def test_pages_of_a_search(store, experiment):
    runs = [new_run(store, experiment, start=i, m=float(i % 3)) for i in range(7)]
    got, token = [], None
    while True:
        page = store.search_runs([experiment], "", ViewType.ACTIVE_ONLY, 3, ["metrics.m"], token)
        got += [r.info.run_id for r in page]
        token = page.token
        if not token:
            break
    assert sorted(got) == sorted(runs) and len(got) == 7


def test_deleted_runs_are_found_only_when_asked_for(store, experiment):
    kept, gone = new_run(store, experiment), new_run(store, experiment)
    store.delete_run(gone)
    assert found(store, experiment) == [kept]
    assert found(store, experiment, view=ViewType.DELETED_ONLY) == [gone]
    assert set(found(store, experiment, view=ViewType.ALL)) == {kept, gone}


def test_a_found_run_is_the_run(store, experiment):
    run = new_run(store, experiment, m=1.5)
    store.log_batch(run, [], [Param("p", "1")], [RunTag("t", "x")])
    dataset = Dataset(name="digits", digest="abc", source_type="local", source="/x")
    store.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "train")])])
    (one,) = store.search_runs([experiment], "", ViewType.ACTIVE_ONLY, 10)
    whole = store.get_run(run)
    assert one.info.to_proto() == whole.info.to_proto()
    assert one.data.metrics == whole.data.metrics and one.data.params == whole.data.params and one.data.tags == whole.data.tags
    assert [i.dataset.name for i in one.inputs.dataset_inputs] == ["digits"]
    assert found(store, experiment, "datasets.name = 'digits'") == [run]
    assert found(store, experiment, "datasets.context = 'train' and metrics.m > 1") == [run]
    assert found(store, experiment, "datasets.name = 'other'") == []


@pytest.mark.parametrize("filter", ["nonsense", "metrics.m = 'text'", "params.p > 'x' or 1=1", "metrics.m <", "'; drop table runs; --"])
def test_a_filter_that_cannot_be_read_is_refused(store, experiment, filter):
    with pytest.raises(MlflowException) as caught:
        found(store, experiment, filter)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_search_has_bounds(store, experiment):
    for most in (0, -1, 10_000_000):
        with pytest.raises(MlflowException):
            found(store, experiment, most=most)


# -- models and deletion


def test_metrics_of_a_logged_model(store, experiment, run):
    model = store.create_logged_model(experiment, "m", run, params=[LoggedModelParameter("a", "1")])
    store.log_metric(run, Metric("acc", 0.9, 1, 1, model_id=model.model_id))
    store.log_batch(run, [Metric("acc", 0.95, 2, 2, model_id=model.model_id)], [], [])
    store.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    assert {m.value for m in store.get_logged_model(model.model_id).metrics} == {0.9, 0.95}
    assert [m.model_id for m in store.search_logged_models([experiment], "metrics.acc > 0.92")] == [model.model_id]


def test_a_run_deleted_for_good_leaves_nothing(store, experiment):
    run = new_run(store, experiment, m=1.0)
    other = new_run(store, experiment, m=2.0)
    store.delete_run(run)
    store._hard_delete_run(run)
    with pytest.raises(MlflowException, match="not found"):
        store.get_run(run)
    assert history(store, other, "m") == [(1, 1, 2.0)]


def test_an_experiment_deleted_for_good_leaves_nothing(store):
    experiment = store.create_experiment(uuid.uuid4().hex)
    run = new_run(store, experiment, m=1.0)
    store.delete_experiment(experiment)
    assert run in store._get_deleted_runs()
    store._hard_delete_experiment(experiment)
    with pytest.raises(MlflowException):
        store.get_run(run)


def test_writers_at_once_lose_nothing(store, experiment, run):
    errors: list[BaseException] = []

    def write(base: int) -> None:
        try:
            for i in range(10):
                store.log_batch(run, [Metric("m", float(base + i), base + i, base + i), Metric(f"own{base}", 1.0, i, i)], [], [])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(n * 100,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if isinstance(store, NarfTrackingStore):  # MLflow's own store may give up when SQLite is busy
        assert not errors
        assert len(store.get_metric_history(run, "m")) == 40
