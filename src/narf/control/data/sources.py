"""Sources of a project: set up once, with the names of their secrets, and used by name. And imports from them.

An import is a row in a table; the reconciler works on it. Killed, it is taken up again by the next start.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from narf.control.audit.store import record
from narf.control.data.lineage import Node, NodeKind
from narf.control.data.service import DatasetService
from narf.control.database import Database, Timestamp, metadata
from narf.data.reference import check_tag
from narf.data.sources.connector import Connector, Selection
from narf.data.sources.opening import Source, all_kinds, open_source
from narf.data.sources.options import check_options
from narf.data.sources.select_only import check_select
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NarfError, NotAllowed, NotFound
from narf.domain.names import check_name, new_id

if TYPE_CHECKING:
    from narf.data.importing import Progress
    from narf.data.sources.previewing import SourcePreview

sources = Table(
    "data_sources",
    metadata,
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("name", String(63), nullable=False),
    Column("kind", String(63), nullable=False),
    Column("options", Text, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    PrimaryKeyConstraint("project", "name"),
)
imports = Table(
    "data_imports",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("project", String(63), ForeignKey("projects.name"), nullable=False),
    Column("dataset", String(63), nullable=False),
    Column("source", String(63), nullable=False),
    Column("request", Text, nullable=False),
    Column("state", String(15), nullable=False),
    Column("version", Integer),
    Column("rows", BigInteger, nullable=False, default=0),
    Column("files", BigInteger, nullable=False, default=0),
    Column("size_bytes", BigInteger, nullable=False, default=0),
    Column("detail", Text, nullable=False, default=""),
    Column("remedy", Text, nullable=False, default=""),
    Column("cancel_requested", Boolean, nullable=False, default=False),
    Column("created_by", String(63), nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("started_at", Timestamp),
    Column("ended_at", Timestamp),
    Index("ix_data_imports_state", "state", "created_at"),
    Index("ix_data_imports_project", "project", "created_at"),
)
_log = logging.getLogger(__name__)
_AT_ONCE = 3  # imports; each holds some hundred MiB at most
_LOOK_SECONDS, _NOTE_SECONDS = 1.0, 1.0


class ImportState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    project: str
    name: str
    kind: str
    options: Mapping[str, str]
    description: str
    created_by: str
    created_at: datetime

    @property
    def tested(self) -> bool:
        """Whether this kind of source is covered by the project's own tests."""
        known = all_kinds().get(self.kind)
        return known is not None and known.tested


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of an import. same_schema: refuse a table whose columns changed since the latest version."""

    selection: Selection
    tags: Sequence[str] = ()
    checks: Sequence[Mapping[str, Any]] = field(default=())
    same_schema: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    id: str
    project: str
    dataset: str
    source: str
    request: Request
    state: ImportState
    created_by: str
    created_at: datetime
    version: int | None = None
    rows: int = 0
    files: int = 0
    size_bytes: int = 0
    detail: str = ""
    remedy: str = ""
    cancel_requested: bool = False
    started_at: datetime | None = None
    ended_at: datetime | None = None


class SourceService:
    """`secret` gives the value of a project's secret by name."""

    def __init__(
        self, database: Database, datasets: DatasetService, secret: Callable[[str, str], str], now: Callable[[], datetime]
    ) -> None:
        self._database, self._datasets, self._secret, self._now = database, datasets, secret, now
        self.wake: Callable[[], None] = lambda: None

    # -- sources

    def add(self, project: str, name: str, kind: str, options: Mapping[str, str], *, by: Principal, description: str = "") -> DataSource:
        """Set up a source, or set it up anew. Nothing is reached yet: see `test`."""
        check_name(name, kind="source")
        known = check_options(name, kind, options, all_kinds())
        if known.for_admins and not by.is_admin:
            raise NotAllowed(f"A source of kind {kind!r} reads the platform's own machine.", remedy="Ask an admin to set it up.")
        if files := options.get("files"):
            self.source(project, files)
        source = DataSource(
            project=project,
            name=name,
            kind=kind,
            options=dict(options),
            description=description,
            created_by=by.user,
            created_at=self._now(),
        )
        with self._database.write() as connection:
            connection.execute(delete(sources).where(sources.c.project == project, sources.c.name == name))
            connection.execute(insert(sources).values(**{**asdict(source), "options": json.dumps(source.options)}))
            record(connection, self._now(), by.user, "set", "source", name, project=project, source_kind=kind)
        return source

    def of_project(self, project: str, *, after: str = "", limit: int = 50) -> list[DataSource]:
        query = select(sources).where(sources.c.project == project, sources.c.name > after).order_by(sources.c.name).limit(limit)
        with self._database.read() as connection:
            return [_source(dict(row)) for row in connection.execute(query).mappings()]

    def source(self, project: str, name: str) -> DataSource:
        with self._database.read() as connection:
            row = connection.execute(select(sources).where(sources.c.project == project, sources.c.name == name)).mappings().first()
        if row is None:
            raise NotFound("source", name)
        return _source(dict(row))

    def remove(self, project: str, name: str, *, by: str) -> None:
        with self._database.write() as connection:
            done = connection.execute(delete(sources).where(sources.c.project == project, sources.c.name == name)).rowcount
            if not done:
                raise NotFound("source", name)
            record(connection, self._now(), by, "remove", "source", name, project=project)

    def test(self, project: str, name: str) -> str:
        """Reach it with its credentials; a sentence about what is there."""
        connector = self.open(project, name)
        try:
            return connector.test()
        finally:
            connector.close()

    def preview(self, project: str, name: str, selection: Selection, limit: int) -> SourcePreview:
        from narf.data.sources.previewing import preview

        _check(selection)
        connector = self.open(project, name)
        try:
            return preview(connector, selection, limit)
        finally:
            connector.close()

    def open(self, project: str, name: str) -> Connector:
        found = self.source(project, name)
        files = self.source(project, found.options["files"]) if found.options.get("files") else None
        return open_source(
            Source(
                name=name,
                kind=found.kind,
                options=found.options,
                files=Source(name=files.name, kind=files.kind, options=files.options) if files else None,
            ),
            lambda secret: self._secret(project, secret),
        )

    # -- imports

    def start(self, project: str, dataset: str, source: str, request: Request, *, by: str) -> Import:
        """Ask for an import; it runs in the background.

        Raises:
            BadInput: the selection makes no sense. NotFound: there is no such source. Conflict: one is under way already.
        """
        check_name(dataset, kind="dataset")
        for tag in request.tags:
            check_tag(tag)
        _check(request.selection)
        self.source(project, source)
        made = Import(
            id=new_id("imp"),
            project=project,
            dataset=dataset,
            source=source,
            request=request,
            state=ImportState.QUEUED,
            created_by=by,
            created_at=self._now(),
        )
        with self._database.write() as connection:
            open_states = [ImportState.QUEUED.value, ImportState.RUNNING.value]
            query = select(imports.c.id).where(imports.c.project == project, imports.c.dataset == dataset, imports.c.state.in_(open_states))
            if other := connection.execute(query).scalar():
                raise Conflict(
                    f"{dataset!r} is being imported already ({other}).", remedy="Wait for it, or cancel it.", code="import_under_way"
                )
            connection.execute(insert(imports).values(**_row(made)))
            record(connection, self._now(), by, "import", "dataset", dataset, project=project, source=source, id=made.id)
        self.wake()
        return made

    def find_import(self, import_id: str) -> Import:
        with self._database.read() as connection:
            row = connection.execute(select(imports).where(imports.c.id == import_id)).mappings().first()
        if row is None:
            raise NotFound("import", import_id)
        return _import(dict(row))

    def project_of(self, import_id: str) -> str | None:
        with self._database.read() as connection:
            return connection.execute(select(imports.c.project).where(imports.c.id == import_id)).scalar()

    def imports_of(self, project: str, *, limit: int = 50, dataset: str = "") -> list[Import]:
        query = select(imports).where(imports.c.project == project).order_by(imports.c.created_at.desc(), imports.c.id.desc()).limit(limit)
        if dataset:
            query = query.where(imports.c.dataset == dataset)
        with self._database.read() as connection:
            return [_import(dict(row)) for row in connection.execute(query).mappings()]

    def cancel(self, import_id: str, *, by: str) -> Import:
        """Ask a running import to stop; nothing of it becomes a version."""
        found = self.find_import(import_id)
        with self._database.write() as connection:
            connection.execute(update(imports).where(imports.c.id == import_id).values(cancel_requested=True))
            record(connection, self._now(), by, "cancel", "import", import_id, project=found.project)
        self.wake()
        return self.find_import(import_id)


class ImportReconciler:
    """Works on imports, the oldest first, a few at once, each in a thread: one that takes hours holds up neither others nor a pass."""

    name = "imports"

    def __init__(
        self,
        database: Database,
        source_service: SourceService,
        datasets: DatasetService,
        now: Callable[[], datetime],
        *,
        at_once: int = _AT_ONCE,
    ) -> None:
        self._database, self._sources, self._datasets, self._now, self._at_once = database, source_service, datasets, now, at_once
        self._working: dict[str, threading.Thread] = {}
        self._ended = threading.Event()

    def pass_once(self, now: datetime) -> bool:
        """Begin what there is room for, then wait a moment for one to end. True while there is something to do."""
        self._working = {id: thread for id, thread in self._working.items() if thread.is_alive()}
        states = [ImportState.RUNNING.value, ImportState.QUEUED.value]  # running: ours, or a killed process left it
        query = select(imports).where(imports.c.state.in_(states)).order_by(imports.c.created_at, imports.c.id).limit(100)
        with self._database.read() as connection:
            wanted = [_import(dict(row)) for row in connection.execute(query).mappings()]
        self._ended.clear()
        for one in wanted:
            if one.id not in self._working and len(self._working) < self._at_once:
                thread = threading.Thread(target=self._begin, args=(one,), name=f"import-{one.id}", daemon=True)
                self._working[one.id] = thread
                thread.start()
        if not self._working:
            self._datasets.pin_missing()
            return False
        self._ended.wait(_LOOK_SECONDS)
        return True

    def next_look_seconds(self) -> float:
        return 5.0

    def _begin(self, wanted: Import) -> None:
        try:
            self._work(wanted)
        except Exception:  # the end of a thread: its import stays as it is noted, and the next pass begins it again
            _log.exception("import %s", wanted.id)
        finally:
            self._ended.set()

    def _work(self, wanted: Import) -> None:
        from narf.data.importing import Cancelled

        self._save(wanted, state=ImportState.RUNNING.value, started_at=wanted.started_at or self._now())
        try:
            version = self._import(wanted)
        except Cancelled:
            self._end(wanted, ImportState.CANCELLED, detail="It was cancelled; no version was made.")
        except NarfError as error:
            self._end(wanted, ImportState.FAILED, detail=error.sentence, remedy=error.remedy)
        except Exception:  # one broken import must not stop the others; the log has the traceback
            _log.exception("import %s", wanted.id)
            self._end(wanted, ImportState.FAILED, detail="Something went wrong on our side.", remedy="See the platform's log.")
        else:
            self._end(wanted, ImportState.SUCCEEDED, version=version)

    def _import(self, wanted: Import) -> int:
        from narf.data.importing import Fetched, Progress, import_files, import_rows

        request, objects = wanted.request, self._datasets.objects
        if wanted.cancel_requested:
            from narf.data.importing import Cancelled

            raise Cancelled
        progress = Progress()
        progress.cancelled = self._watch(wanted, progress)
        connector = self._sources.open(wanted.project, wanted.source)
        try:
            if request.selection.is_tabular:
                imported = import_rows(connector, request.selection, objects, progress)
            else:
                fetched = Fetched(self._datasets.root / "fetched" / wanted.project / f"{wanted.source}.json")
                imported = import_files(connector, request.selection, objects, fetched, progress)
        finally:
            connector.close()
        self._save(wanted, rows=progress.rows, files=progress.files, size_bytes=progress.size_bytes)
        published = self._datasets.publish(
            wanted.project,
            wanted.dataset,
            imported.manifest.files,
            by=wanted.created_by,
            provenance={"source": wanted.source, "import": wanted.id} | {k: v for k, v in asdict(request.selection).items() if v},
            tags=request.tags,
            checks=request.checks,
            edges=[Node(NodeKind.SOURCE, f"{wanted.project}/{wanted.source}")],
            same_columns=request.same_schema,
            known=imported.profile,
        )
        return published.version.number

    def _watch(self, wanted: Import, progress: Progress) -> Callable[[], bool]:
        """What writes down how far it is, now and then, and says whether it should stop."""
        last = time.monotonic()

        def note() -> bool:
            nonlocal last
            if time.monotonic() - last < _NOTE_SECONDS:
                return False
            last = time.monotonic()
            self._save(wanted, rows=progress.rows, files=progress.files, size_bytes=progress.size_bytes)
            with self._database.read() as connection:
                return bool(connection.execute(select(imports.c.cancel_requested).where(imports.c.id == wanted.id)).scalar())

        return note

    def _end(self, wanted: Import, state: ImportState, **values: Any) -> None:
        self._save(wanted, state=state.value, ended_at=self._now(), **values)

    def _save(self, wanted: Import, **values: Any) -> None:
        with self._database.write() as connection:
            connection.execute(update(imports).where(imports.c.id == wanted.id).values(**values))


def _check(selection: Selection) -> None:
    """Raises BadInput: it says two things at once, or a query that does not only read."""
    said = [name for name in ("table", "query") if getattr(selection, name)]
    if len(said) > 1 or (said and (selection.path or selection.pattern)):
        raise BadInput(
            "The selection says several things at once.", remedy="Give a path with a pattern, or a table, or a query.", field=said[0]
        )
    if selection.query:
        check_select(selection.query)
    if re.search(r"(^|/)\.\.(/|$)", selection.path):
        raise BadInput("The path leads out of the source.", remedy="Use a path below the source's root.", field="path", code="bad_path")


def _source(row: dict[str, Any]) -> DataSource:
    return DataSource(**{**row, "options": json.loads(row["options"])})


def _row(made: Import) -> dict[str, Any]:
    return {**asdict(made), "request": json.dumps(asdict(made.request)), "state": made.state.value}


def _import(row: dict[str, Any]) -> Import:
    request = json.loads(row["request"])
    return Import(
        **{**row, "state": ImportState(row["state"]), "request": replace(Request(**request), selection=Selection(**request["selection"]))}
    )
