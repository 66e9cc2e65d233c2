"""What the hooks cost a Lightning fit: CPU seconds of the same fit with and without them, interleaved, in forks of one warm process.

    python benchmarks/lightning_overhead.py [--pairs 8]

The fit: digits, MLP, 20 epochs of 57 steps, batch 32, `self.log` of one metric every step, no logger. Goal: at most 5 % more.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import tempfile
from pathlib import Path

SCRIPT = """
import resource, sys, json
import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from sklearn.datasets import load_digits

class Digits(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.network(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)

pl.seed_everything(1)
torch.set_num_threads(1)
digits = load_digits()
data = TensorDataset(torch.tensor(digits.data / 16.0, dtype=torch.float32), torch.tensor(digits.target))
loader = DataLoader(data, batch_size=32, shuffle=True)
model = Digits()
trainer = pl.Trainer(max_epochs=20, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                     enable_model_summary=False, log_every_n_steps=1)
before = resource.getrusage(resource.RUSAGE_SELF)
trainer.fit(model, loader)
after = resource.getrusage(resource.RUSAGE_SELF)
seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
with open("result", "w") as file:
    json.dump({"seconds": seconds, "steps": trainer.global_step, "weight": float(model.network[0].weight.double().sum())}, file)
"""


def fit(script: Path, hooks: bool) -> dict[str, float]:
    """One fit in a fork; its CPU seconds, steps and the sum of a weight."""
    folder = Path(tempfile.mkdtemp(prefix="narf-overhead-"))
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        for name in [name for name in os.environ if name.startswith("NARF_")]:
            del os.environ[name]
        if hooks:
            os.environ.update(NARF_SPOOL=str(folder / "spool"), NARF_CHECKPOINTS=str(folder / "checkpoints"), NARF_ATTEMPT="1")
            from narf.training import launcher

            launcher.finish(launcher.run_script(str(script)))
        exec(compile(script.read_text(), str(script), "exec"), {"__name__": "__main__"})
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"the fit failed, see {folder}"
    result: dict[str, float] = json.loads((folder / "result").read_text())
    if hooks:
        from narf.training.spool import unpack_points

        points = sum(len(list(unpack_points(file.read_bytes()))) for file in (folder / "spool").glob("*.points"))
        assert points >= 2 * result["steps"], f"{points} points recorded in {result['steps']} steps"
        result["points"] = points
    shutil.rmtree(folder)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8)
    pairs = parser.parse_args().pairs
    import lightning.pytorch
    import sklearn.datasets  # noqa: F401
    import torch

    torch.set_num_threads(1)
    script = Path(tempfile.mkdtemp(prefix="narf-overhead-")) / "train.py"
    script.write_text(SCRIPT)
    fit(script, hooks=False)  # the first fork pays for pages that the others find warm
    ratios, with_hooks, without = [], [], []
    for pair in range(pairs):
        order = (True, False) if pair % 2 else (False, True)
        results = {hooks: fit(script, hooks) for hooks in order}
        assert results[True]["weight"] == results[False]["weight"], "the hooks changed the training"
        ratios.append(results[True]["seconds"] / results[False]["seconds"])
        with_hooks.append(results[True]["seconds"])
        without.append(results[False]["seconds"])
        print(
            f"pair {pair + 1}: {without[-1]:.3f} s without, {with_hooks[-1]:.3f} s with hooks, {100 * (ratios[-1] - 1):+.1f} %", flush=True
        )
    steps = results[True]["steps"]
    print(f"\nlightning {lightning.pytorch.__version__}, torch {torch.__version__}, {steps} steps, {results[True]['points']} points")
    print(
        f"without hooks {statistics.median(without) / steps * 1e6:,.0f} µs a step, with {statistics.median(with_hooks) / steps * 1e6:,.0f}"
    )
    print(f"overhead: median of pairs {100 * (statistics.median(ratios) - 1):+.1f} % CPU time; goal at most +5 %")
    best = min(with_hooks) / min(without) - 1
    print(f"best fit of each kind: {100 * best:+.1f} % (on a busy machine the pairs scatter by more than the difference)")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
