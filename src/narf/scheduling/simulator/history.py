"""History: how long similar jobs ran, as far as is known at the time, turned into a forecast."""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence

from narf.scheduling.requests import Forecast

FEWEST = 3
MOST_KEPT = 400


class History:
    """Durations of ended jobs by what makes them similar. `add` as they end, `forecast` as new ones come."""

    def __init__(self) -> None:
        self._sorted: dict[str, list[float]] = {}
        self._recent: dict[str, list[float]] = {}

    def add(self, similar: Sequence[str], seconds: float) -> None:
        for key in (*similar, ""):
            ordered = self._sorted.setdefault(key, [])
            recent = self._recent.setdefault(key, [])
            insort(ordered, seconds)
            recent.append(seconds)
            if len(recent) > MOST_KEPT:
                ordered.remove(recent.pop(0))

    def forecast(self, similar: Sequence[str]) -> Forecast | None:
        """By the nearest likeness that has been seen often enough; None when nothing has."""
        for key in (*similar, ""):
            ordered = self._sorted.get(key, ())
            if len(ordered) >= FEWEST:
                return Forecast(low=_at(ordered, 0.1), middle=_at(ordered, 0.5), high=_at(ordered, 0.9))
        return None


def _at(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
