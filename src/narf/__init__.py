"""Narf: one machine-learning platform from raw data to a model in production.

`import narf` is for those who want more than the unchanged script gets by itself. It imports nothing but names: each is loaded on
first use.

    narf.log(loss=0.3, accuracy=0.9)            metrics, at the next step or `step=...`
    narf.params.get("lr", 1e-3)                 a parameter: the tuned value if there is one; recorded
    narf.artifact("confusion.png")              a file, or bytes or text under a name
    narf.image, narf.figure, narf.table         a picture, a matplotlib or plotly figure, rows and columns
    with narf.run("baseline"): ...              a run outside the platform, also in a notebook
    narf.checkpoint(...)                        resume a plain PyTorch loop in two lines
    narf.dataset, narf.add_dataset              a dataset version by name; a new one of a frame or folder
    narf.tune, narf.deploy, narf.find_runs      the platform's other services
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from narf.training.checkpoint import checkpoint
    from narf.training.media import figure, image, table
    from narf.training.outside import run
    from narf.training.sdk import artifact, log, params

__version__ = "0.1.0"

_HOMES = {
    "log": "narf.training.sdk",
    "params": "narf.training.sdk",
    "artifact": "narf.training.sdk",
    "image": "narf.training.media",
    "figure": "narf.training.media",
    "table": "narf.training.media",
    "run": "narf.training.outside",
    "checkpoint": "narf.training.checkpoint",
    "dataset": "narf.data.sdk",
    "add_dataset": "narf.data.sdk",
    "tune": "narf.client.tuning",
    "deploy": "narf.client.endpoints",
    "find_runs": "narf.client.runs",
}
__all__ = ["artifact", "checkpoint", "figure", "image", "log", "params", "run", "table"]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'narf' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({"__version__", *_HOMES})
