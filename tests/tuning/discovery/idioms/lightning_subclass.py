import lightning.pytorch as pl, torch
from lightning.pytorch.cli import LightningCLI
class Base(pl.LightningModule):
    def __init__(self, lr: float = 1e-3, weight_decay: float = 1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.net = torch.nn.Linear(4, 1)
    def training_step(self, batch, i):
        loss = self.net(batch[0]).mean()
        self.log("train_loss", loss)
        return loss
    def validation_step(self, batch, i):
        self.log("val_loss", self.net(batch[0]).mean())
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
class Wide(Base):
    def __init__(self, width: int = 64, dropout: float = 0.1, **kwargs):
        super().__init__(**kwargs)
class Data(pl.LightningDataModule):
    def __init__(self, batch_size: int = 16, num_workers: int = 0, root: str = "."):
        super().__init__()
        self.batch_size = batch_size
    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(32, 4)), batch_size=self.batch_size)
    val_dataloader = train_dataloader
def main():
    LightningCLI(Wide, Data, save_config_callback=None, trainer_defaults={"max_epochs": 1, "logger": False, "enable_checkpointing": False})
if __name__ == "__main__":
    main()
