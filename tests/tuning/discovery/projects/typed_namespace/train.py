import argparse
import json
from typing import get_type_hints

import narf


class Args(argparse.Namespace):
    lr: float = 1e-2
    gamma: float = 0.97  # discount
    entropy_coef: float = 0.01
    hidden: int = 16
    n_steps: int = 8
    episodes: int = 10
    seed: int = 1

    @classmethod
    def from_command_line(cls):
        p = argparse.ArgumentParser()
        for name, kind in get_type_hints(cls).items():
            p.add_argument("--" + name, type=kind, default=getattr(cls, name), metavar=kind.__name__.upper())
        return p.parse_args(namespace=cls())


args = Args.from_command_line()
print(json.dumps(vars(args)))
narf.log(reward=args.gamma)
