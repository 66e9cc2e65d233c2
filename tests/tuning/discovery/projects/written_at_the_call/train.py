import json
from dataclasses import asdict, dataclass
from typing import NamedTuple

import narf


class Factors(NamedTuple):
    rank: int = 8
    reg: float = 1e-3


@dataclass
class Config:
    lr: float = 0.1
    hidden: int = 16
    seed: int = 0


cfg, factors = Config(lr=0.05), Factors()
print(json.dumps({**asdict(cfg), **factors._asdict()}))
narf.log(val_loss=cfg.lr)
