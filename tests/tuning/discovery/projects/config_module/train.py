import json

from config import cfg

import narf

print(json.dumps({k: getattr(cfg, k) for k in dir(cfg) if k.isupper()}))
narf.log(clustering_loss=cfg.LR)
