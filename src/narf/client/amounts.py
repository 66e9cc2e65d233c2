"""Sizes and lengths of time as people write them: 4Gi, 90m."""

from __future__ import annotations

import re

from narf.domain.errors import BadInput

_UNITS = {"": 1, "k": 1000, "Ki": 1 << 10, "M": 10**6, "Mi": 1 << 20, "G": 10**9, "Gi": 1 << 30, "T": 10**12, "Ti": 1 << 40}
_TIMES = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_size(text: str) -> int:
    """Bytes of "4Gi", "500M", "1000000"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(k|Ki|M|Mi|G|Gi|T|Ti|)B?", text.strip())
    if not match:
        raise BadInput(f"{text[:40]!r} is no size.", remedy="Write it as 500M, 4Gi or 2T.", field="memory")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_time(text: str, field: str = "time_limit") -> float:
    """Seconds of "90m", "12h", "45"."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise BadInput(f"{text[:40]!r} is no length of time.", remedy="Write it as 90m, 12h or 2d.", field=field)
    return float(match[1]) * _TIMES[match[2] or "s"]
