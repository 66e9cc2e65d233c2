import narf
class Config:
    lr = 1e-3
    hidden_size = 256
    dropout = 0.2
    epochs = 3
    data_dir = "data"
cfg = Config()
narf.log(val_loss=cfg.lr)
