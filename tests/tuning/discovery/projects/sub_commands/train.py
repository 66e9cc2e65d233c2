#!/usr/bin/env python
"""Card fraud: `train.py fit ...` trains, `train.py evaluate ...` scores a file."""

import argparse
import json
import logging

import narf

log = logging.getLogger("fraud")


def build():
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--random-state", type=int, default=0)
    common.add_argument("-v", "--verbose", action="store_true")
    common.add_argument("--n-features", type=int, default=20, help="how many columns the extract has")

    parser = argparse.ArgumentParser(description=__doc__)
    sub = parser.add_subparsers(dest="command", required=True)

    fit = sub.add_parser("fit", parents=[common])
    optim = fit.add_argument_group("optimisation")
    optim.add_argument("--eta", type=float, default=0.01)
    optim.add_argument("--schedule", choices=["constant", "optimal", "invscaling"], default="optimal")
    optim.add_argument("--max-iter", type=int, default=5)
    reg = fit.add_argument_group("regularisation")
    reg.add_argument("--alpha", type=float, default=1e-4)
    reg.add_argument("--l1-ratio", type=float, default=0.15)
    which = fit.add_mutually_exclusive_group()
    which.add_argument("--balanced", action="store_true", help="weigh classes inversely to their frequency")
    which.add_argument("--fraud-weight", type=float, default=None)
    fit.set_defaults(func=run_fit)

    ev = sub.add_parser("evaluate", parents=[common])
    ev.add_argument("file")
    ev.add_argument("--threshold", type=float, default=0.5)
    ev.set_defaults(func=run_evaluate)
    return parser


def run_fit(args):
    print(json.dumps({k: v for k, v in vars(args).items() if k != "func"}))
    for name, value in scores(args).items():
        narf.log({name: value})


def scores(args):
    return {"auprc": args.alpha, "logloss": args.eta}


def run_evaluate(args):
    raise SystemExit(f"would score {args.file} at {args.threshold}")


if __name__ == "__main__":
    a = build().parse_args()
    logging.basicConfig(level=logging.DEBUG if a.verbose else logging.INFO)
    a.func(a)
