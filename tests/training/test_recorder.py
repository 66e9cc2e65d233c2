"""What may be logged, and what odd input gets: the table of `docs/guides/training.md`."""

from __future__ import annotations

import math
import os
import threading

import pytest

import narf
from narf.training import recorder as recorders
from narf.training.recorder import Recorder


@pytest.fixture
def log(tmp_path):
    recorder = Recorder(str(tmp_path / "spool"))
    before = recorders.use(recorder)
    yield recorder
    recorders.use(before)


@pytest.fixture
def spool(read_spool, tmp_path):
    return lambda: read_spool(tmp_path / "spool")


def test_metrics_without_a_step_take_the_one_after_the_last(log, spool):
    assert narf.log(loss=3.0)
    assert narf.log({"val/loss": 2}, loss=2.5)
    narf.log(loss=2.0, step=10)
    narf.log(loss=1.0)
    assert spool().points == {"loss": [(0, 3.0), (1, 2.5), (10, 2.0), (11, 1.0)], "val/loss": [(1, 2.0)]}


def test_nan_and_infinities_are_kept(log, spool):
    narf.log(a=float("nan"), b=float("inf"), c=float("-inf"), d=10**400)
    points = spool().points
    assert math.isnan(points["a"][0][1])
    assert (points["b"][0][1], points["c"][0][1], points["d"][0][1]) == (math.inf, -math.inf, math.inf)


def test_ten_thousand_names_are_ten_thousand_metrics(log, spool):
    narf.log({f"m{index}": float(index) for index in range(10_000)})
    assert len(spool().points) == 10_000


def test_too_many_names_are_refused_and_said_once(log, spool, monkeypatch, capsys):
    monkeypatch.setattr(recorders, "MOST_NAMES", 3)
    assert not narf.log({f"m{index}": 1.0 for index in range(6)})
    assert set(spool().points) == {"m0", "m1", "m2"}
    assert capsys.readouterr().err.count("more than 3 metric names") == 1


@pytest.mark.parametrize(
    ("name", "recorded"),
    [("acc@5", "acc_5"), ("größe", "gr__e"), ("a\nb", "a_b"), ("val/loss", "val/loss"), ("/abs", "abs"), ("", "_"), ("a..b", "a_.b")],
)
def test_odd_characters_in_a_name_are_replaced_and_noted(log, spool, name, recorded):
    narf.log({name: 1.0})
    assert list(spool().points) == [recorded]
    assert (name == recorded) == (spool().notes == [])


def test_names_that_become_alike_stay_apart(log, spool):
    narf.log({"a?": 1.0, "a!": 2.0, "x" * 400: 3.0, "x" * 401: 4.0})
    points = spool().points
    assert sorted(series[0][1] for series in points.values()) == [1.0, 2.0, 3.0, 4.0]
    assert all(len(name) <= 250 for name in points)


def test_steps_may_go_backwards_and_repeat(log, spool):
    for step in (5, 3, 3, -2):
        narf.log(loss=float(step), step=step)
    assert spool().points["loss"] == [(5, 5.0), (3, 3.0), (3, 3.0), (-2, -2.0)]


@pytest.mark.parametrize("step", ["seven", 2**70, 1.5, object()])
def test_a_step_that_is_none_is_reported_once_and_nothing_is_recorded(log, spool, step, capsys):
    assert not narf.log(loss=1.0, step=step)
    assert not narf.log(loss=1.0, step=step)
    assert narf.log(loss=1.0)
    assert len(spool().points["loss"]) == 1
    assert capsys.readouterr().err.count("could not log") == 1


def test_a_text_becomes_a_text_metric(log, spool):
    assert not narf.log(status="good", loss=1.0)
    assert spool().named("metric_text") == {"status": "good"}
    assert spool().points == {"loss": [(0, 1.0)]}


def test_numbers_of_other_libraries_are_numbers_and_arrays_are_text(log, spool, capsys):
    import numpy as np
    import torch

    narf.log(a=np.float32(0.5), b=torch.tensor(2.0, requires_grad=True), c=True, d=np.int64(3), e=torch.tensor([[4.0]]))
    narf.log(many=np.zeros((2, 3)))
    points = spool().points
    assert [points[name][0][1] for name in "abcde"] == [0.5, 2.0, 1.0, 3.0, 4.0]
    assert spool().named("metric_text") == {"many": "ndarray of shape (2, 3)"}
    assert "not a number but ndarray" in capsys.readouterr().err


def test_a_tensor_on_another_device_is_fetched_later_and_in_order(log, spool):
    import torch

    class Far(torch.Tensor):
        """A tensor that says it lives on a device of its own."""

        device = type("Device", (), {"type": "far"})()

    for step in range(20):
        narf.log(loss=torch.tensor(float(step)).as_subclass(Far), step=step)
    assert log.flush()
    assert spool().points["loss"] == [(step, float(step)) for step in range(20)]


def test_what_is_logged_after_the_end_is_refused_and_said_once(log, spool, capsys):
    narf.log(loss=1.0)
    log.end()
    assert not narf.log(loss=2.0)
    assert not narf.log(loss=3.0)
    assert spool().points["loss"] == [(0, 1.0)]
    assert capsys.readouterr().err.count("the run has ended") == 1


def test_threads_log_without_losing_a_point(log, spool):
    threads = [
        threading.Thread(target=lambda name=name: [narf.log({name: 1.0}, step=step) for step in range(300)]) for name in ("a", "b", "c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: len(series) for name, series in spool().points.items()} == {"a": 300, "b": 300, "c": 300}


def test_a_forked_child_has_a_spool_of_its_own(log, spool, tmp_path):
    narf.log(loss=1.0)
    child = os.fork()
    if child == 0:
        narf.log(loss=2.0, step=5)
        os._exit(0)
    os.waitpid(child, 0)
    narf.log(loss=3.0)
    assert sorted(spool().points["loss"]) == [(0, 1.0), (1, 3.0), (5, 2.0)]
    assert len(list((tmp_path / "spool").glob("*.points"))) == 2


def test_before_a_run_exists_nothing_is_recorded_and_it_is_said_once(capsys, monkeypatch):
    monkeypatch.delenv("NARF_SPOOL", raising=False)
    monkeypatch.setattr("narf.training.sdk._told", False)
    before = recorders.use(None)
    try:
        assert not narf.log(loss=1.0)
        assert not narf.artifact(b"x", "y")
    finally:
        recorders.use(before)
    assert capsys.readouterr().err.count("there is no run") == 1


def test_the_first_value_of_a_parameter_stands(log, spool, capsys):
    narf.params["lr"] = 0.1
    narf.params["lr"] = 0.1
    log.param("lr", 0.2)
    assert spool().named("param") == {"lr": "0.1"}
    assert capsys.readouterr().err.count("is '0.1' already") == 1


def test_an_artifact_may_be_changed_right_after(log, spool, tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("first")
    assert narf.artifact(file, "../../etc/a.txt")
    file.write_text("second")
    event = spool().artifacts["etc/a.txt"]
    assert (tmp_path / "spool" / event["file"]).read_text() == "first"
    assert not narf.artifact(tmp_path / "missing")


def test_a_resumed_attempt_repeats_no_point(tmp_path, monkeypatch, read_spool):
    kept = str(tmp_path / "kept")
    monkeypatch.setenv("NARF_ATTEMPT", "1")
    first = Recorder(str(tmp_path / "one"), kept)
    for step in range(10):
        first.log({"loss": float(step)}, step)
    first.log({"final": 1.0}, 0)
    monkeypatch.setenv("NARF_ATTEMPT", "2")
    second = Recorder(str(tmp_path / "two"), kept)
    for step in range(6, 15):  # from an older checkpoint
        second.log({"loss": float(step), "other": 0.0}, step)
    second.log({"final": 2.0}, 0)
    points = read_spool(tmp_path / "two").points
    assert points["loss"] == [(step, float(step)) for step in range(10, 15)]
    assert len(points["other"]) == 9
    assert points["final"] == [(0, 2.0)], "a value always told at step 0 is no curve"


def test_pictures_and_tables_become_artifacts(log, spool, tmp_path):
    import numpy as np

    assert narf.image("confusion", np.random.rand(4, 6), step=2)
    assert narf.image("colour", (np.random.rand(3, 4, 6) * 255).astype("uint8"))
    assert not narf.image("nonsense", np.zeros((2, 3, 7, 9)))
    assert narf.table("best", [{"a": 1, "b": np.float32(2.5)}, {"a": 3}])
    artifacts = spool().artifacts
    assert set(artifacts) == {"images/confusion/2.png", "images/colour.png", "tables/best.json"}
    content = (tmp_path / "spool" / artifacts["images/confusion/2.png"]["file"]).read_bytes()
    from matplotlib.image import imread

    path = tmp_path / "back.png"
    path.write_bytes(content)
    assert imread(path).shape == (4, 6)
    table = (tmp_path / "spool" / artifacts["tables/best.json"]["file"]).read_text()
    assert table == '{"columns": ["a", "b"], "data": [[1, 2.5], [3, null]]}'
