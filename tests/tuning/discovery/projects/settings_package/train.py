"""`train.py [base]` names the module of settings in configs/."""
import importlib
import json
import sys

import narf

name = sys.argv[1] if len(sys.argv) > 1 else "base"
cfg = importlib.import_module(f"configs.{name}")
print(json.dumps({"model": cfg.model, "features": cfg.features}))
narf.log(average_precision=cfg.model["max_samples"])
