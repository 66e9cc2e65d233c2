"""A model is packaged and served where its own packages are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from narf.control.models.environment import Environment, of_workload, to_serve
from narf.domain.workload import Program, Resources, Workload, WorkloadKind

MODULE = """
class Scale:
    n_features_in_ = 2
    def fit(self, x, y): return self
    def predict(self, x): return x.sum(axis=1) * 3.0
"""


def trained(**program: object) -> Workload:
    return Workload(
        id="wl-1",
        project="default",
        owner="ann",
        name="train.py",
        kind=WorkloadKind.TRAINING,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        resources=Resources(),
        program=Program(script="train.py", snapshot="abc", **program),
    )


@pytest.mark.parametrize(
    ("runtime", "processing", "own"),
    [("onnx", "", False), ("torchscript", "", False), ("pyfunc", "", True), ("torch", "", True), ("onnx", "p.py", True)],
)
def test_only_what_runs_the_code_of_its_packages_is_served_in_the_runs_environment(runtime, processing, own):
    run = trained(requirements="xgboost==3.0")
    environment = to_serve(run, {"runtime": runtime, "processing": processing})
    assert environment.is_the_platforms is not own
    assert (
        of_workload(run).requirements == "xgboost==3.0" and of_workload(None).is_the_platforms and of_workload(trained()).is_the_platforms
    )


def test_a_replica_without_files_is_forked_and_one_whose_requirements_mean_files_gets_them():
    plain = Environment(requirements="xgboost==3.0", snapshot="abc").program("serve", ("--package", "p"))
    assert plain.script and plain.arguments == ("serve", "--package", "p") and plain.snapshot is None
    files = Environment(requirements="-r base.txt", snapshot="abc").program("serve", ())
    assert files.snapshot == "abc" and files.command[0] == "python" and files.script is None
    assert plain.requirements == "xgboost==3.0" and dict(plain.environment)["NARF_BESIDE"]
    platforms = Environment().program("package", (), code="abc")
    assert platforms.command[0] == sys.executable and not platforms.environment and not platforms.requirements


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an environment that has one package, and a `narf` that is not ours."""
    venv.create(tmp_path / "env", with_pip=False)
    (packages,) = (tmp_path / "env" / "lib").glob("*/site-packages")
    (packages / "scalemodel.py").write_text(MODULE)
    (packages / "narf").mkdir()
    (packages / "narf" / "__init__.py").write_text("raise RuntimeError('another narf')")
    return tmp_path / "env" / "bin" / "python"


def run(python: Path, name: str, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
    program = Environment(requirements="scalemodel").program(name, tuple(map(str, arguments)))
    clean = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NARF_URL")}
    return subprocess.run(
        [str(python), str(program.script), *program.arguments],
        env=clean | dict(program.environment) | changes,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_pickle_of_a_class_that_only_its_run_has_is_packaged_and_predicts(python, tmp_path):
    model, inputs, package = tmp_path / "model.pkl", tmp_path / "x.json", tmp_path / "package"
    subprocess.run([python, "-c", f"import pickle, scalemodel; pickle.dump(scalemodel.Scale(), open({str(model)!r}, 'wb'))"], check=True)
    inputs.write_text(json.dumps([[1.0, 2.0], [0.5, 0.25]]))
    done = run(python, "package", model, "--inputs", inputs, "--out", package)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["runtime"] == "pyfunc"
    np.save(tmp_path / "rows.npy", np.array([[1.0, 1.0], [2.0, 3.0]]))
    done = run(python, "predict", "--package", package, "--input", tmp_path / "rows.npy", "--output", tmp_path / "out.parquet")
    assert done.returncode == 0, done.stderr
    assert pq.read_table(tmp_path / "out.parquet").to_pydict() == {"output": [6.0, 15.0]}


def test_another_version_of_python_is_refused_in_a_sentence(python):
    places = dict(Environment(requirements="x").program("serve", ()).environment)["NARF_BESIDE"].partition(os.pathsep)[2]
    done = run(python, "serve", NARF_BESIDE=os.pathsep.join(["3.99", places]))
    assert done.returncode == 1 and "has Python 3." in done.stderr and "the platform 3.99" in done.stderr and "Traceback" not in done.stderr
