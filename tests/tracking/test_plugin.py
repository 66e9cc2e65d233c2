"""The stores as MLflow finds them by themselves: by entry point, in an MLflow that is not ours."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from mlflow.exceptions import MlflowException

from narf.tracking.store import database_of

SCRIPT = """
import sys, mlflow
from mlflow import MlflowClient
address = sys.argv[1]
mlflow.set_tracking_uri(address); mlflow.set_registry_uri(address)
mlflow.set_experiment("plugin")
with mlflow.start_run() as run:
    for step in range(50):
        mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
client = MlflowClient(address, registry_uri=address)
print(len(client.get_metric_history(run.info.run_id, "loss")), type(client._tracking_client.store).__name__)
client.create_registered_model("m")
print(client.get_registered_model("m").name)
"""


def test_the_entry_points_are_there():
    for group in ("mlflow.tracking_store", "mlflow.model_registry_store"):
        assert "narf" in {point.name for point in entry_points(group=group)}


def test_an_mlflow_of_its_own_uses_the_store_by_its_address(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, f"narf:sqlite:///{tmp_path}/m.db"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["50 NarfTrackingStore", "m"]
    assert "Failure attempting to register" not in done.stderr


@pytest.mark.parametrize("address", ["narf:", "narf:mysql://x/y", "narf:/tmp/x", "sqlite-ish"])
def test_an_address_that_is_none_is_refused(address):
    with pytest.raises(MlflowException, match="narf:sqlite"):
        database_of(address)
