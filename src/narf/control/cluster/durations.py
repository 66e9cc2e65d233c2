"""Durations: how long similar workloads ran before, for forecasts. Kept in memory, filled from the database at the start."""

from __future__ import annotations

import threading

from narf.control.database import Database
from narf.control.workloads import store
from narf.domain.workload import Workload, WorkloadState
from narf.scheduling.requests import Forecast
from narf.scheduling.simulator.history import History


class Durations:
    def __init__(self, database: Database) -> None:
        self._history, self._lock = History(), threading.Lock()
        self._told: dict[tuple[str, ...], Forecast | None] = {}  # until the next one ends
        with database.read() as connection:
            for workload in store.in_states(connection, [WorkloadState.SUCCEEDED]):
                self.ended(workload)

    def ended(self, workload: Workload) -> None:
        """Counts `workload` if it ran to its end; one that failed says little about how long others run."""
        if workload.state is WorkloadState.SUCCEEDED and workload.used_seconds > 0:
            with self._lock:
                self._history.add(_similar(workload), workload.used_seconds)
                self._told.clear()

    def forecast(self, workload: Workload) -> Forecast | None:
        similar = _similar(workload)
        with self._lock:
            if similar not in self._told:
                self._told[similar] = self._history.forecast(similar)
            return self._told[similar]


def _similar(workload: Workload) -> tuple[str, ...]:
    """From the same user's same script at the same size, to anybody's workload of the same kind."""
    what = workload.program.script or " ".join(workload.program.command[:2])
    gpus = f"{workload.resources.gpu * workload.replicas:g}"
    return (f"{workload.owner}|{what}|{gpus}", f"{workload.owner}|{what}", f"|{what}|{gpus}", f"{workload.kind}|{gpus}")
