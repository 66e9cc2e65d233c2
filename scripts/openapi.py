"""Prints the OpenAPI description of the whole API, from the application itself in a home of its own."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from narf.bootstrap import build
from narf.settings import read_settings


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Built, not started: there is nothing to end.
        platform = build(read_settings({"NARF_HOME": str(Path(folder) / "home")}), "http://127.0.0.1:1")
        json.dump(platform.app.openapi(), sys.stdout)


main()
