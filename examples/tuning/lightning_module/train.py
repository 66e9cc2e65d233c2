"""A classifier of handwritten digits in Lightning, whose parameters are the constructor's."""

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self, lr: float = 1e-3, hidden: int = 32, dropout: float = 0.1, batch_norm: bool = False):
        super().__init__()
        self.save_hyperparameters()
        middle = [nn.BatchNorm1d(hidden)] if batch_norm else []
        self.network = nn.Sequential(nn.Linear(64, hidden), *middle, nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, 10))

    def step(self, batch, stage):
        x, y = batch
        scores = self.network(x)
        loss = nn.functional.cross_entropy(scores, y)
        self.log(f"{stage}_loss", loss)
        self.log(f"{stage}_accuracy", (scores.argmax(1) == y).float().mean())
        return loss

    def training_step(self, batch):
        return self.step(batch, "train")

    def validation_step(self, batch):
        self.step(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr)


def main():
    lightning.seed_everything(0)
    features, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(features, dtype=torch.float32) / 16, torch.tensor(labels))
    train, validation = torch.utils.data.random_split(data, [1500, 297])
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(Digits(), DataLoader(train, batch_size=64, shuffle=True), DataLoader(validation, batch_size=297))


if __name__ == "__main__":
    main()
