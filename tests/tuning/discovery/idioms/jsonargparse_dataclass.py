from dataclasses import dataclass, field
from typing import Literal
from jsonargparse import ArgumentParser
@dataclass
class Optim:
    name: Literal["adam", "sgd"] = "adam"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
@dataclass
class Net:
    hidden: int = 32
    dropout: float = 0.0
parser = ArgumentParser()
parser.add_argument("--config", action="config")
parser.add_class_arguments(Optim, "optim")
parser.add_argument("--net", type=Net, default=Net())
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--max_epochs", type=int, default=1)
cfg = parser.parse_args()
import narf
narf.log(loss=cfg.optim.lr)
