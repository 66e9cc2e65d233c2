from __future__ import annotations

import argparse
from dataclasses import dataclass, fields


@dataclass
class Cfg:
    lr: float = 2e-3
    beta1: float = 0.9
    hidden_size: int = 16
    num_layers: int = 1
    dropout: float = 0.0
    bidirectional: bool = False
    cell: str = "lstm"
    batch_size: int = 16
    n_epochs: int = 2
    seed: int = 42
    run_name: str = "default"


def str2bool(v):
    return str(v).lower() in ("1", "true", "yes")


def parse(cls=Cfg):
    parser = argparse.ArgumentParser()
    for f in fields(cls):
        kind = {"int": int, "float": float, "str": str, "bool": str2bool}[f.type]
        parser.add_argument(f"--{f.name}", type=kind, default=f.default)
    return cls(**vars(parser.parse_args()))
