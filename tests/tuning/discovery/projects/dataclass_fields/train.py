import json
from dataclasses import asdict

from config import parse

import narf

cfg = parse()
print(json.dumps(asdict(cfg)))
for name in ("train", "valid"):
    narf.log({f"{name}_loss": cfg.lr})
