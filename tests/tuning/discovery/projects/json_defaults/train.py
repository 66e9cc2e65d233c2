"""Product embeddings. Every key of the JSON may be overridden on the command line: --lr 0.1"""

import argparse
import json
import os

import narf

pre = argparse.ArgumentParser(add_help=False)
pre.add_argument("--config", default=os.path.join(os.path.dirname(os.path.abspath(__file__)), "base.json"))
known, remaining = pre.parse_known_args()
with open(known.config) as fh:
    defaults = json.load(fh)

parser = argparse.ArgumentParser(parents=[pre])
for key, val in defaults.items():
    parser.add_argument(f"--{key}", type=type(val))
parser.add_argument("--normalize", action=argparse.BooleanOptionalAction, default=True)
parser.set_defaults(**defaults)
args = parser.parse_args(remaining)

print(json.dumps({k: v for k, v in vars(args).items() if k != "config"}))
narf.log(loss=args.lr)
