"""The same platform as the endpoints' tests."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

_place = Path(__file__).parents[1] / "endpoints" / "conftest.py"
_spec = importlib.util.spec_from_file_location("served_platform", _place)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["served_platform"] = _module
_spec.loader.exec_module(_module)
served = _module.served
