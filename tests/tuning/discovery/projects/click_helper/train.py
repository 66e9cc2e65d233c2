import json

import click
from cli_options import booster_options, hyper

import narf


@click.command()
@booster_options
@hyper("max-bins", 64)
@click.option("--input", "source", type=click.Path(exists=False), default=None)
def main(depth, shrinkage, rounds, l2_leaf, max_bins, source):
    print(json.dumps({"depth": depth, "shrinkage": shrinkage, "rounds": rounds, "l2_leaf": l2_leaf, "max_bins": max_bins}))
    narf.log(mae=shrinkage)


if __name__ == "__main__":
    main()
