"""Packages are built from real models, and what is chosen gives the original's answers."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from narf.domain.errors import BadInput
from narf.serving.package import read_manifest
from narf.serving.packaging.build import Request, build
from narf.serving.packaging.original import open_original
from narf.serving.runtimes import open_runtime

QUICK = Request(name="digits", version="3", measure_seconds=0.01)


@pytest.fixture(scope="module")
def digits():
    features, labels = load_digits(return_X_y=True)
    return features.astype(np.float32), labels


def mlp() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10)).eval()


def test_a_torch_module_becomes_onnx_with_evidence_and_the_same_answers(tmp_path, digits):
    module = mlp()
    torch.save(module, tmp_path / "model.pt")
    original = open_original(tmp_path / "model.pt")
    original.samples, original.samples_are_real = {"input": digits[0][:50]}, True
    manifest = build(original, tmp_path / "package", QUICK)
    assert manifest == read_manifest(tmp_path / "package")
    assert manifest.evidence.inputs == "real" and manifest.evidence.rows == 50
    assert {candidate.runtime for candidate in manifest.evidence.candidates} == {"onnx", "torchscript", "torch"}
    assert "257 rows" in manifest.evidence.cases
    assert all(candidate.milliseconds_one > 0 for candidate in manifest.evidence.candidates if not candidate.refused)
    got = open_runtime(tmp_path / "package").run({"input": digits[0][:9]})["output"]
    np.testing.assert_allclose(got, module(torch.from_numpy(digits[0][:9])).detach().numpy(), rtol=1e-4, atol=1e-5)


class Branches(torch.nn.Module):
    """Its answer depends on the data in a way that tracing freezes."""

    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x - 1


def test_an_export_that_freezes_a_branch_is_refused_and_another_runtime_is_chosen(tmp_path):
    module = Branches().eval()
    torch.jit.script(module).save(tmp_path / "model.pt")
    original = open_original(tmp_path / "model.pt")
    (name,) = original.extra["names"]
    original.samples, original.samples_are_real = {name: np.array([[1.0], [-5.0], [2.0]], np.float32)}, True
    manifest = build(original, tmp_path / "package", QUICK)
    runtime = open_runtime(tmp_path / "package")
    for value in (3.0, -3.0):
        got = runtime.run({name: np.array([[value]], np.float32)})["output"]
        assert got.tolist() == module(torch.tensor([[value]])).tolist()
    for candidate in manifest.evidence.candidates:
        if candidate.refused:
            assert "differs" in candidate.refused or "cannot be exported" in candidate.refused


def test_an_estimator_keeps_its_labels_and_probabilities(tmp_path, digits):
    estimator = LogisticRegression(max_iter=30).fit(*digits)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(estimator))
    original = open_original(tmp_path / "model.pkl")
    original.samples, original.samples_are_real = {"input": digits[0][:60]}, True
    manifest = build(original, tmp_path / "package", QUICK)
    outputs = open_runtime(tmp_path / "package").run({"input": digits[0][:20]})
    assert [spec.name for spec in manifest.outputs] == ["output", "probabilities"]
    assert {spec.name: outputs[spec.name].dtype for spec in manifest.outputs} == {spec.name: spec.dtype for spec in manifest.outputs}
    assert (outputs["output"] == estimator.predict(digits[0][:20])).all()
    assert len(manifest.reference["features"]) == 64


def test_a_few_example_rows_are_no_reference_for_drift(tmp_path, digits):
    estimator = LogisticRegression(max_iter=30).fit(*digits)
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(estimator))
    original = open_original(tmp_path / "model.pkl")
    original.samples, original.samples_are_real = {"input": digits[0][:5]}, True
    assert build(original, tmp_path / "package", QUICK).reference == {}


def test_an_mlflow_model_of_columns_with_text_is_served_by_pyfunc(tmp_path):
    import mlflow.pyfunc
    import pandas
    from mlflow.models import infer_signature

    class Greeter(mlflow.pyfunc.PythonModel):
        def predict(self, context, model_input, params=None):
            return [f"{name}:{age}" for name, age in zip(model_input["name"], model_input["age"], strict=True)]

    table = pandas.DataFrame({"name": ["ann", "bob"], "age": [3, 4]})
    mlflow.pyfunc.save_model(str(tmp_path / "model"), python_model=Greeter(), signature=infer_signature(table, ["x"]), input_example=table)
    manifest = build(open_original(tmp_path / "model"), tmp_path / "package", QUICK)
    assert manifest.runtime == "pyfunc" and manifest.columns == ("name", "age")
    outputs = open_runtime(tmp_path / "package").run({"name": np.array(["eve"], object), "age": np.array([9])})
    assert outputs["output"].tolist() == ["eve:9"]


SCRIPT = """
import lightning.pytorch as pl, torch, sys
from torch.utils.data import DataLoader, TensorDataset
class Net(pl.LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))
    def forward(self, x): return self.net(x)
    def training_step(self, batch, index): return self(batch[0]).sum()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.01)
width = int(sys.argv[1])
loader = DataLoader(TensorDataset(torch.arange(80.).reshape(20, 4), torch.zeros(20)), batch_size=10)
trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu", barebones=False, enable_model_summary=False)
trainer.fit(Net(width), loader)
trainer.save_checkpoint(sys.argv[2])
"""


def test_a_lightning_checkpoint_is_packaged_from_its_script_alone_in_a_child_process(tmp_path):
    script, checkpoint = tmp_path / "train.py", tmp_path / "last.ckpt"
    script.write_text(SCRIPT)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, script, "6", checkpoint], check=True, capture_output=True, env=environment, cwd=tmp_path)
    arguments = [checkpoint, "--script", script, "--argument", "6", "--argument", checkpoint, "--out", tmp_path / "package"]
    done = subprocess.run(
        [sys.executable, "-m", "narf.serving.packaging", *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    manifest = json.loads(done.stdout.splitlines()[-1])
    assert manifest["runtime"] == "onnx" and manifest["evidence"]["inputs"] == "real"
    assert manifest["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]


@pytest.mark.parametrize("content", [b"", b"not a model", b"PK\x03\x04broken"])
@pytest.mark.parametrize("name", ["model.onnx", "model.pt", "model.ckpt", "model.pkl", "model.zip"])
def test_a_file_that_is_no_model_is_refused_with_a_sentence(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput):
        open_original(tmp_path / name)


def test_a_missing_model_and_a_checkpoint_without_its_class_say_what_to_do(tmp_path):
    with pytest.raises(BadInput, match="no model at"):
        open_original(Path("/nowhere/model.onnx"))
    torch.save({"state_dict": mlp().state_dict()}, tmp_path / "last.ckpt")
    with pytest.raises(BadInput, match="--class"):
        open_original(tmp_path / "last.ckpt")


def test_processing_is_shipped_with_the_package_and_runs_around_the_model(tmp_path, digits):
    torch.save(mlp(), tmp_path / "model.pt")
    (tmp_path / "steps.py").write_text(
        "class Steps:\n"
        "    inputs = [{'name': 'pixels', 'datatype': 'UINT8', 'shape': [-1, 8, 8]}]\n"
        "    outputs = [{'name': 'digit', 'datatype': 'INT64', 'shape': [-1]}]\n"
        "    def preprocess(self, inputs): return {'input': inputs['pixels'].reshape(-1, 64).astype('float32')}\n"
        "    def postprocess(self, outputs): return {'digit': outputs['output'].argmax(axis=1)}\n"
    )
    original = open_original(tmp_path / "model.pt")
    original.samples = {"input": digits[0][:20]}
    request = Request(measure_seconds=0.01, processing=tmp_path / "steps.py", processing_name="Steps")
    manifest = build(original, tmp_path / "package", request)
    assert [spec.name for spec in manifest.caller_inputs] == ["pixels"]
    outputs = open_runtime(tmp_path / "package").run({"pixels": digits[0][:5].astype(np.uint8).reshape(5, 8, 8)})
    assert outputs["digit"].tolist() == mlp()(torch.from_numpy(digits[0][:5])).argmax(dim=1).tolist()
