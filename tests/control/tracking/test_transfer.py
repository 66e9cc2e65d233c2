"""People come from an MLflow server with all they have, and leave to another with all they have."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests import forked

pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]  # MLflow's application is one a process: the last one built answers

PLAIN = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_", "_MLFLOW"))}

FILL = """
import math, os, mlflow, sys
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient()
mlflow.set_experiment("churn")
for number in range(3):
    with mlflow.start_run(run_name=f"run {number}") as run:
        mlflow.log_params({"lr": 0.1 * number, "odd name": "x y"})
        client.log_batch(run.info.run_id, [Metric("loss", 1.0 / (step + 1), 1_700_000_000_000 + step, step) for step in range(50)])
        client.log_metric(run.info.run_id, "nan", math.nan, 1_700_000_000_000, 1)
        mlflow.set_tag("team", "blue")
        mlflow.log_text("hello", f"notes/{number}.txt")
        if number == 0:
            mlflow.log_text("weights", "model/weights.txt")
            client.create_registered_model("plain", {"domain": "churn"}, "A plain one")
            version = client.create_model_version("plain", f"{run.info.artifact_uri}/model", run.info.run_id, {"stage": "old"}, description="first")
            client.set_registered_model_alias("plain", "champion", version.version)
            client.set_registered_model_alias("plain", "stable", version.version)
        if number == 1:
            class Twice(mlflow.pyfunc.PythonModel):
                def predict(self, context, model_input, params=None):
                    return [2 * one for one in model_input]
            mlflow.pyfunc.log_model(name="twice", python_model=Twice(), pip_requirements=["mlflow"], registered_model_name="logged")
try:
    with mlflow.start_run():
        raise KeyError("on purpose")
except KeyError:
    pass
"""

SHOW = """
import json, os, sys, tempfile, mlflow
from mlflow import MlflowClient
client, told = MlflowClient(), {"runs": {}, "models": {}}
experiment = client.get_experiment_by_name("churn")
for run in client.search_runs([experiment.experiment_id]):
    history = sorted((m.step, m.timestamp, m.value) for m in client.get_metric_history(run.info.run_id, "loss"))
    files = []
    def walk(path=None):
        for one in client.list_artifacts(run.info.run_id, path):
            walk(one.path) if one.is_dir else files.append([one.path, one.file_size])
    walk()
    told["runs"][run.info.run_name if run.data.params else "failed"] = {
        "status": run.info.status, "params": run.data.params, "team": run.data.tags.get("team"), "started": run.info.start_time,
        "ended": run.info.end_time, "metrics": sorted(run.data.metrics), "loss": history,
        "files": sorted(file for file in files if not file[0].startswith("registered/"))}
for model in client.search_registered_models():
    versions = []
    for version in client.search_model_versions(f"name='{model.name}'"):
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(f"models:/{model.name}/{version.version}", dst_path=folder)
            files = sorted(f for _, _, names in os.walk(path) for f in names if f != "registered_model_meta")
        tags = {k: v for k, v in version.tags.items() if not k.startswith("narf.")}
        versions.append([version.version, version.description or "", tags, client.get_run(version.run_id).info.run_name, files])
    tags = {k: v for k, v in model.tags.items() if not k.startswith("narf.")}
    told["models"][model.name] = [model.description or "", tags, dict(sorted((a, int(v)) for a, v in model.aliases.items())), versions]
if os.environ.get("PREDICT"):
    told["answer"] = mlflow.pyfunc.load_model("models:/logged/1").predict([1, 2])
print("TOLD" + json.dumps(told, sort_keys=True))
"""


class Mlflow:
    """A real MLflow server in a process of its own."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        self.url, self.folder = f"http://127.0.0.1:{port}", folder
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/files"]
        environment = {**PLAIN, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self.log = (folder / "server.log").open("w")
        self.process = subprocess.Popen(command, env=environment, stdout=self.log, stderr=self.log, start_new_session=True)

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=2).read()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < deadline, (self.folder / "server.log").read_text()
                time.sleep(0.1)

    def close(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # all that it has is thrown away
        self.process.wait()
        self.log.close()


def free_port() -> int:
    """One of those that the kernel gives nobody: it takes seconds until a server listens there, and meanwhile no connection may get it."""
    with socket.socket() as probe:
        while True:
            with suppress(OSError):
                probe.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
                return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[tuple[Mlflow, Mlflow]]:
    """Where people come from, and where they go."""
    both = Mlflow(tmp_path_factory.mktemp("there")), Mlflow(tmp_path_factory.mktemp("beyond"))
    for one in both:
        one.wait()
    yield both
    for one in both:
        one.close()


def run_python(program: str, **environment: str) -> str:
    return forked.run(program, PLAIN | environment)


def told(url: str, **environment: str) -> dict:
    return json.loads(run_python(SHOW, MLFLOW_TRACKING_URI=url, PREDICT="1", **environment).split("TOLD")[1])


def narf(server, *arguments: str) -> str:
    return forked.run(arguments, PLAIN | {"NARF_URL": server.url, "NARF_TOKEN": server.admin})


def test_from_a_server_to_the_platform_and_on_to_another_server(server, servers):
    there, beyond = servers
    run_python(FILL, MLFLOW_TRACKING_URI=there.url)
    expected = told(there.url)
    assert expected["answer"] == [2, 4] and len(expected["runs"]) == 4

    assert "4 runs" in narf(server, "import", "mlflow", there.url, "--project", "vision")
    ours = {"MLFLOW_TRACKING_TOKEN": server.admin, "MLFLOW_WORKSPACE": "vision"}
    assert told(server.url, **ours) == expected
    assert "0 runs" in narf(server, "import", "mlflow", there.url, "--project", "vision"), "repeating it brings nothing twice"
    assert told(server.url, **ours) == expected

    assert "4 runs" in narf(server, "export", "mlflow", beyond.url, "--project", "vision")
    assert told(beyond.url) == expected
    assert "0 runs" in narf(server, "export", "mlflow", beyond.url, "--project", "vision"), "nor does taking it away again"
    assert told(beyond.url) == expected


def test_what_is_new_in_a_known_model_comes_with_the_next_import(server, servers):
    there, _ = servers
    run_python(
        """
from mlflow import MlflowClient
client = MlflowClient()
(run,) = client.search_runs([client.get_experiment_by_name("churn").experiment_id], "attributes.run_name = 'run 0'")
version = client.create_model_version("plain", f"{run.info.artifact_uri}/model", run.info.run_id)
client.set_registered_model_alias("plain", "champion", version.version)
""",
        MLFLOW_TRACKING_URI=there.url,
    )
    narf(server, "import", "mlflow", there.url, "--project", "vision")
    description, _, aliases, versions = told(server.url, MLFLOW_TRACKING_TOKEN=server.admin, MLFLOW_WORKSPACE="vision")["models"]["plain"]
    assert (description, aliases, len(versions)) == ("A plain one", {"champion": 2, "stable": 1}, 2)


def test_a_folder_is_taken_to_and_brought_back(server, servers, tmp_path):
    narf(server, "export", "mlflow", str(tmp_path / "mlruns"), "--project", "vision", "--experiment", "churn")
    answer = narf(server, "import", "mlflow", str(tmp_path / "mlruns"), "--project", "a_b.c")
    assert "4 runs" in answer, answer
    found = told(server.url, MLFLOW_TRACKING_TOKEN=server.admin, MLFLOW_WORKSPACE="a_b.c")
    assert found["runs"] == told(server.url, MLFLOW_TRACKING_TOKEN=server.admin, MLFLOW_WORKSPACE="vision")["runs"]
    assert found["answer"] == [2, 4]
