"""Runs a script up to where it would train and writes down the parameters it declares.

    python probe/__main__.py RESULT KEEP_OUT SECONDS SCRIPT ARGUMENTS...

RESULT: the JSON file to write. KEEP_OUT: a folder in which nothing may be changed. SECONDS: when to look at what it holds,
if it has not begun to train by then.
"""

from __future__ import annotations

import importlib.util
import os
import sys

if __name__ == "__main__":
    del sys.path[0]  # our own folder, whose modules have names of libraries
    root = os.path.abspath(__file__)
    for _ in range(4):
        root = os.path.dirname(root)
    # Narf need not be installed where the script runs.
    spec = importlib.util.spec_from_file_location("narf", os.path.join(root, "__init__.py"), submodule_search_locations=[root])
    assert spec is not None and spec.loader is not None
    sys.modules["narf"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["narf"])
    from narf.tuning.discovery.probe.start import start

    start(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4], sys.argv[5:])
