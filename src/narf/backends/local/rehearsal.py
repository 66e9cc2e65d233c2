"""A rehearsal: the zygote trains a tiny model once, so that its forks need not do for the first time what everybody does.

Half of a short fit in a fork is what happens once: methods are looked up and specialised, caches filled, pages copied that all
forks then share. Nothing of it may show: what a rehearsal changes besides is put back, and it leaves no thread behind.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Iterator
from typing import Any


def rehearse() -> bool:
    """Train for two steps with what is loaded; whether that was done. Never raises."""
    torch: Any = sys.modules.get("torch")
    # The first backward of a build for GPUs looks for them, and a fork of a process that has touched one cannot use it.
    if torch is None or torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None:
        return False
    try:
        with _leaving_no_trace(torch):
            if "lightning.pytorch" in sys.modules:
                _fit_with_lightning(torch, sys.modules["lightning.pytorch"])
            else:
                _train(torch)
    except Exception:  # whatever a version of a library does not like; the programs start all the same
        print("cannot rehearse", file=sys.stderr)  # noqa: T201
        traceback.print_exc()
        return False
    return True


def _train(torch: Any) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    for x_B4, y_B in _batches(torch):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x_B4), y_B).backward()
        optimizer.step()


def _fit_with_lightning(torch: Any, lightning: Any) -> None:
    class Rehearsal(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.network = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))

        def training_step(self, batch: Any) -> Any:
            loss = torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any) -> None:
            self.log("val_loss", torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=1e-3)

    with tempfile.TemporaryDirectory(prefix="narf-rehearsal-") as folder:
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", devices=1, default_root_dir=folder, **quiet)
        trainer.fit(Rehearsal(), _batches(torch), _batches(torch))


def _batches(torch: Any) -> Any:
    data = torch.utils.data.TensorDataset(torch.zeros(4, 4), torch.zeros(4, dtype=torch.long))
    return torch.utils.data.DataLoader(data, batch_size=2, shuffle=False)


@contextlib.contextmanager
def _leaving_no_trace(torch: Any) -> Iterator[None]:
    environment, threads = dict(os.environ), torch.get_num_threads()
    multiprocessing: Any = sys.modules["multiprocessing"]
    method = multiprocessing.get_start_method(allow_none=True)
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric", "lightning_utilities")]
    levels = [(logger, logger.level) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    torch.set_num_threads(1)  # a pool of threads would not come along into a fork
    try:
        # Recorded, and under "always", a warning is not noted as given: each program is to give its own.
        with warnings.catch_warnings(record=True):
            warnings.simplefilter("always")
            yield
    finally:
        torch.set_num_threads(threads)
        for logger, level in levels:
            logger.setLevel(level)
        multiprocessing.set_start_method(method, force=True)  # a loader asks for it, and asking settles it
        os.environ.clear()
        os.environ.update(environment)
