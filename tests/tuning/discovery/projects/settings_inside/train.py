"""Credit limits by ridge regression, settings filled in by functions and classes."""

import json
from types import SimpleNamespace


class Config:
    class schedule:
        warmup_share = 0.1
        decay_rate = 0.9


class Defaults:
    def __init__(self):
        self.ridge_alpha = 1.5
        self.n_lags = 6
        self.seed = 3


def get_config():
    config = SimpleNamespace()
    config.lr = 2.0**-6
    config.hidden = 32
    config.momentum = None
    return config


def optimiser(**kwargs):
    return {"weight_decay": kwargs.get("weight_decay", 1e-4), "verbose": kwargs.get("verbose", 1)}


def main():
    config, defaults = get_config(), Defaults()
    settings = {"batch_size": 64, "epochs": 2}
    settings["clip"] = 5.0
    print(
        json.dumps(
            vars(config) | vars(defaults) | settings | optimiser() | {"warmup_share": Config.schedule.warmup_share, "decay_rate": Config.schedule.decay_rate}
        )
    )
    report("mae", 0.5)


def report(name, value):
    log_metric(name, value)


def log_metric(name, value):
    print(name, value)


if __name__ == "__main__":
    main()
