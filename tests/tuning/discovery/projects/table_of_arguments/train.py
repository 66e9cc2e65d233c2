"""Anomalies in ledger postings. PyTorch, argparse with sub-dictionaries of arguments."""
import argparse
import json

import narf

ARGUMENTS = {
    "model": {
        "--code-size": dict(type=int, default=6, help="units in the middle"),
        "--depth": dict(type=int, default=2),
        "--dropout": dict(type=float, default=0.0),
    },
    "optimisation": {
        "--lr": dict(type=float, default=0.01),
        "--momentum": dict(type=float, default=0.9),
        "--batch-size": dict(type=int, default=64),
        "--epochs": dict(type=int, default=3),
        "--amsgrad": dict(action="store_true"),
    },
    "other": {"--seed": dict(type=int, default=0), "--out-dir": dict(default="out"), "--print-every": dict(type=int, default=10)},
}


def parser():
    p = argparse.ArgumentParser(description=__doc__)
    for title, options in ARGUMENTS.items():
        group = p.add_argument_group(title)
        for flag, kwargs in options.items():
            group.add_argument(flag, **kwargs)
    return p


a = parser().parse_args()
print(json.dumps(vars(a)))
narf.log(loss=a.lr)
