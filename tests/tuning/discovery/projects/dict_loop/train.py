"""Churn: all settings have one table."""

import argparse
import json

import narf

DEFAULTS = {
    "learning_rate": 0.1,
    "subsample": 0.8,
}
INT_DEFAULTS = dict(n_estimators=30, max_depth=3, min_samples_leaf=20)

parser = argparse.ArgumentParser()
for name, value in DEFAULTS.items():
    parser.add_argument("--" + name.replace("_", "-"), type=float, default=value)
for name, value in INT_DEFAULTS.items():
    parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
parser.add_argument("--out", default=None)
args = parser.parse_args()
params = {k: getattr(args, k) for k in (*DEFAULTS, *INT_DEFAULTS)}
print(json.dumps(params))
narf.log(gini=params["subsample"])
