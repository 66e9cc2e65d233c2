import json
import os
from types import SimpleNamespace

import yaml

import narf

with open(os.path.join(os.path.dirname(__file__), "params.yaml")) as f:
    params = yaml.safe_load(f)
train_cfg = SimpleNamespace(**params["train"])
print(json.dumps(params))
for step in range(3):
    narf.log(brier_score=train_cfg.learning_rate)
