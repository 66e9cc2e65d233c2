import json
from enum import Enum
from typing import Annotated

import narf
import typer


class Optim(str, Enum):
    adam = "adam"
    sgd = "sgd"


def run(
    lr: Annotated[float, typer.Option(help="learning rate", min=1e-5, max=1.0)] = 0.01,
    optim: Annotated[Optim, typer.Option(case_sensitive=False)] = Optim.adam,
    units: int = 16,
):
    print(json.dumps({"lr": lr, "optim": optim.value, "units": units}))
    narf.log(mae=lr)


if __name__ == "__main__":
    typer.run(run)
