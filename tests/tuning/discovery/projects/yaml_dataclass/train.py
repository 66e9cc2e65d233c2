import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

import narf


@dataclass
class TrainConfig:
    lr: float = 1e-3
    layers: int = 1
    dropout: float = 0.0
    width: int = 16
    optimizer: str = "adam"
    log_dir: str = "runs"
    seed: int = 0

    @classmethod
    def load(cls, path):
        data = yaml.safe_load(Path(path).read_text())
        data["lr"] = float(data["lr"])  # YAML reads 5e-3 as text
        return cls(**data)


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("-c", "--cfg", default=str(Path(__file__).parent / "config" / "default.yml"))
    cfg = TrainConfig.load(ap.parse_args().cfg)
    print(json.dumps(asdict(cfg)))
    narf.log(eval_mae=cfg.lr)


if __name__ == "__main__":
    main()
