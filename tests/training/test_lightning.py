"""What an unchanged Lightning script leaves in its spool."""

from __future__ import annotations

import json

import pytest

HEAD = """
import json, sys
import torch
import lightning.pytorch as pl
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(1)
data = TensorDataset(torch.randn(40, 4), torch.randint(0, 2, (40,)))
loader = DataLoader(data, batch_size=4)
class Silent(pl.LightningModule):
    def __init__(self, lr=0.1, width=8):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, width), torch.nn.ReLU(), torch.nn.Linear(width, 2))
    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])
    def training_step(self, batch, index):
        loss = self.loss(batch)
        print("LOSS", loss.item())
        return loss
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]
class Loud(Silent):
    def training_step(self, batch, index):
        loss = self.loss(batch)
        self.log("a/loss", loss)
        if index % 3 == 0:
            self.log("sometimes", float(index))
        self.log("hidden", loss, logger=False)
        self.log("both", float(index), on_step=True, on_epoch=True)
        return loss
    def validation_step(self, batch, index):
        self.log("val_loss", self.loss(batch))
    def test_step(self, batch, index):
        self.log_dict({"test_loss": self.loss(batch), "test_two": 2.0})
def trainer(**options):
    quiet = dict(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    return pl.Trainer(**{**quiet, "max_epochs": 2, **options})
"""


@pytest.fixture
def run(warm, tmp_path, read_spool):
    def run(body, **environment):
        script = tmp_path / "train.py"
        script.write_text(HEAD + body)
        code, output = warm(script, cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", **environment)
        return code, output, read_spool(tmp_path / "spool")

    return run


def test_a_script_that_logs_nothing_still_has_its_loss(run):
    code, output, spool = run("trainer().fit(Silent(lr=0.2), loader)")
    assert code == 0, output
    losses = [float(line.split()[1]) for line in output.splitlines() if line.startswith("LOSS")]
    assert spool.points["loss"] == [(step, pytest.approx(loss)) for step, loss in enumerate(losses)]
    assert len(losses) == 20
    assert spool.points["lr"] == [(0, 0.2), (10, 0.1)]
    assert spool.named("param") == {"lr": "0.2", "width": "8"}
    assert spool.named("tag")["model.parameters"] == "58"
    assert spool.named("tag")["optimizer"] == "SGD"
    assert "model/summary.txt" in spool.artifacts
    assert spool.notes == []


def test_everything_that_is_logged_is_recorded(run):
    code, output, spool = run(
        "t = trainer(log_every_n_steps=7)\nt.fit(Loud(), loader, loader)\nt.test(verbose=False, dataloaders=loader, model=t.model)"
    )
    assert code == 0, output
    assert spool.steps("a/loss") == list(range(20))
    assert spool.points["sometimes"] == [(step, float(step % 10)) for step in range(20) if step % 10 % 3 == 0]
    assert spool.steps("hidden") == list(range(20))
    assert spool.points["both_step"] == [(step, float(step % 10)) for step in range(20)]
    assert spool.points["both_epoch"] == [(9, 4.5), (19, 4.5)]
    assert spool.steps("val_loss") == [9, 19]
    assert spool.points["epoch"] == [(9, 0.0), (19, 1.0)]
    assert spool.points["test_two"] == [(20, 2.0)]
    assert spool.steps("loss") == list(range(20))


def test_speeds_are_recorded_about_once_a_second(run):
    code, output, spool = run("""
import time
class Slow(Silent):
    def training_step(self, batch, index):
        time.sleep(0.06)
        return self.loss(batch)
trainer().fit(Slow(), loader)
""")
    assert code == 0, output
    assert 1 <= len(spool.points["samples_per_second"]) <= 4
    assert 5 < spool.points["samples_per_second"][0][1] < 4 / 0.06
    assert 0 <= spool.points["data_wait"][0][1] < 0.5


def test_the_users_own_loggers_and_callbacks_see_what_they_always_saw(run, tmp_path):
    body = """
from lightning.pytorch.loggers import CSVLogger
class Own(pl.Callback):
    def on_train_end(self, trainer, module):
        print("CALLBACKS", [type(c).__name__ for c in trainer.callbacks], len(trainer.loggers))
t = trainer(logger=CSVLogger(".", name="csv"), callbacks=[Own()], log_every_n_steps=1)
t.fit(Loud(), loader, loader)
print("METRICS", json.dumps(sorted(t.callback_metrics)))
"""
    _, with_hooks, spool = run(body)
    _, without, _ = run(body, NARF_HOOKS_OFF="lightning,lightning_resume")
    assert with_hooks == without
    first, second = (tmp_path / "csv" / name / "metrics.csv" for name in ("version_0", "version_1"))
    assert first.read_text() == second.read_text()
    assert spool.steps("a/loss") == list(range(20)), "and Narf has them too"


def test_checkpoints_become_artifacts_best_and_last(run, tmp_path):
    code, output, spool = run("""
keep = pl.callbacks.ModelCheckpoint(dirpath="ck", monitor="val_loss", save_last=True)
trainer(enable_checkpointing=True, callbacks=[keep]).fit(Loud(), loader, loader)
print("BEST", keep.best_model_path)
""")
    assert code == 0, output
    best = next(line.split()[1] for line in output.splitlines() if line.startswith("BEST"))
    assert spool.artifacts["checkpoints/best.ckpt"]["file"] == best
    assert spool.artifacts["checkpoints/last.ckpt"]["file"].endswith("last.ckpt")
    assert spool.artifacts["checkpoints/best.ckpt"]["delete"] is False


def test_a_fast_dev_run_leaves_no_metrics(run):
    code, output, spool = run("trainer(fast_dev_run=True).fit(Loud(), loader, loader)")
    assert code == 0, output
    assert spool.points == {}


def test_two_fits_in_one_script_are_both_recorded(run):
    code, output, spool = run("trainer(max_epochs=1).fit(Silent(), loader)\ntrainer(max_epochs=1).fit(Silent(), loader)")
    assert code == 0, output
    assert spool.steps("loss") == list(range(10)) * 2


def test_what_modules_are_made_with_is_recorded_without_save_hyperparameters(run):
    code, output, spool = run("""
class Plain(Silent):
    def __init__(self, depth, size=3, *, name="x", secret_token="abc", layers=None):
        super().__init__()
class Data(pl.LightningDataModule):
    def __init__(self, batch_size=4):
        super().__init__()
    def train_dataloader(self):
        return loader
trainer(max_epochs=1).fit(Plain(2, name="deep"), datamodule=Data(8))
""")
    assert code == 0, output
    recorded = spool.named("param")
    assert {name: recorded[name] for name in ("depth", "size", "name", "batch_size")} == {
        "depth": "2",
        "size": "3",
        "name": "deep",
        "batch_size": "8",
    }
    assert recorded["secret_token"] == "***"
    assert recorded["lr"] == "0.1", "and what save_hyperparameters names"


def test_what_the_lightning_cli_decides_is_recorded(warm, tmp_path, read_spool):
    script = tmp_path / "train.py"
    script.write_text(
        HEAD.replace("import json, sys", "import sys")
        + """
from lightning.pytorch.cli import LightningCLI
class Model(Silent):
    def __init__(self, width: int = 8, lr: float = 0.1):
        super().__init__(lr, width)
class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 4):
        super().__init__()
    def train_dataloader(self):
        return loader
quiet = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
LightningCLI(Model, Data, save_config_callback=None, seed_everything_default=7, trainer_defaults=quiet)
"""
    )
    code, output = warm(script, "fit", "--model.width", "16", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool")
    assert code == 0, output
    recorded = read_spool(tmp_path / "spool").named("param")
    assert (recorded["model.width"], recorded["model.lr"], recorded["data.batch_size"]) == ("16", "0.1", "4")
    assert (recorded["seed_everything"], recorded["trainer.max_epochs"]) == ("7", "1")


def test_manual_optimisation_and_accumulation(run):
    code, output, spool = run("""
class Manual(Silent):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
    def training_step(self, batch, index):
        optimizer = self.optimizers()
        loss = self.loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.log("own", loss)
trainer(max_epochs=1).fit(Manual(), loader)
trainer(max_epochs=1, accumulate_grad_batches=5).fit(Loud(), loader)
""")
    assert code == 0, output
    assert spool.steps("own") == list(range(10))
    assert spool.steps("a/loss") == [0, 1], "at the steps of the optimiser"


def test_a_hook_that_fails_is_reported_once_and_training_goes_on(run):
    code, output, spool = run("""
class Odd(Silent):
    def configure_optimizers(self):
        optimizer = super().configure_optimizers()[0][0]
        optimizer.param_groups = [type("Group", (dict,), {"__getitem__": lambda s, k: 1 / 0 if k == "lr" and sys._getframe(1).f_code.co_filename.endswith("hooks/lightning.py") else dict.__getitem__(s, k)})(g) for g in optimizer.param_groups]
        return optimizer
trainer().fit(Odd(), loader)
print("DONE")
""")
    assert code == 0, output
    assert "DONE" in output
    assert output.count("the lightning hook failed") == 1
    assert any("ZeroDivisionError" in note for note in spool.notes)


def test_a_pruned_run_ends_in_good_order(run, tmp_path):
    code, output, _ = run("""
import os
class Stopped(Loud):
    def on_train_batch_end(self, *_):
        if self.trainer.global_step == 4:
            open(os.path.join(os.environ["NARF_SPOOL"], "stop"), "w").close()
t = trainer(max_epochs=5000, min_epochs=3)
t.fit(Stopped(), loader, loader)
print("ENDED", t.global_step, t.state.status)
""")
    assert code == 0, output
    ended = next(line for line in output.splitlines() if line.startswith("ENDED"))
    assert int(ended.split()[1]) < 40000
    assert "FINISHED" in ended


def test_ddp_ranks_record_once(warm, tmp_path, read_spool):
    script = tmp_path / "train.py"
    script.write_text(HEAD + "trainer(max_epochs=1, devices=2, strategy='ddp').fit(Loud(), loader)\n")
    code, output = warm(script, cwd=tmp_path, timeout=120, NARF_SPOOL=tmp_path / "spool", NARF_CHECKPOINTS=tmp_path / "kept")
    assert code == 0, output
    spool = read_spool(tmp_path / "spool")
    assert spool.steps("a/loss") == list(range(5))
    heartbeat = json.loads((tmp_path / "spool" / "rank-1.heartbeat").read_text())
    assert heartbeat["rank"] == 1
