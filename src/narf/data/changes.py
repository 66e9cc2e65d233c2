"""How the columns and the statistics of two versions of a table differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def compare_columns(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    old, new = ({column["name"]: column["type"] for column in columns} for columns in (before, after))
    return {
        "added": [{"name": name, "type": type} for name, type in new.items() if name not in old],
        "removed": [{"name": name, "type": type} for name, type in old.items() if name not in new],
        "changed": [{"name": n, "before": old[n], "after": t} for n, t in new.items() if n in old and old[n] != t],
    }


def compare_statistics(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """By column, what changed of rows, nulls, extremes, mean, deviation and distinct values: [before, after]."""
    changed: dict[str, Any] = {}
    for name in sorted(before.keys() & after.keys()):
        old, new = before[name], after[name]
        kept = {
            measure: [old.get(measure), new.get(measure)]
            for measure in ("count", "nulls", "nans", "min", "max", "mean", "std", "distinct")
            if old.get(measure) != new.get(measure)
        }
        if kept:
            changed[name] = kept
    return changed
