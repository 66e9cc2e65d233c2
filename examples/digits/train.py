"""Handwritten digits with PyTorch Lightning: a plain script that knows nothing of Narf.

python train.py --lr 0.001 --hidden 256
"""

import argparse
import os
from pathlib import Path

import lightning.pytorch as pl
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(pl.LightningModule):
    """A multi-layer perceptron from 64 pixels to 10 classes."""

    def __init__(self, lr: float = 1e-3, hidden: int = 256, dropout: float = 0.1, weight_decay: float = 0.0):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = nn.functional.cross_entropy(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        scores = self(x)
        self.log("val_loss", nn.functional.cross_entropy(scores, y))
        self.log("val_acc", (scores.argmax(dim=1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)


def read_digits():
    """1,797 images of 64 pixels, 0 to 16, and their labels: from the folder in NARF_DATA_DIGITS, else from scikit-learn."""
    if folder := os.environ.get("NARF_DATA_DIGITS"):
        import pandas

        table = pandas.read_parquet(Path(folder) / "digits.parquet")
        return table.drop(columns="label").to_numpy(), table["label"].to_numpy()
    digits = load_digits()
    return digits.data, digits.target


def loaders(batch_size: int) -> tuple[DataLoader, DataLoader]:
    pixels, labels = read_digits()
    x = torch.tensor(pixels / 16.0, dtype=torch.float32)
    y = torch.tensor(labels)
    train, test = train_test_split(range(len(x)), test_size=0.2, random_state=0, stratify=labels)
    return (
        DataLoader(TensorDataset(x[train], y[train]), batch_size=batch_size, shuffle=True),
        DataLoader(TensorDataset(x[test], y[test]), batch_size=256),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    pl.seed_everything(args.seed)
    torch.set_num_threads(1)
    model = Digits(args.lr, args.hidden, args.dropout, args.weight_decay)
    train, test = loaders(args.batch_size)
    checkpoint = pl.callbacks.ModelCheckpoint(dirpath="checkpoints", filename="best", monitor="val_acc", mode="max")
    trainer = pl.Trainer(
        max_epochs=args.epochs, accelerator="cpu", logger=False, callbacks=[checkpoint], enable_progress_bar=False, log_every_n_steps=1
    )
    trainer.fit(model, train, test)
    print(f"best val_acc {checkpoint.best_model_score:.4f}, in {checkpoint.best_model_path}")


if __name__ == "__main__":
    main()
