"""A classifier of handwritten digits in Lightning, configured with LightningCLI: `python train.py fit --model.lr 0.01`."""

import lightning
import torch
from lightning.pytorch.cli import LightningCLI
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self, lr: float = 1e-3, hidden: int = 32, dropout: float = 0.1):
        super().__init__()
        self.save_hyperparameters()
        self.network = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    def training_step(self, batch):
        x, y = batch
        return nn.functional.cross_entropy(self.network(x), y)

    def validation_step(self, batch):
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.network(x), y))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


class Images(lightning.LightningDataModule):
    def __init__(self, batch_size: int = 64, num_workers: int = 0):
        super().__init__()
        self.save_hyperparameters()

    def setup(self, stage):
        features, labels = load_digits(return_X_y=True)
        self.x, self.y = torch.tensor(features, dtype=torch.float32) / 16, torch.tensor(labels)

    def train_dataloader(self):
        return DataLoader(TensorDataset(self.x[:1500], self.y[:1500]), batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(TensorDataset(self.x[1500:], self.y[1500:]), batch_size=297)


def main():
    LightningCLI(
        Digits,
        Images,
        seed_everything_default=0,
        save_config_callback=None,
        trainer_defaults={
            "max_epochs": 2,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "enable_progress_bar": False,
        },
    )


if __name__ == "__main__":
    main()
