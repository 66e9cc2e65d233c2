"""python train.py epsilon=0.2 c=3"""
import json
import sys
from ast import literal_eval

import narf


def experiment(c=2.0, epsilon=0.1, shrinking=True, folds=3, name="svr"):
    print(json.dumps({"c": c, "epsilon": epsilon, "shrinking": shrinking}))
    narf.log(cv_mae=c * folds)


def parse(words):
    return {key: literal_eval(value) for key, value in (word.split("=", 1) for word in words)}


if __name__ == "__main__":
    experiment(**parse(sys.argv[1:]))
