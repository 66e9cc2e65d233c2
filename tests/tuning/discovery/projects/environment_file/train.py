import json
import os
from pathlib import Path

from dotenv import load_dotenv

import narf

load_dotenv(Path(__file__).with_name("settings.env"))
alpha = float(os.environ["RIDGE_ALPHA"])
degree = int(os.environ["POLY_DEGREE"])
interactions = os.environ["WITH_INTERACTIONS"].lower() in ("1", "true", "yes")
print(json.dumps({"RIDGE_ALPHA": alpha, "POLY_DEGREE": degree, "WITH_INTERACTIONS": interactions}))
narf.log(cv_r2=alpha)
