"""Runs in the nightly container: everything comes from the environment."""

import json
import os

import narf

C = float(os.environ.get("LOGREG_C", "1.0"))
L1_RATIO = float(os.getenv("LOGREG_L1_RATIO", 0.5))
FIT_INTERCEPT = os.environ.get("LOGREG_FIT_INTERCEPT", "true").lower() == "true"
SHUFFLE = os.environ.get("LOGREG_SHUFFLE", "0") == "1"
WARM = bool(int(os.getenv("LOGREG_WARM", "1")))
BUCKET = os.environ.get("DATA_BUCKET", "s3://bank/none")

print(json.dumps({"LOGREG_C": C, "LOGREG_L1_RATIO": L1_RATIO, "LOGREG_FIT_INTERCEPT": FIT_INTERCEPT, "LOGREG_SHUFFLE": SHUFFLE, "LOGREG_WARM": WARM}))
narf.log(val_log_loss=C)
