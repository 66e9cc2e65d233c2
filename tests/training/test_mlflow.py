"""An unmodified script that logs to MLflow, on the platform."""

from __future__ import annotations

import pytest

pytest.importorskip("mlflow")

AWAY = "http://127.0.0.1:9"  # nobody listens there


@pytest.fixture
def run(cold, tmp_path, read_spool):
    # Not in a fork: MLflow starts threads when it is imported, which a fork does not have.
    def run(body, **environment):
        script = tmp_path / "train.py"
        script.write_text(body)
        defaults = {"MLFLOW_RUN_ID": "a" * 32, "MLFLOW_EXPERIMENT_ID": "7", "MLFLOW_TRACKING_URI": AWAY, "NARF_RUN_ID": "a" * 32}
        code, output = cold(script, cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", **{**defaults, **environment})
        return code, output, read_spool(tmp_path / "spool")

    return run


def test_with_the_server_away_every_call_is_recorded_and_none_waits(run, tmp_path):
    code, output, spool = run("""
import time, mlflow
mlflow.log_param("before", 1)
with mlflow.start_run() if mlflow.active_run() is None else mlflow.active_run() as active:
    print("RUN", active.info.run_id)
    mlflow.log_params({"lr": 0.1})
    mlflow.log_metric("warm", 0.0)
    times = []
    for step in range(200):
        began = time.thread_time()  # of this thread: a busy machine does not count
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        times.append(time.thread_time() - began)
    print("SECONDS", sorted(times)[100])
    mlflow.log_metrics({"a": 1.0, "b": 2.0}, step=3)
    mlflow.set_tag("team", "vision")
    mlflow.log_text("hello", "notes.txt")
    open("file.txt", "w").write("content")
    mlflow.log_artifact("file.txt", "deep/er")
    print("SEEN", mlflow.get_run(active.info.run_id).data.metrics["loss"], mlflow.get_run(active.info.run_id).data.params)
""")
    assert code == 0, output
    assert f"RUN {'a' * 32}" in output
    seconds = float(next(line.split()[1] for line in output.splitlines() if line.startswith("SECONDS")))
    assert seconds < 0.001
    assert spool.points["loss"] == [(step, 1.0 / (step + 1)) for step in range(200)]
    assert (spool.points["a"], spool.points["b"]) == ([(3, 1.0)], [(3, 2.0)])
    assert spool.named("param") == {"before": "1", "lr": "0.1"}
    assert spool.named("tag")["team"] == "vision"
    assert set(spool.artifacts) >= {"notes.txt", "deep/er/file.txt"}
    assert "SEEN 0.005 {'before': '1', 'lr': '0.1'}" in output
    assert spool.notes == []


def test_the_first_run_of_the_script_is_ours_also_after_autologging_had_its_share(run):
    code, output, spool = run("""
import mlflow
mlflow.start_run(tags={"mlflow.autologging": "sklearn"})  # what a fit does
mlflow.end_run()
with mlflow.start_run(run_name="mine") as active:
    print("RUN", active.info.run_id)
    mlflow.log_metric("gini", 0.5)
""")
    assert code == 0, output
    assert f"RUN {'a' * 32}" in output
    assert spool.points["gini"] == [(0, 0.5)]


def test_the_run_of_the_platform_is_taken_for_any_experiment(run):
    code, output, spool = run("""
import mlflow
from mlflow.tracking import fluent
fluent._active_experiment_id = "42"  # what set_experiment leaves
with mlflow.start_run(run_name="mine", tags={"x": "1"}):
    mlflow.log_metric("m", 1)
""")
    assert code == 0, output
    assert spool.points["m"] == [(0, 1.0)]
    assert spool.named("tag")["x"] == "1"


def test_a_tracking_server_of_its_own_is_still_reached(run, tmp_path):
    code, output, spool = run(
        """
import mlflow
mlflow.set_tracking_uri("sqlite:///own.db")
with mlflow.start_run() as active:
    mlflow.log_metric("m", 2.5, step=4)
    mlflow.log_param("p", "q")
print("THERE", mlflow.get_run(active.info.run_id).data.metrics, active.info.run_id != "a" * 32)
""",
    )
    assert code == 0, output
    assert "THERE {'m': 2.5} True" in output
    assert spool.points["m"] == [(4, 2.5)]
    assert spool.named("param") == {"p": "q"}


def test_scikit_learn_is_recorded_without_a_word_in_the_script(run):
    code, output, spool = run("""
from sklearn.linear_model import LogisticRegression
from sklearn.datasets import load_iris
x, y = load_iris(return_X_y=True)
model = LogisticRegression(C=0.5, max_iter=300).fit(x, y)
print("SCORE", round(model.score(x, y), 3))
""")
    assert code == 0, output
    assert spool.named("param")["C"] == "0.5"
    assert "training_score" in spool.points or "training_accuracy_score" in spool.points
    assert spool.notes == []


def test_a_second_fit_goes_to_the_same_run_and_waits_for_no_server(run):
    code, output, spool = run("""
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.datasets import load_iris
x, y = load_iris(return_X_y=True)
LogisticRegression(C=0.5, max_iter=300).fit(x, y)
Ridge(alpha=0.25).fit(x, y)
print("DONE")
""")
    assert code == 0 and "DONE" in output, output
    assert (spool.named("param")["C"], spool.named("param")["alpha"]) == ("0.5", "0.25")


def test_importing_scikit_learn_for_its_data_imports_no_mlflow(tmp_path):
    import os
    import subprocess
    import sys

    from narf.training import launcher

    (tmp_path / "train.py").write_text("import sys, sklearn.datasets, sklearn.base\nprint('mlflow' in sys.modules)\n")
    result = subprocess.run(
        [sys.executable, launcher.__file__, "train.py"],
        cwd=tmp_path,
        env={**os.environ, "NARF_SPOOL": str(tmp_path / "spool"), "NARF_RUN_ID": "a" * 32, "MLFLOW_TRACKING_URI": AWAY},
        capture_output=True,
        text=True,
    )
    assert (result.stdout.strip(), result.stderr) == ("False", "")
