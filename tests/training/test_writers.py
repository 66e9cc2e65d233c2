"""What an unmodified script gives to TensorBoard and W&B is recorded, once, whoever calls them."""

from __future__ import annotations

import importlib.util

import pytest

TENSORBOARD = """
import sys
import numpy as np
if sys.argv[1] == "torch":
    from torch.utils.tensorboard import SummaryWriter
else:
    from tensorboardX import SummaryWriter
writer = SummaryWriter("logs")
for step in range(5):
    writer.add_scalar("train/loss", 1.0 / (step + 1), step)
    writer.add_scalar(tag="named", scalar_value=np.float32(2.0), global_step=step)
writer.add_scalars("group", {"a": 1.0, "b": 2.0}, 3)
writer.add_scalar("without a step", 4.0)
writer.add_image("picture", np.zeros((3, 8, 8), dtype=np.uint8), 1)
writer.add_text("note", "hello", 2)
writer.add_histogram("weights", np.arange(10.0), 1)
writer.add_hparams({"lr": 0.1, "layers": 2}, {"accuracy": 0.9})
writer.close()
"""

WANDB = """
import wandb
import numpy as np
run = wandb.init(project="p", config={"lr": 0.1, "model": {"width": 8}})
wandb.config.update({"batch": 32})
wandb.config.epochs = 3
for step in range(5):
    wandb.log({"loss": 1.0 / (step + 1), "val": {"acc": step / 10}, "scalar": np.float32(2)})
run.log({"late": 1.0}, step=20)
run.log({"state": "warm"})
wandb.summary["best"] = 0.1
wandb.finish()
again = wandb.init(project="p")
again.log({"loss": 9.0})
again.finish()
print("DONE")
"""

# Where W&B is not installed, its shape: the classes and functions that scripts use, which do nothing.
FAKE = {
    "wandb/__init__.py": """
from wandb.sdk.wandb_run import Run
run = None
def init(project=None, config=None, **_):
    global run, config_, log, finish
    run = Run()
    run.config.update(config or {})
    globals().update(config=run.config, log=run.log, summary=run.summary, finish=run.finish)
    return run
""",
    "wandb/sdk/__init__.py": "",
    "wandb/sdk/wandb_config.py": """
class Config:
    def __init__(self): object.__setattr__(self, "_items", {})
    def __setitem__(self, name, value): self._items[name] = value
    __setattr__ = __setitem__
    def keys(self): return self._items.keys()
    def __getitem__(self, name): return self._items[name]
    def update(self, values, allow_val_change=None): self._items.update(values)
    def setdefaults(self, values): self._items.update({**values, **self._items})
    def update_locked(self, values, user=None): self._items.update(values)
""",
    "wandb/sdk/wandb_run.py": """
from wandb.sdk.wandb_config import Config
class Run:
    def __init__(self): self.config, self.summary, self.step = Config(), {}, 0
    def log(self, data, step=None, commit=None):
        self.summary.update({k: v for k, v in data.items() if not isinstance(v, dict)})
        self.step = step if step is not None else self.step + 1
    def finish(self, exit_code=None): pass
""",
}


@pytest.mark.parametrize("library", ["torch", "tensorboardX"])
def test_what_a_summary_writer_is_given_is_recorded(cold, tmp_path, read_spool, library):
    script = tmp_path / "train.py"
    script.write_text(TENSORBOARD)
    code, output = cold(script, library, cwd=tmp_path, NARF_SPOOL=tmp_path / "spool")
    assert code == 0, output
    spool = read_spool(tmp_path / "spool")
    assert spool.points["train/loss"] == [(step, 1.0 / (step + 1)) for step in range(5)]
    assert spool.points["named"] == [(step, 2.0) for step in range(5)]
    assert (spool.points["group/a"], spool.points["group/b"]) == ([(3, 1.0)], [(3, 2.0)])
    assert (spool.points["without a step"], spool.points["accuracy"]) == ([(0, 4.0)], [(0, 0.9)])
    assert spool.named("param") == {"lr": "0.1", "layers": "2"}
    assert {"images/picture/1.png", "text/note/2.txt"} <= set(spool.artifacts)
    assert spool.notes == []
    assert list((tmp_path / "logs").rglob("events.out.tfevents*")), "and TensorBoard has it too"


def test_what_is_logged_to_wandb_is_recorded_without_an_account(cold, tmp_path, read_spool):
    if importlib.util.find_spec("wandb") is None:
        for name, text in FAKE.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    script = tmp_path / "train.py"
    script.write_text(WANDB)
    code, output = cold(script, cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", HOME=tmp_path, timeout=100)
    assert code == 0 and "DONE" in output, output
    spool = read_spool(tmp_path / "spool")
    assert spool.points["loss"] == [*((step, 1.0 / (step + 1)) for step in range(5)), (0, 9.0)]
    assert spool.points["val.acc"] == [(step, step / 10) for step in range(5)]
    assert spool.points["scalar"] == [(step, 2.0) for step in range(5)]
    assert spool.points["late"] == [(20, 1.0)]
    assert spool.named("metric_text") == {"state": "warm"}
    assert spool.named("param") == {"lr": "0.1", "model.width": "8", "batch": "32", "epochs": "3"}
    assert spool.named("tag")["summary.best"] == "0.1"
    assert spool.notes == []


LIGHTNING = """
import torch
import lightning.pytorch as pl
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset
class Module(pl.LightningModule):
    def __init__(self, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, 2)
    def training_step(self, batch, index):
        loss = self.net(batch[0]).square().mean()
        self.log("train_loss", loss)
        if index == 0:
            self.loggers[0].experiment.add_scalar("by hand", 7.0, self.global_step)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", self.net(batch[0]).square().mean())
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
loader = DataLoader(TensorDataset(torch.randn(40, 4)), batch_size=4)
loggers = [TensorBoardLogger("tb"), CSVLogger("csv"), MLFlowLogger("mine")]
trainer = pl.Trainer(accelerator="cpu", max_epochs=2, logger=loggers, log_every_n_steps=1, enable_checkpointing=False,
                     enable_progress_bar=False, enable_model_summary=False)
trainer.fit(Module(), loader, loader)
print("RUN", loggers[2].run_id)
"""


def test_lightning_with_loggers_of_its_own_is_recorded_once(cold, tmp_path, read_spool):
    script = tmp_path / "train.py"
    script.write_text(LIGHTNING)
    platform = {"MLFLOW_RUN_ID": "a" * 32, "MLFLOW_EXPERIMENT_ID": "7", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}  # nobody listens
    code, output = cold(script, cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", timeout=100, **platform)
    assert code == 0, output
    assert f"RUN {'a' * 32}" in output, "MLflow's logger is given the run of the platform"
    spool = read_spool(tmp_path / "spool")
    assert spool.steps("train_loss") == list(range(20))
    assert spool.steps("val_loss") == [9, 19]
    assert spool.points["by hand"] == [(0, 7.0), (10, 7.0)]
    assert "hp_metric" not in spool.points
    assert spool.named("param")["width"] == "8"
    assert list((tmp_path / "tb").rglob("events.out.tfevents*")) and list((tmp_path / "csv").rglob("metrics.csv"))
