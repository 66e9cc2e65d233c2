import json

from pkg.arguments import build

import narf

a = build().parse_args()
print(json.dumps(vars(a)))
narf.log({"rmse": a.learning_rate, "mae": a.learning_rate})
