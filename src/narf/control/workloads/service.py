"""Workloads: submit, look, follow, cancel. What runs when is decided by the scheduler, not here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from narf.backends.protocol import Backend, LogChunk
from narf.control.audit.store import record
from narf.control.database import Database
from narf.control.workloads import store
from narf.control.workloads.store import Attempt, Event
from narf.domain.errors import BadInput, Conflict, NarfError, NotFound
from narf.domain.names import new_id
from narf.domain.workload import EndReason, Program, Resources, Workload, WorkloadKind, WorkloadState


class RunRecorder(Protocol):
    """Where the run of a workload is recorded: the tracking service."""

    def create_run(self, *, project: str, experiment: str, name: str, user: str, params: Mapping[str, str], tags: Mapping[str, str]) -> str:
        """A new run, not started yet; its id."""
        ...

    def finish_run(self, run_id: str, state: WorkloadState) -> None:
        """It ended in `state`. Safe to repeat."""
        ...


class DataAccess(Protocol):
    """Where references to data are fixed to versions."""

    def resolve(self, project: str, reference: str) -> str:
        """The exact version that "digits@latest" means now, as "digits@v3".

        Raises:
            NotFound: there is no such dataset or version.
        """
        ...

    def folder_for(self, project: str, reference: str) -> str:
        """A read-only folder with the files of this version, on this machine."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What somebody asks to run. `experiment` "" is the default one; `tags` go on the run."""

    project: str
    owner: str
    name: str
    kind: WorkloadKind
    program: Program
    resources: Resources
    replicas: int = 1
    priority: int = 0
    preemptible: bool = True
    experiment: str = ""
    parent: str = ""
    time_limit_seconds: float | None = None
    max_retries: int = 3
    webhook: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    tags: tuple[tuple[str, str], ...] = ()
    params: tuple[tuple[str, str], ...] = ()
    idempotency_key: str = ""
    with_run: bool = True  # training and trials are tracked; a replica of an endpoint is not
    run_id: str | None = None  # an existing run to go on with


class WorkloadService:
    """`changed` is called after every change, so that the reconciler looks at once and pages hear of it.

    `check_fits` (project, resources of a replica, replicas, preemptible) raises BadInput for what could never start.
    """

    def __init__(
        self,
        database: Database,
        runs: RunRecorder,
        data: DataAccess,
        backends: Mapping[str, Backend],
        now: Callable[[], datetime],
        changed: Callable[[Workload], None] = lambda _workload: None,
    ) -> None:
        self._database, self._runs, self._data = database, runs, data
        self._backends, self._now, self.changed = backends, now, changed
        self.check_webhook: Callable[[str], None] = lambda _url: None  # raises BadInput for an address that nothing is sent to
        self.check_fits: Callable[[str, Resources, int, bool], None] = lambda _project, _resources, _replicas, _preemptible: None

    def submit(self, asked: Submission, together: Callable[[Connection, Workload], None] = lambda _connection, _workload: None) -> Workload:
        """Put it into the queue. What `together` writes is written with it or not at all.

        Raises:
            BadInput: nothing to run, a script outside the snapshot, unknown data, more than the cluster could ever give.
        """
        if asked.idempotency_key and (known := self._known(asked.owner, asked.idempotency_key)):
            return known
        _check_program(asked.program)
        if asked.kind is not WorkloadKind.REPLICA:  # an endpoint was checked when it was made; its replicas wait for a cluster that shrank
            self.check_fits(asked.project, asked.resources, asked.replicas, asked.preemptible)
        if asked.webhook:
            self.check_webhook(asked.webhook)
        program = replace(asked.program, data=tuple(self._data.resolve(asked.project, reference) for reference in asked.program.data))
        workload_id, now = new_id("wl"), self._now()
        name = asked.name or _name_of(program)
        run_id, has_new_run = asked.run_id, asked.with_run and asked.run_id is None
        if has_new_run:
            tags = dict(asked.tags) | {"narf.workload": workload_id, "narf.kind": asked.kind.value}
            run_id = self._runs.create_run(
                project=asked.project, experiment=asked.experiment, name=name, user=asked.owner, params=dict(asked.params), tags=tags
            )
        workload = Workload(
            id=workload_id,
            project=asked.project,
            owner=asked.owner,
            name=name,
            kind=asked.kind,
            created_at=now,
            queued_at=now,
            resources=asked.resources,
            program=program,
            replicas=asked.replicas,
            priority=asked.priority,
            preemptible=asked.preemptible,
            parent=asked.parent,
            run_id=run_id,
            time_limit_seconds=asked.time_limit_seconds,
            max_retries=asked.max_retries,
            webhook=asked.webhook,
            labels=asked.labels,
        )
        try:
            with self._database.write() as connection:
                store.add(connection, workload)
                if asked.idempotency_key:
                    store.keep_key(connection, asked.owner, asked.idempotency_key, workload.id, now)
                record(connection, now, asked.owner, "submit", "workload", workload.id, project=asked.project)
                together(connection, workload)
        except BaseException:
            if has_new_run and run_id is not None:
                with suppress(NarfError):  # it is told what kept it; the run must not wait for ever
                    self._runs.finish_run(run_id, WorkloadState.CANCELLED)
            raise
        self.changed(workload)
        return workload

    def workload(self, workload_id: str) -> Workload:
        with self._database.read() as connection:
            workload = store.find(connection, workload_id)
        if workload is None:
            raise NotFound("workload", workload_id)
        return workload

    def of_ids(self, workload_ids: Sequence[str]) -> dict[str, Workload]:
        """Those of these that there are, by id."""
        if not workload_ids:
            return {}
        with self._database.read() as connection:
            return {workload.id: workload for workload in store.of_ids(connection, workload_ids)}

    def unfinished(self, workload_ids: Sequence[str]) -> set[str]:
        """Those of these that have not ended."""
        if not workload_ids:
            return set()
        with self._database.read() as connection:
            return store.unfinished(connection, workload_ids)

    def of_run(self, run_id: str) -> Workload | None:
        """The workload that recorded this run, the newest if several did."""
        with self._database.read() as connection:
            return store.find_by_run(connection, run_id)

    def of_parent(self, parent: str) -> list[Workload]:
        with self._database.read() as connection:
            return store.of_parent(connection, parent)

    def project_of(self, workload_id: str) -> str | None:
        with self._database.read() as connection:
            return store.project_of(connection, workload_id)

    def page(
        self,
        project: str,
        *,
        states: Sequence[WorkloadState] = (),
        kinds: Sequence[WorkloadKind] = (),
        owner: str = "",
        text: str = "",
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[Workload]:
        with self._database.read() as connection:
            return store.list_page(connection, project, states=states, kinds=kinds, owner=owner, text=text, before=before, limit=limit)

    def counts(self, project: str | None = None) -> dict[WorkloadState, int]:
        with self._database.read() as connection:
            return store.count_by_state(connection, project)

    def attempts(self, workload_id: str) -> list[Attempt]:
        with self._database.read() as connection:
            return store.attempts_of(connection, [workload_id])[workload_id]

    def events(self, workload_id: str) -> list[Event]:
        with self._database.read() as connection:
            return store.events_of(connection, workload_id)

    def cancel(self, workload_id: str, *, by: str) -> Workload:
        """Ask it to stop. Safe to repeat; on one that has ended, nothing happens."""
        while True:
            workload = self.workload(workload_id)
            if workload.state.is_finished or workload.cancel_requested:
                return workload
            now = self._now()
            if workload.state is WorkloadState.QUEUED:
                wanted = replace(workload.to(WorkloadState.CANCELLED), ended_at=now, end_reason=EndReason.CANCELLED, cancel_requested=True)
            else:
                wanted = replace(workload, cancel_requested=True)
            with self._database.write() as connection:
                saved = store.save(connection, wanted, now)
                if saved is not None:
                    record(connection, now, by, "cancel", "workload", workload_id, project=workload.project)
            if saved is not None:
                if saved.state.is_finished and saved.run_id:
                    self._runs.finish_run(saved.run_id, saved.state)
                self.changed(saved)
                return saved

    def is_delivered(self, workload: Workload) -> bool:
        """Whether nothing that its program reported is known to be still on its way to us."""
        made = {attempt.attempt: attempt for attempt in self.attempts(workload.id)}
        backend = self._backends.get(made[workload.attempt].backend) if workload.attempt in made else None
        return backend is None or backend.is_delivered(workload.job_id)

    def logs(self, workload_id: str, *, attempt: int | None = None, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
        """Output of one attempt (the current one by default), from `offset` on."""
        workload = self.workload(workload_id)
        attempt = workload.attempt if attempt is None else attempt
        if not 1 <= attempt <= workload.attempt:
            raise NotFound("attempt", f"{attempt} of {workload_id}")
        made = {known.attempt: known for known in self.attempts(workload_id)}
        if attempt not in made:
            return LogChunk(offset, b"", workload.state.is_finished)
        backend = self._backends.get(made[attempt].backend)
        if backend is None:
            raise Conflict(
                f"The cluster {made[attempt].backend!r} that ran this attempt is not connected.",
                remedy="Connect it again: narf cluster add",
            )
        return backend.logs(f"{workload_id}.{attempt}", offset, limit)

    def _known(self, user: str, key: str) -> Workload | None:
        with self._database.read() as connection:
            object_id = store.find_by_key(connection, user, key)
            return store.find(connection, object_id) if object_id else None


def _check_program(program: Program) -> None:
    if not program.script and not program.command:
        raise BadInput("There is nothing to run.", remedy="Give a script or a command.", field="script")
    if program.script and program.command:
        raise BadInput("A workload runs a script or a command, not both.", field="command")
    parts = (program.script or "x").split("/")
    if (program.snapshot and (program.script or "").startswith("/")) or ".." in parts:
        raise BadInput(f"The script {(program.script or '')[:200]!r} lies outside the folder that was sent.", field="script")
    for text in (program.script or "", *program.arguments, *program.command, *(v for pair in program.environment for v in pair)):
        if "\0" in text:
            raise BadInput("Arguments and variables cannot hold a NUL character.", field="arguments")
    for name, _ in program.environment:
        if not name or "=" in name:
            raise BadInput(f"{name[:60]!r} cannot name a variable.", field="environment")


def _name_of(program: Program) -> str:
    first = program.script or program.command[0]
    return first.rsplit("/", 1)[-1][:200]
