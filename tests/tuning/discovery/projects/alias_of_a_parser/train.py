import argparse
import json

import narf

OPTIMIZERS = {name: object() for name in ("adam", "sgd", "radam")}
POOLS = {"mean": len, "max": max}


class Options:
    def __init__(self):
        self.parser = argparse.ArgumentParser()

    def parse(self):
        add = self.parser.add_argument
        add("--embedding-dim", type=int, default=1 << 4)
        add("--optimizer", choices=list(OPTIMIZERS), default="adam")
        add("--pool", choices=POOLS, default="mean")
        add("--lr", type=float, default=float("2e-2"))
        add("--local_rank", type=int, default=-1)
        return self.parser.parse_args()


options = Options().parse()
print(json.dumps({"embedding_dim": options.embedding_dim, "optimizer": options.optimizer, "pool": options.pool, "lr": options.lr}))
narf.log(loss=options.lr)
