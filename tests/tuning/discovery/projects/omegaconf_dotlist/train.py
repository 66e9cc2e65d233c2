import json
import sys

from omegaconf import OmegaConf
from schema import Main

import narf

conf = OmegaConf.structured(Main)
conf.merge_with_dotlist(sys.argv[1:])
print(
    json.dumps(
        {
            "penalty": {"c": conf.penalty.c, "elastic": conf.penalty.elastic},
            "solver": conf.solver.name,
            "tol": conf.tol,
            "degree": conf.degree,
        }
    )
)
narf.log(val_accuracy=conf.penalty.c)
