"""Alive: what waits or holds capacity, kept in memory from pass to pass. Only what has changed since is read and parsed again."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from sqlalchemy import Connection

from narf.control.workloads import store
from narf.control.workloads.store import Attempt
from narf.domain.workload import Workload, WorkloadState

ALIVE = (
    WorkloadState.QUEUED,
    WorkloadState.ADMITTED,
    WorkloadState.STARTING,
    WorkloadState.RUNNING,
    WorkloadState.PREEMPTING,
)


class Alive:
    """Those in one of `states`. Every change of a workload, and of its current attempt, raises its version; so what is known of a version stays true."""

    def __init__(self, states: Sequence[WorkloadState] = ALIVE) -> None:
        self._states = frozenset(states)
        self._known: dict[str, tuple[Workload, Attempt | None]] = {}
        self._lock = threading.Lock()

    def load(self, connection: Connection) -> Sequence[tuple[Workload, Attempt | None]]:
        """Each with its current attempt, if it holds capacity; oldest first."""
        with self._lock:
            versions = store.versions(connection, sorted(self._states))
            stale = [id_ for id_, version in versions if id_ not in self._known or self._known[id_][0].version != version]
            fresh = {workload.id: workload for workload in store.of_ids(connection, stale)}
            holding = [workload.id for workload in fresh.values() if workload.state is not WorkloadState.QUEUED]
            attempts = store.attempts_of(connection, holding) if holding else {}
            known = self._known
            for id_, workload in fresh.items():
                current = next((a for a in attempts.get(id_, ()) if a.attempt == workload.attempt), None)
                known[id_] = (workload, current)
            # Between the two statements it may have ended, where each statement sees what is committed by then.
            self._known = {id_: known[id_] for id_, _ in versions if id_ in known and known[id_][0].state in self._states}
            return list(self._known.values())
