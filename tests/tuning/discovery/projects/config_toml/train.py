"""Prepayment speed."""

import json
import tomllib
from pathlib import Path

import narf


def load():
    path = Path(__file__).with_name("hyper.toml")
    return tomllib.loads(path.read_text())


def main(cfg):
    print(json.dumps(cfg))
    narf.log(rmse=cfg["booster"]["eta"])


if __name__ == "__main__":
    main(load())
