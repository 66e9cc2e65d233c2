"""An unmodified MLflow client against our server: what it writes is there, and projects stay apart."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from requests import HTTPError

from narf.domain.access import Role
from narf.training import launcher

pytestmark = pytest.mark.alone  # MLflow's application is one a process: the last one built answers


@pytest.fixture
def client(server, monkeypatch) -> Iterator[MlflowClient]:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.url)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.admin)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_WORKSPACE", raising=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.url)
    yield MlflowClient(server.url)
    mlflow.set_tracking_uri(before)


def experiment(client: MlflowClient, name: str) -> str:
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


def test_a_run_with_metrics_params_tags_and_artifacts(client, tmp_path):
    run = client.create_run(experiment(client, "client"), run_name="first").info.run_id
    client.log_metric(run, "loss", 0.5, step=1)
    client.log_batch(run, [Metric("loss", 0.25, 2000, 2), Metric("acc", 0.9, 2000, 2)], [Param("lr", "0.1")], [RunTag("team", "vision")])
    (tmp_path / "note.txt").write_text("hello")
    client.log_artifact(run, str(tmp_path / "note.txt"), "notes")
    client.log_dict(run, {"a": 1}, "config.json")
    client.set_terminated(run)
    data = client.get_run(run).data
    assert data.metrics == {"loss": 0.25, "acc": 0.9}
    assert data.params == {"lr": "0.1"}
    assert data.tags["team"] == "vision"
    assert [(m.step, m.value) for m in client.get_metric_history(run, "loss")] == [(2, 0.25), (1, 0.5)]  # by time, as MLflow orders them
    assert {f.path for f in client.list_artifacts(run)} == {"notes", "config.json"}
    assert Path(client.download_artifacts(run, "notes/note.txt", str(tmp_path))).read_text() == "hello"
    found = client.search_runs([client.get_run(run).info.experiment_id], "metrics.loss < 0.3 and params.lr = '0.1'")
    assert [one.info.run_id for one in found] == [run]


def test_the_fluent_api_and_the_model_registry(client, tmp_path):
    mlflow.set_experiment("fluent")
    with mlflow.start_run() as run:
        mlflow.log_params({"a": 1, "b": "x"})
        for step in range(5):
            mlflow.log_metrics({"m": step * 0.1}, step=step)
        mlflow.log_text("<script>alert(1)</script>", "page.html")
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    client.create_registered_model("digits")
    version = client.create_model_version("digits", f"runs:/{run.info.run_id}/model", run.info.run_id)
    client.set_registered_model_alias("digits", "champion", version.version)
    assert client.get_model_version_by_alias("digits", "champion").run_id == run.info.run_id


def test_a_model_that_a_run_logged_becomes_a_version(client, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlflow.set_experiment("logged models")
    with mlflow.start_run() as run:
        logged = mlflow.pyfunc.log_model(name="model", python_model=lambda model_input: model_input, pip_requirements=[])
    version = mlflow.register_model(logged.model_uri, "logged")
    assert version.run_id == run.info.run_id
    assert client.get_model_version_download_uri("logged", version.version).startswith("mlflow-artifacts:/")
    assert not (tmp_path / "mlflow.db").exists()  # the server looked in its own store, not in one of the folder it runs in


def test_a_model_logged_by_a_script_that_starts_no_run_belongs_to_the_run_of_the_platform(server, client, tmp_path):
    run = client.create_run(experiment(client, "hooked")).info.run_id
    (tmp_path / "train.py").write_text(
        "import mlflow\nmlflow.pyfunc.log_model(name='model', python_model=lambda model_input: model_input, pip_requirements=[])\nprint(mlflow.active_run())\n"
    )
    here = {"NARF_SPOOL": str(tmp_path / "spool"), "NARF_RUN_ID": run, "MLFLOW_RUN_ID": run, "MLFLOW_TRACKING_URI": server.url}
    done = subprocess.run(
        [sys.executable, launcher.__file__, "train.py"],
        cwd=tmp_path,
        env={**os.environ, **here},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (output,) = client.get_run(run).outputs.model_outputs
    assert client.get_logged_model(output.model_id).source_run_id == run


def test_a_workspace_is_a_project_and_sees_nothing_of_another(server, client, monkeypatch):
    run = client.create_run(experiment(client, "mine")).info.run_id
    member = server.token("vera", {"vision": Role.DEVELOPER})
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", member)
    with pytest.raises(MlflowException, match=r"not found|no project"):
        client.get_run(run)
    own = client.create_experiment("vera's")  # the only project of the token
    other = client.create_run(own).info.run_id
    assert server.runs.project_of(other) == "vision"
    assert [e.name for e in client.search_experiments() if e.name != "Default"] == ["vera's"]
    monkeypatch.setenv("MLFLOW_WORKSPACE", "default")
    with pytest.raises(MlflowException, match="no project"):
        client.search_experiments()


def test_a_project_with_dots_and_underscores_is_reached_by_header(server):
    with server.client() as http:
        made = http.post("/api/2.0/mlflow/experiments/create", json={"name": "odd"}, headers={"X-MLFLOW-WORKSPACE": "a_b.c"})
        assert made.status_code == 200, made.text
        assert server.runs.tracking.project_of_experiment(made.json()["experiment_id"]) == "a_b.c"


def test_a_viewer_may_look_but_not_write(server, client, monkeypatch):
    run = client.create_run(experiment(client, "looked-at")).info.run_id
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token("olga", {"default": Role.VIEWER}))
    assert client.get_run(run).info.run_id == run
    for change in (lambda: client.log_metric(run, "x", 1.0), lambda: client.delete_run(run), lambda: client.create_experiment("hers")):
        with pytest.raises(MlflowException, match="developer"):
            change()


def test_the_token_of_a_workload_writes_to_its_run_and_to_those_it_makes(server, client, monkeypatch, tmp_path):
    where = experiment(client, "workload")
    own, foreign = (client.create_run(where).info.run_id for _ in range(2))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.workload_token(own, "default"))
    client.log_metric(own, "loss", 1.0)
    child = client.create_run(where).info.run_id
    client.log_metric(child, "loss", 1.0)
    client.log_text(own, "x", "a.txt")
    client.log_text(child, "x", "a.txt")
    assert client.get_run(foreign).info.run_id == foreign
    for change in (
        lambda: client.log_metric(foreign, "loss", 1.0),
        lambda: client.set_tag(foreign, "a", "b"),
        lambda: client.log_text(foreign, "x", "a.txt"),
        lambda: client.set_tag(child, "narf.parentRun", foreign),
        lambda: client.delete_experiment(where),
        lambda: client.delete_run(own),
    ):
        with pytest.raises((MlflowException, HTTPError)):
            change()
    with server.client(server.workload_token(own, "default")) as http:  # MLflow reads both spellings, and any content type
        for body in (
            '{"runId": "%s", "key": "a", "value": 1, "timestamp": 1}',
            '{"run_uuid": "%s", "key": "a", "value": 1, "timestamp": 1}',
        ):
            answer = http.post("/api/2.0/mlflow/runs/log-metric", content=body % foreign, headers={"content-type": "text/plain"})
            assert answer.status_code == 403


def test_without_a_token_nothing_answers(server):
    with server.client("wrong") as http:
        assert http.get("/api/2.0/mlflow/experiments/get", params={"experiment_id": "0"}).status_code == 401
        assert http.get("/mlflow/").status_code == 401


def test_what_reaches_around_the_platform_is_refused(server):
    with server.client() as http:
        for method, path in (
            ("POST", "/api/3.0/mlflow/workspaces"),
            ("GET", "/api/3.0/mlflow/gateway/secrets/list"),
            ("POST", "/mlflow/ajax-api/2.0/mlflow/gateway-proxy"),
            ("POST", "/api/2.0/mlflow/webhooks"),
            ("POST", "/mlflow/ajax-api/3.0/mlflow/scorer/invoke"),
            ("GET", "/mlflow/ajax-api/3.0/mlflow/assistant/config"),
            ("GET", "/ajax-api/2.0/mlflow/experiments/get"),
        ):
            assert http.request(method, path, json={}).status_code == 404, path


def test_the_pages_of_mlflow_open_below_their_prefix(server):
    with server.client() as http:
        page = http.get("/mlflow/")
        assert page.status_code == 200 and "<html" in page.text.lower()
        script = page.text.split('src="')[1].split('"')[0]
        assert http.get("/mlflow/" + script.removeprefix("./").lstrip("/")).status_code == 200
        found = http.post("/mlflow/ajax-api/2.0/mlflow/experiments/search", json={"max_results": 5})
        assert found.status_code == 200 and found.json()["experiments"]
        assert http.get("/mlflow/ajax-api/3.0/mlflow/server-info").json()["workspaces_enabled"] is True


def test_an_artifact_that_is_a_page_cannot_act_in_our_origin(server, client):
    run = client.create_run(experiment(client, "hostile")).info.run_id
    client.log_text(run, "<script>fetch('/api/v1/tokens')</script>", "page.html")
    client.log_text(run, "<svg xmlns='http://www.w3.org/2000/svg'><script>1</script></svg>", "picture.svg")
    with server.client() as http:
        for name in ("page.html", "picture.svg"):
            for answer in (
                http.get("/mlflow/get-artifact", params={"run_id": run, "path": name}),
                http.get(f"/api/v1/runs/{run}/artifacts/{name}"),
            ):
                assert answer.status_code == 200, answer.text
                assert "attachment" in answer.headers["content-disposition"]
                assert answer.headers["content-security-policy"].startswith("sandbox;")
                assert answer.headers["x-content-type-options"] == "nosniff"


def test_artifact_paths_do_not_leave_the_run(server, client):
    run = client.create_run(experiment(client, "paths")).info.run_id
    with server.client() as http:
        for path in ("../../x", "a/../../b", "%2e%2e/x", "..%2f..%2fx", "a//b", "%00", "a%5cb", ".narf-x"):
            for method in ("GET", "PUT", "DELETE"):
                answer = http.request(method, f"/api/v1/runs/{run}/artifacts/{path}", content=b"" if method == "PUT" else None)
                assert answer.status_code in (404, 405, 422), (method, path, answer.status_code)
        for path in ("../../../../narf.db", "..%2f..%2f..%2fnarf.db", "workspaces/vision/1/x/artifacts/y"):
            answer = http.get(f"/api/2.0/mlflow-artifacts/artifacts/{path}")
            assert answer.status_code in (400, 404), (path, answer.status_code)


def test_the_pages_of_mlflow_work_with_a_session_and_only_from_our_origin(server):
    with server.client() as http:
        del http.headers["Authorization"]
        signed = http.post("/api/v1/session", json={"user": "admin", "password": "correct horse battery staple"})
        assert signed.status_code == 200, signed.text
        search = "/mlflow/ajax-api/2.0/mlflow/experiments/search"
        assert http.post(search, json={"max_results": 5}, headers={"Origin": server.url}).status_code == 200
        assert http.post(search, json={"max_results": 5}, headers={"Origin": "https://evil.example"}).status_code == 403
        assert http.post(search, json={"max_results": 5}).status_code == 403
