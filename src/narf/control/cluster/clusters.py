"""The clusters that workloads run on: those of the settings, and those that an admin has connected while the platform runs.

To everybody else this is a mapping from a cluster's name to its backend. What is connected stands in the database, so every process of
the control plane finds it, after a restart too.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from narf.backends.protocol import Backend, JobPhase
from narf.control.audit.store import record
from narf.control.cluster import store
from narf.control.cluster.store import Connected
from narf.control.database import Database
from narf.control.workloads import store as workloads
from narf.control.workloads.store import Attempt
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NarfError, NotFound
from narf.domain.names import check_name
from narf.domain.workload import EndReason, Workload, WorkloadState

KINDS = ("ray",)
_SYNC_SECONDS = 2.0
_STOP_SECONDS = 60.0
_HOLDING = tuple(state for state in WorkloadState if state.holds_capacity)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """One cluster as it stands. `sentence`: why it shows no node, "" when it does. `is_fixed`: of the settings, so not removed here."""

    connected: Connected
    nodes: int
    gpus: int
    sentence: str = ""
    is_fixed: bool = False


def backend_name(kind: str, address: str) -> str:
    """A name for the cluster at `address`, where nobody has given one."""
    return f"{kind}-{hashlib.sha256(address.encode()).hexdigest()[:8]}"


class Clusters(Mapping[str, Backend]):
    """`fixed` come from the settings, with their addresses.

    Args:
        connect: makes the backend of a cluster; raises NarfError when a package is missing.
        reach: raises BadInput when nothing answers at an address of this kind, or it is no address.
        now: the clock.

    `changed` is called when a cluster came or went. `lose` ends the attempt of a workload whose cluster was removed, so that it is tried again.
    """

    def __init__(
        self,
        database: Database,
        fixed: Mapping[str, tuple[Backend, Connected]],
        connect: Callable[[Connected], Backend],
        reach: Callable[[str, str, bool], None],
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._connect, self._reach, self._now = database, connect, reach, now
        self._fixed = dict(fixed)
        self._open: dict[str, Backend] = {}
        self._rows: dict[str, Connected] = {}
        self._problems: dict[str, str] = {}
        self._synced_at = float("-inf")
        self._closed = False
        self._lock = threading.RLock()
        self.changed: Callable[[], None] = lambda: None
        self.lose: Callable[[Workload, str], None] = lambda _workload, _detail: None

    # --- the mapping

    def __getitem__(self, name: str) -> Backend:
        if name in self._fixed:
            return self._fixed[name][0]
        self._sync()
        with self._lock:
            return self._open[name]

    def __iter__(self) -> Iterator[str]:
        self._sync()
        with self._lock:
            return iter([*self._fixed, *self._open])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def growing(self) -> list[str]:
        """The clusters that get more nodes by themselves."""
        self._sync()
        with self._lock:
            return [name for name, row in self._rows.items() if row.may_grow]

    # --- for people

    def states(self) -> list[ClusterState]:
        """Of every cluster, those of the settings first."""
        self._sync(force=True)
        with self._lock:
            rows = [*((row, True) for _, row in self._fixed.values()), *((row, False) for row in self._rows.values())]
        return [self._state(row, is_fixed=is_fixed) for row, is_fixed in rows]

    def _state(self, row: Connected, *, is_fixed: bool) -> ClusterState:
        with self._lock:
            sentence = self._problems.get(row.name, "")
        nodes = []
        if not sentence:
            try:
                nodes = self[row.name].capacity()
            except (KeyError, NarfError, OSError, ValueError) as error:
                sentence = f"It cannot be asked for its nodes: {error}"
            else:
                if not nodes:
                    sentence = f"It shows no node: nothing has answered at {row.address} of late, or the cluster has none."
        return ClusterState(connected=row, nodes=len(nodes), gpus=sum(node.gpus for node in nodes), sentence=sentence, is_fixed=is_fixed)

    def add(self, name: str, kind: str, address: str, *, may_grow: bool = False, offline: bool = False, by: Principal) -> ClusterState:
        """Connect the cluster at `address`; its nodes take workloads as soon as they are seen.

        Args:
            offline: although nothing answers there now.
        Raises:
            BadInput: a wrong name, kind or address, or nothing answers. Conflict: the name or the address is connected already.
            MissingExtra: the packages for this kind are not installed.
        """
        if kind not in KINDS:
            raise BadInput(f"There is no kind of cluster {kind[:40]!r}.", remedy=f"Use one of {', '.join(KINDS)}.", field="kind")
        name = check_name(name, kind="cluster")
        self._sync(force=True)
        for row in [*(row for _, row in self._fixed.values()), *self._rows.values()]:
            if row.name == name:
                raise Conflict(f"There is a cluster {name!r} already.", remedy="Choose another name: --name", field="name")
            if row.kind == kind and row.address == address:
                raise Conflict(f"The cluster at {address} is connected already, as {row.name!r}.", field="address")
        self._reach(kind, address, offline)
        at = self._now()
        row = Connected(name=name, kind=kind, address=address, may_grow=may_grow, added_by=by.user, added_at=at)
        backend = self._connect(row)
        with self._database.write() as connection:
            store.add_cluster(connection, row)
            record(connection, at, by.user, "add", "cluster", name, address=address, cluster_kind=kind)
        with self._lock:
            self._rows[name], self._open[name] = row, backend
        self.changed()
        return self._state(row, is_fixed=False)

    def remove(self, name: str, *, force: bool = False, by: Principal) -> None:
        """Let go of a cluster. With `force`, what runs there is told to stop and starts again elsewhere.

        Raises:
            NotFound. Conflict: it is one of the settings, or something runs there.
        """
        if name in self._fixed:
            where = "this machine itself" if name == "local" else "set by NARF_RAY_ADDRESS"
            raise Conflict(f"The cluster {name!r} is {where}, so it is not removed here.", remedy="Unset it and start the platform again.")
        self._sync(force=True)
        with self._lock:
            if name not in self._rows:
                raise NotFound("cluster", name)
        running = self._running_on(name)
        if running and not force:
            some = ", ".join(workload.id for workload, _ in running[:3]) + (", …" if len(running) > 3 else "")
            raise Conflict(
                f"{len(running)} workload{'s run' if len(running) > 1 else ' runs'} on {name!r}: {some}.",
                remedy="Wait for them or cancel them, or start them again elsewhere: narf cluster remove --force", code="in_use",
            )  # fmt: skip
        at = self._now()
        with self._database.write() as connection:
            store.remove_cluster(connection, name)  # first, so that nothing more is admitted there
            record(connection, at, by.user, "remove", "cluster", name, forced=force)
        running = self._running_on(name)  # looked at while it still is in the mapping: what is not there counts as lost
        with self._lock:  # out of the mapping, but open until what runs there was told to stop
            backend = self._open.pop(name, None)
            self._rows.pop(name, None)
        self.changed()
        stopped = []
        for workload, attempt in running:
            stopped.append(f"{workload.id}.{attempt.attempt}")
            if backend is not None:
                backend.cancel(stopped[-1], EndReason.PREEMPTED)
            self.lose(workload, f"The cluster {name!r} was removed.")
        if backend is not None:
            threading.Thread(target=_close_when_stopped, args=(backend, stopped), name=f"leave-{name}", daemon=True).start()

    def _running_on(self, name: str) -> list[tuple[Workload, Attempt]]:
        with self._database.read() as connection:
            alive = workloads.in_states(connection, _HOLDING)
            attempts = workloads.attempts_of(connection, [workload.id for workload in alive])
        pairs = [(workload, attempts[workload.id][-1]) for workload in alive if attempts[workload.id]]
        return [(workload, attempt) for workload, attempt in pairs if attempt.backend == name]

    def close(self) -> None:
        with self._lock:
            self._closed = True
            backends = [*(backend for backend, _ in self._fixed.values()), *self._open.values()]
        for backend in backends:
            backend.close()

    # --- keeping up with the database

    def _sync(self, *, force: bool = False) -> None:
        """Connects what is new in the database and closes what is gone; at most every two seconds."""
        with self._lock:
            if self._closed or (not force and time.monotonic() - self._synced_at < _SYNC_SECONDS):
                return
            self._synced_at = time.monotonic()
            with self._database.read() as connection:
                rows = {row.name: row for row in store.list_clusters(connection) if row.name not in self._fixed}
            gone = [name for name in self._open if rows.get(name) != self._rows.get(name)]
            for name in gone:
                _log.info("the cluster %s is no longer connected", name)
                self._open.pop(name).close()
            self._problems = {name: text for name, text in self._problems.items() if name in rows}
            self._rows = rows
            for name, row in rows.items():
                if name not in self._open:
                    try:
                        self._open[name] = self._connect(row)
                        self._problems.pop(name, None)
                    except (NarfError, OSError) as error:
                        if name not in self._problems:
                            _log.warning("the cluster %s cannot be connected: %s", name, error)
                        self._problems[name] = str(error)


def _close_when_stopped(backend: Backend, jobs: list[str]) -> None:
    """A backend that was closed at once could not tell its cluster to stop anything."""
    until = time.monotonic() + _STOP_SECONDS
    while jobs and time.monotonic() < until and any(status.phase is not JobPhase.ENDED for status in backend.observe(jobs)):
        time.sleep(0.5)
    backend.close()
