import argparse
import json

import narf


def positive(value):
    return max(0.0, value)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--activation", type=str, default="relu")
    parser.add_argument("--scheduler", default="cosine", help="how the step size falls")
    parser.add_argument("--name", default="baseline")
    args = parser.parse_args()
    act = {"relu": positive, "identity": float}[args.activation]
    if args.scheduler == "cosine":
        decay = 0.5
    elif args.scheduler == "step":
        decay = 0.25
    else:
        raise ValueError(args.scheduler)
    print(json.dumps({"activation": args.activation, "scheduler": args.scheduler}))
    narf.log(loss=act(decay))


main()
