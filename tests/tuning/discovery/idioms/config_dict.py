import torch
config = {
    "lr": 1e-3,
    "batch_size": 32,
    "dropout": 0.1,
    "optimizer": "adam",
    "epochs": 2,
    "model": {"hidden": 64, "layers": 2},
    "data_path": "data",
    "seed": 42,
}
def train(config):
    import narf
    for epoch in range(config["epochs"]):
        narf.log(val_loss=config["lr"] * config["model"]["hidden"])
if __name__ == "__main__":
    train(config)
