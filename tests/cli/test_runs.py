"""Runs from the terminal: find, show, compare, repeat, bring from MLflow and take back."""

from __future__ import annotations

import csv
import io
import math
import os

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric

pytestmark = pytest.mark.slow  # whole programs, one after another


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> str:
    """An MLflow of somebody, on a database file: two experiments, a model, odd values."""
    home = tmp_path_factory.mktemp("elsewhere")
    address = f"sqlite:///{home / 'mlflow.db'}"
    client = MlflowClient(address, registry_uri=address)
    for name in ("churn", "fraud's"):
        experiment = client.create_experiment(name, artifact_location=(home / "artifacts" / name[:5]).as_uri())
        for i in range(2):
            run = client.create_run(experiment, run_name=f"{name}-{i}", start_time=1_700_000_000_000 + i).info.run_id
            client.log_param(run, "lr", str(0.1 * (i + 1)))
            client.set_tag(run, "team", "risk")
            for step in range(3):
                client.log_batch(run, [Metric("loss", 1.0 / (step + 1 + i), 1_700_000_001_000 + step, step)])
            client.log_batch(run, [Metric("odd", math.nan, 1, 0)])
            client.log_text(run, f"note {i}", "notes/a b.txt")
            client.set_terminated(run, end_time=1_700_000_060_000)
    client.log_text(run, "weights", "model/weights")
    client.create_registered_model("risk")
    version = client.create_model_version("risk", f"runs:/{run}/model", run)
    client.set_registered_model_alias("risk", "champion", version.version)
    return str(home / "mlflow.db")


@pytest.fixture(scope="module")
def brought(narf, elsewhere) -> list[dict]:
    first = narf.json("import", "mlflow", elsewhere)
    assert (first["runs"], first["points"], first["artifacts"], first["models"], first["failed"]) == (4, 16, 6, 1, {})
    return narf.json("runs")["items"]


def test_what_was_brought_is_all_there(narf, brought):
    assert {run["name"] for run in brought} == {"churn-0", "churn-1", "fraud's-0", "fraud's-1"}
    run = next(run for run in brought if run["name"] == "churn-1")
    assert run["params"] == {"lr": "0.2"} and run["status"] == "FINISHED" and run["experiment"] == "churn"
    assert run["metrics"]["loss"] == pytest.approx(0.25) and run["metrics"]["odd"] == "NaN"
    assert run["created_at"].startswith("2023-11-14T22:13:20") and run["ended_at"].startswith("2023-11-14T22:14:20")
    shown = narf.json("run-show", run["id"])
    assert next(m for m in shown["metrics"] if m["key"] == "loss")["count"] == 3
    assert shown["artifacts"] == [{"path": "notes", "is_folder": True, "size": None}]
    assert "churn-1" in narf("run-show", run["id"]).stdout


def test_bringing_it_again_brings_nothing(narf, brought, elsewhere):
    again = narf.json("import", "mlflow", elsewhere)
    assert (again["runs"], again["known"], again["points"], again["models"]) == (0, 4, 0, 0)


def test_the_filter_language_sort_and_columns(narf, brought):
    found = narf.json("runs", "--filter", "metrics.loss < 0.3 and params.lr = '0.2'", "--experiment", "churn")["items"]
    assert [run["name"] for run in found] == ["churn-1"]
    rows = list(
        csv.reader(io.StringIO(narf("runs", "--csv", "--sort=-metrics.loss", "--columns", "name,metrics.loss,params.lr,tags.team").stdout))
    )
    assert rows[0] == ["name", "metrics.loss", "params.lr", "tags.team"]
    assert [float(row[1]) for row in rows[1:]] == sorted((float(row[1]) for row in rows[1:]), reverse=True)
    assert len(narf.json("runs", "--limit", "1")["items"]) == 1
    text = narf("runs", "--columns", "name,duration,metrics.loss").stdout
    assert "churn-0" in text and "LOSS" not in text and "loss" in text


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("runs", "--filter", "nonsense"), 2, "filter"),
        (("runs", "--columns", "nothing"), 2, "no column"),
        (("runs", "--experiment", "nope"), 3, "no experiment"),
        (("runs", "--csv", "--json"), 2, "exclude"),
        (("runs", "--project", "nope"), 3, "no project"),
        (("run-show", "0" * 32), 3, "no run"),
        (("compare", "0" * 32), 2, "run"),
        (("import", "mlflow", "/nonexistent/mlruns"), 3, "no folder"),
    ],
)
def test_what_cannot_be_done_is_said(narf, arguments, code, says):
    done = narf(*arguments, code=code)
    assert says in done.stderr.lower()
    assert "Traceback" not in done.stderr


def test_experiments(narf, brought):
    assert {item["name"]: item["runs"] for item in narf.json("experiments")["items"]}["churn"] == 2


def test_compare_says_what_differs(narf, brought):
    one, two = (next(run["id"] for run in brought if run["name"] == f"churn-{i}") for i in range(2))
    found = narf.json("compare", one, two)
    assert found["params"] == [{"name": "lr", "values": ["0.1", "0.2"]}]
    assert [row["name"] for row in found["metrics"]] == ["loss"]
    assert found["same"]["metrics"] == 1  # NaN is NaN
    assert "params: 1 differ" in narf("compare", one, two).stdout


def test_taking_it_back_gives_what_was_brought(narf, brought, tmp_path):
    target = tmp_path / "back.db"
    moved = narf.json("export", "mlflow", str(target), "--experiment", "churn")
    assert (moved["runs"], moved["points"], moved["artifacts"]) == (2, 8, 2)
    before = os.environ.get("MLFLOW_TRACKING_URI")
    try:
        client = MlflowClient(f"sqlite:///{target}")
        experiment = client.get_experiment_by_name("churn")
        runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
        run = runs["churn-1"]
        assert run.data.params == {"lr": "0.2"} and run.data.tags["team"] == "risk" and run.info.status == "FINISHED"
        assert (run.info.start_time, run.info.end_time) == (1_700_000_000_001, 1_700_000_060_000)
        history = client.get_metric_history(run.info.run_id, "loss")
        assert [(m.step, m.timestamp, m.value) for m in history] == [(s, 1_700_000_001_000 + s, 1.0 / (s + 2)) for s in range(3)]
        assert math.isnan(run.data.metrics["odd"])
        assert mlflow.artifacts.load_text(run.info.artifact_uri + "/notes/a b.txt") == "note 1"
    finally:
        if before is None:
            os.environ.pop("MLFLOW_TRACKING_URI", None)


def test_a_run_is_run_again_as_it_was(narf):
    script = narf.script("again.py", "import sys, os\nprint('with', sys.argv[1:], os.environ['COLOUR'])\n")
    narf("run", script, "--env", "COLOUR=red", "--experiment", "repeat", "--follow", "--", "--epochs", "3")
    (first,) = narf.json("runs", "--experiment", "repeat")["items"]
    narf.script("again.py", "raise SystemExit('the new code must not run')\n")
    done = narf("rerun", first["id"], "--follow")
    assert "with ['--epochs', '3'] red" in done.stdout
    both = narf.json("runs", "--experiment", "repeat")["items"]
    new = next(run for run in both if run["id"] != first["id"])
    assert new["tags"]["narf.rerunOf"] == first["id"]
    found = narf.json("compare", first["id"], new["id"])
    assert (found["code"], found["data"], found["environment"]) == ([], [], [])


def test_what_the_platform_did_not_run_cannot_be_run_again(narf, brought):
    assert "not started by the platform" in narf("rerun", brought[0]["id"], code=2).stderr
