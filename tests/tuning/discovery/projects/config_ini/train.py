import configparser
import json
from pathlib import Path

import narf

config = configparser.ConfigParser()
config.read(Path(__file__).parent / "train.ini")
section = config["model"]
hidden = section.getint("hidden")
dropout = config.getfloat("model", "dropout")
lr = config.getfloat("training", "lr")
weight_decay = float(config["training"]["weight_decay"])
shuffle = config["training"]["shuffle"] == "yes"
print(json.dumps({"hidden": hidden, "dropout": dropout, "lr": lr, "weight_decay": weight_decay, "shuffle": shuffle}))
narf.log(huber=lr)
