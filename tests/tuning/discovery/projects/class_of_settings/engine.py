import json

import narf

STUMP_DEPTH = 3
TRADING_DAYS = 252
GINI_FACTOR = 2


class Experiment:
    hparams: dict = {}

    def fit(self):
        print(json.dumps({**self.hparams, "STUMP_DEPTH": STUMP_DEPTH, "days": TRADING_DAYS}))
        auc = self.hparams["lr"]
        narf.log(gini=GINI_FACTOR * auc - 1)
