import json

import narf
from tables import get_config

config = get_config("small")
print(json.dumps(config))
narf.log(accuracy=config["opt"]["lr"])
