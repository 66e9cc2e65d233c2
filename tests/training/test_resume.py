"""An unchanged Lightning script that is interrupted and resumed ends with the weights of one that was not, bit for bit."""

from __future__ import annotations

import json
import os

import pytest

SCRIPT = """
import json, os, random, signal, sys
import numpy as np
import torch, torchmetrics
import lightning.pytorch as pl
from torch.utils.data import DataLoader, Dataset

options = json.loads(sys.argv[1])

class Noisy(Dataset):
    \"\"\"Draws from every random generator there is, in whichever process it runs.\"\"\"
    def __len__(self):
        return options.get("rows", 44)
    def __getitem__(self, index):
        x = torch.linspace(0, 1, 6) * (index % 7) + torch.randn(6) * 0.1 + float(np.random.rand()) * 0.1 + random.random() * 0.1
        return x, index % 3

class Model(pl.LightningModule):
    def __init__(self, lr=0.05):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Dropout(0.4), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(3)
        self.seen = 0
    def maybe_stop(self, where):
        stop = options.get("stop")
        if stop and os.environ.get("NARF_ATTEMPT", "1") == str(stop[2]) and where == stop[0] and self.trainer.global_step == stop[1]:
            os.kill(os.getpid(), signal.SIGTERM)
    def training_step(self, batch, index):
        x, y = batch
        out = self.net(x)
        loss = torch.nn.functional.cross_entropy(out, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.accuracy(out, y)
        self.log("train_acc", self.accuracy, on_step=False, on_epoch=True)
        self.maybe_stop("train")
        return loss
    def validation_step(self, batch, index):
        if self.trainer.sanity_checking:
            return
        self.maybe_stop(f"val{index}")
        self.log("val_loss", torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1]))
    def on_train_epoch_end(self):
        self.maybe_stop("epoch")
        random.random()
    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "train_loss_epoch"}}

pl.seed_everything(3)
generator = torch.Generator().manual_seed(5) if options.get("generator") else None
workers = options.get("workers", 0)
loader = lambda shuffle: DataLoader(Noisy(), batch_size=4, shuffle=shuffle, num_workers=workers, generator=generator if shuffle else None)
trainer_options = {"max_epochs": 3, **options.get("trainer", {})}
fits = options.get("fits", 1)
for fit in range(fits):
    model = Model()
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                         enable_model_summary=False, **trainer_options)
    trainer.fit(model, loader(True), loader(False))
digest = {name: value.double().sum().item() for name, value in model.state_dict().items()}
state = {"weights": {name: value.tolist() for name, value in model.state_dict().items()}, "step": trainer.global_step,
         "epoch": trainer.current_epoch, "draws": [random.random(), float(np.random.rand()), torch.rand(1).item()],
         "lr": trainer.optimizers[0].param_groups[0]["lr"], "metrics": {k: v.item() for k, v in trainer.callback_metrics.items()}}
print("STATE" + json.dumps(state))
"""


def state(output):
    lines = [line for line in output.splitlines() if line.startswith("STATE")]
    assert len(lines) == 1, output
    return json.loads(lines[0][5:])


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def attempt(warm, script, tmp_path, options, number, name="kept"):
    return warm(
        script,
        json.dumps(options),
        cwd=tmp_path,
        NARF_SPOOL=tmp_path / f"spool-{name}-{number}",
        NARF_CHECKPOINTS=tmp_path / name,
        NARF_ATTEMPT=number,
    )


CASES = {
    "mid-epoch": {"stop": ["train", 14, 1]},
    "the first step": {"stop": ["train", 0, 1]},
    "the last step of an epoch": {"stop": ["train", 10, 1]},
    "the end of an epoch": {"stop": ["epoch", 22, 1]},
    "the last step of all": {"stop": ["train", 32, 1]},
    "validation after an epoch": {"stop": ["val1", 11, 1]},
    "validation in an epoch": {"stop": ["val0", 16, 1], "trainer": {"val_check_interval": 5}},
    "with workers": {"stop": ["train", 14, 1], "workers": 2},
    "with workers at an epoch's end": {"stop": ["train", 10, 1], "workers": 2},
    "a generator of the loader": {"stop": ["train", 14, 1], "generator": True},
    "gradient accumulation": {"stop": ["train", 4, 1], "trainer": {"accumulate_grad_batches": 3}},
    "a limit of steps": {"stop": ["epoch", 22, 1], "trainer": {"max_steps": 30, "max_epochs": -1}},
    "a limit of steps, mid-epoch": {"stop": ["train", 17, 1], "trainer": {"max_steps": 30, "max_epochs": -1}},
    "the second of two fits": {"stop": ["train", 14, 1], "fits": 2, "trainer": {"max_epochs": 2}},
}


@pytest.mark.parametrize("name", CASES)
def test_a_resumed_run_ends_with_the_same_weights(warm, script, tmp_path, name):
    options = CASES[name]
    code, output = attempt(warm, script, tmp_path, {**options, "stop": None}, 1, "undisturbed")
    assert code == 0, output
    undisturbed = state(output)
    code, output = attempt(warm, script, tmp_path, options, 1)
    assert code in (143, -15), output
    assert "STATE" not in output
    assert (tmp_path / "kept" / "fit-1.ckpt").exists()
    code, output = attempt(warm, script, tmp_path, options, 2)
    assert code == 0, output
    assert state(output) == undisturbed
    assert "Traceback" not in output


def test_a_run_may_be_interrupted_again_and_again(warm, script, tmp_path):
    _, output = attempt(warm, script, tmp_path, {}, 1, "undisturbed")
    undisturbed = state(output)
    for number, stop in enumerate([["train", 3, 1], ["train", 8, 2], ["val1", 11, 3], ["epoch", 22, 4], ["train", 25, 5]], start=1):
        code, output = attempt(warm, script, tmp_path, {"stop": stop}, number)
        assert code in (143, -15), output
    code, output = attempt(warm, script, tmp_path, {}, 6)
    assert code == 0, output
    assert state(output) == undisturbed
    assert os.listdir(tmp_path / "kept")


def test_new_hyper_parameters_win_over_those_of_the_checkpoint(warm, tmp_path):
    """What population based training does: go on from a checkpoint with another learning rate, in an unchanged script."""
    script = tmp_path / "train.py"
    script.write_text("""
import os, signal, torch, lightning.pytorch as pl
LEARNING_RATE = 0.1
class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(2, 1)
    def training_step(self, batch, index):
        group = self.trainer.optimizers[0].param_groups[0]
        print("STEP", self.trainer.global_step, group["lr"], group["momentum"], group["weight_decay"])
        if os.environ["NARF_ATTEMPT"] == "1" and self.trainer.global_step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return self.net(batch).square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=LEARNING_RATE, momentum=0.5)
trainer = pl.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False)
trainer.fit(Model(), torch.utils.data.DataLoader(torch.ones(6, 2)))
""")
    common = {"NARF_SPOOL": tmp_path / "spool", "NARF_CHECKPOINTS": tmp_path / "kept"}
    code, output = warm(script, cwd=tmp_path, NARF_ATTEMPT="1", **common)
    assert code in (143, -15), output
    kept, changed = {"NARF_ATTEMPT": "2", **common}, '{"LEARNING_RATE": 0.02}'
    _, without = warm(script, cwd=tmp_path, NARF_PARAMS=changed, **{**kept, "NARF_CHECKPOINTS": copied(tmp_path)})
    assert "STEP 4 0.1 0.5 0" in without, "the checkpoint wins, unless told otherwise"
    _, output = warm(script, cwd=tmp_path, NARF_PARAMS=changed, NARF_RESUME_OVERRIDES='{"weight_decay": 0.25}', **kept)
    assert "STEP 4 0.02 0.5 0.25" in output
    assert "STEP 5 0.02 0.5 0.25" in output
    assert "STEP 3" not in output


def copied(tmp_path):
    import shutil

    return shutil.copytree(tmp_path / "kept", tmp_path / "copied")
