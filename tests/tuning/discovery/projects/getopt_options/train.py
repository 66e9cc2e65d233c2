"""usage: train.py [-k NEIGHBOURS] [-l LEAF] [--weights uniform|distance]"""
import getopt
import json
import sys

import narf

neighbours, leaf_size, weights = 5, 30, "uniform"
opts, args = getopt.getopt(sys.argv[1:], "k:l:", ["neighbours=", "leaf-size=", "weights="])
for o, a in opts:
    if o in ("-k", "--neighbours"):
        neighbours = int(a)
    elif o in ("-l", "--leaf-size"):
        leaf_size = int(a)
    elif o == "--weights":
        weights = a

print(json.dumps({"neighbours": neighbours, "leaf_size": leaf_size, "weights": weights}))
narf.log(accuracy=1 / neighbours)
