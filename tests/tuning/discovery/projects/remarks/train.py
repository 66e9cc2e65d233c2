"""Branch demand: what a text can be stands in help texts, comments and the functions it is handed to."""

import argparse
import json


class Smoother:
    def __init__(self, kind):
        if kind not in ("simple", "double", "triple"):
            raise ValueError(kind)


def make_norm(norm_type):
    if norm_type == "batch":
        return 1
    elif norm_type == "layer":
        return 2
    raise ValueError(norm_type)


class Config:
    learning_rate = 0.1
    # 'huber' or 'squared'
    loss = "huber"
    pooling = "mean"  # mean | max | last


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="tcn", help="supported: [tcn, lstm]")
    parser.add_argument("--smoother", default="simple")
    parser.add_argument("--norm", default="batch")
    parser.add_argument("--note", default="first try", help="say what is new (or nothing)")
    args = parser.parse_args()
    Smoother(args.smoother), make_norm(args.norm)
    print(json.dumps(vars(args) | {"loss": Config.loss, "pooling": Config.pooling, "learning_rate": Config.learning_rate}))
    log_metric("mae", 0.5)


def log_metric(name, value):
    print(name, value)


if __name__ == "__main__":
    main()
