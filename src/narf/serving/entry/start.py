"""Starts a program of Narf's for models in the environment that the model needs: `python start.py serve|package|predict ARGUMENTS`.

In a folder of its own: a script's folder is searched for imports first, and `serving` has an `http`. NARF_BESIDE says that this is the
environment of a run: its packages come first, the platform's serve for what it has not. It holds the platform's version of Python,
where Narf is, and where the platform's packages are.
"""

from __future__ import annotations

import importlib
import os
import sys

_PROGRAMS = {"serve": "narf.serving.replica", "package": "narf.serving.packaging.__main__", "predict": "narf.serving.batch"}


def main() -> None:
    name = sys.argv.pop(1)
    _use_the_platforms_packages()
    sys.exit(importlib.import_module(_PROGRAMS[name]).main())


def _use_the_platforms_packages() -> None:
    """Exits with a sentence where the two environments have different Pythons: compiled packages fit one of them only."""
    version, *places = os.environ.get("NARF_BESIDE", "").split(os.pathsep)
    if not places:
        return
    ours = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if ours != version:
        sys.exit(
            f"narf: the run's environment has Python {ours}, the platform {version}: what that run made cannot be loaded here. "
            "Train with the platform's Python, or save the model as ONNX or TorchScript from a run without an environment of its own."
        )
    sys.path.insert(0, places[0])
    import narf  # noqa: F401 - this one, whatever the environment has of that name

    sys.path.remove(places[0])
    sys.path.extend(place for place in places if place not in sys.path)


if __name__ == "__main__":
    main()
