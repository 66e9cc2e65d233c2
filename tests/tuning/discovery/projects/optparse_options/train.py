# ported from the 2014 scoring box
import json
from optparse import OptionParser

import narf

op = OptionParser(usage="%prog [options]")
op.add_option("-C", "--cost", dest="cost", type="float", default=1.0, help="cost of an error")
op.add_option("-g", "--gamma", type="float", default=0.05)
op.add_option("-k", "--kernel", type="choice", choices=["rbf", "poly", "sigmoid"], default="rbf")
op.add_option("-d", "--degree", type="int", default=3)
op.add_option("--probability", action="store_true", default=False)
op.add_option("-o", "--out", default="model.pkl", help="where to write")
opts, rest = op.parse_args()

print(json.dumps(vars(opts)))
narf.log(roc_auc=opts.gamma)
