import json

import narf

BLEND = 0.5
TREES = {"n_estimators": 30, "min_samples_leaf": 2}
SVM = dict(C=10.0, epsilon=0.1, kernel="rbf")
CHOSEN = {"poly__degree": 2, "logit__C": 0.3}
COLOURS = {"train": 1, "test": 2}
TEST_FROM, VERSION = 300, 3


class Pipeline:
    def set_params(self, **params):
        self.params = params
        return self


def fit(n_estimators, min_samples_leaf):
    return n_estimators / min_samples_leaf


pipeline = Pipeline().set_params(**CHOSEN)
print(json.dumps({"BLEND": BLEND, "TREES": TREES, "C": SVM["C"], "epsilon": SVM["epsilon"], "poly__degree": CHOSEN["poly__degree"], "logit__C": CHOSEN["logit__C"]}))
narf.log(mape=BLEND * fit(**TREES) + COLOURS["train"])
