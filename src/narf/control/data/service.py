"""Datasets and their versions: publish, find, compare, tag, verify, remove."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from narf.control.audit.store import record
from narf.control.data import store
from narf.control.data.lineage import Edge, Node, NodeKind, add_edge
from narf.control.data.outbox import enqueue
from narf.control.data.store import Dataset, DatasetVersion
from narf.control.database import Database
from narf.data.catalogue import Registered, Registration
from narf.data.changes import compare_columns, compare_statistics
from narf.data.manifest import FileEntry, Manifest, Profile, compare, make_manifest, read_manifest
from narf.data.objects import ObjectStore
from narf.data.placing import forget, forget_unused, lost_files, materialise
from narf.data.profiling import profile, table_of
from narf.data.reference import LATEST, Reference, check_tag, parse_reference
from narf.data.statistics import plain_rows
from narf.data.tabular import NoTable, Table
from narf.domain.errors import BadInput, Conflict, NotFound, Unavailable
from narf.domain.names import check_name
from narf.domain.workload import Workload, WorkloadState

if TYPE_CHECKING:
    from narf.data.quality import Outcome

_log = logging.getLogger(__name__)
_KEEP_UNUSED = timedelta(days=7)  # folders and caches nobody asked for
_GRACE = timedelta(days=1)  # objects of imports that are under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """`created`: false when the latest version had this content already."""

    version: DatasetVersion
    created: bool


class DatasetService:
    """`root`: objects/, folders/ (placed versions) and what imports need, all on one disk so that files can be linked.

    registered: called after a version was made, to wake the outbox.
    """

    def __init__(
        self,
        database: Database,
        root: Path,
        now: Callable[[], datetime],
        *,
        register_table: Callable[[DatasetVersion, Manifest, ObjectStore], Mapping[str, Any] | None] | None = None,
    ) -> None:
        self._database, self._now = database, now
        self.root = root
        self.objects = ObjectStore(root / "objects")
        self._folders = root / "folders"
        self._register_table = register_table
        self.registered: Callable[[], None] = lambda: None
        self._read_manifest = lru_cache(maxsize=8)(lambda digest: read_manifest(self.objects.get(digest)))

    # -- making versions

    def missing(self, digests: Iterable[str]) -> list[str]:
        """Contents that must be sent before a version of them can be made."""
        return self.objects.touch(digests)

    def publish(
        self,
        project: str,
        name: str,
        files: Iterable[FileEntry],
        *,
        by: str,
        provenance: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        checks: Sequence[Mapping[str, Any]] = (),
        description: str | None = None,
        edges: Sequence[Node] = (),
        same_columns: bool = False,
        known: Profile | None = None,
    ) -> Published:
        """A new version of these files; the latest one if it has the very same content.

        edges: what it came from (a source, a run). same_columns: refuse a table with other columns than the latest version.
        known: the profile, and rows in `files`, where an import gathered them on the way.
        Raises:
            BadInput: contents were not sent, a file is not what its name says, a check failed. Nothing was changed.
        """
        check_name(name, kind="dataset")
        for tag in tags:
            check_tag(tag)
        manifest = make_manifest(files)
        if absent := self.objects.touch(entry.sha256 for entry in manifest.files):
            raise BadInput(
                f"The content of {len(absent)} files was not sent.",
                remedy="Send it, then make the version.",
                field="files",
                code="content_missing",
            )
        with self._database.read() as connection:
            latest = store.find_latest(connection, project, name)
        if latest is not None and latest.id == manifest.id:
            return Published(version=self._tag_all(latest, tags, by), created=False)
        counted, found = profile(manifest, self.objects) if known is None else (manifest, known)
        if same_columns and latest is not None and latest.kind == found.kind == "table":
            _same_columns(latest, found.schema)
        outcomes = self._check(name, counted, checks)
        digest = self.objects.put(counted.to_json())
        new = self._new_version(project, name, counted, found, digest, outcomes, provenance or {}, by)
        version = self._insert(new, tags, description, edges)
        if self._register_table is not None and version.format == "parquet" and version.iceberg is None:
            version = self._pin(version, counted)
        self.registered()
        return Published(version=version, created=True)

    def _check(self, name: str, manifest: Manifest, checks: Sequence[Mapping[str, Any]]) -> list[Outcome]:
        if not checks:
            return []
        from narf.data.quality import ChecksFailed, run_checks  # DuckDB is loaded when it is needed

        table = table_of(manifest, self.objects)
        if isinstance(table, NoTable):
            raise BadInput(f"Checks need a table. {table.why}".strip(), remedy="Leave the checks out, or import a table.", field="checks")
        outcomes = run_checks(table, checks)
        if not all(outcome.passed for outcome in outcomes):
            raise ChecksFailed(name, outcomes)
        return outcomes

    def _new_version(
        self,
        project: str,
        name: str,
        counted: Manifest,
        found: Profile,
        digest: str,
        outcomes: Sequence[Outcome],
        provenance: Mapping[str, Any],
        by: str,
    ) -> DatasetVersion:
        return DatasetVersion(
            project=project,
            dataset=name,
            number=0,
            id=counted.id,
            manifest=digest,
            kind=found.kind,
            format=found.format,
            files=len(counted.files),
            rows=counted.rows,
            size_bytes=counted.size_bytes,
            columns=found.schema,
            statistics=found.statistics,
            provenance=provenance,
            checks=[outcome.to_json() for outcome in outcomes],
            iceberg=None,
            created_by=by,
            created_at=self._now(),
        )

    def _insert(self, new: DatasetVersion, tags: Sequence[str], description: str | None, edges: Sequence[Node]) -> DatasetVersion:
        """One transaction: the version with its number, tags, lineage, registration and audit entry. Or none of it."""
        at = new.created_at
        with self._database.write() as connection:
            known = store.find_dataset(connection, new.project, new.dataset, lock=True)
            if known is None:
                dataset = Dataset(
                    project=new.project,
                    name=new.dataset,
                    description=description or "",
                    created_by=new.created_by,
                    created_at=at,
                    updated_at=at,
                )
                store.add_dataset(connection, dataset)
            else:
                values = {"updated_at": at} | ({} if description is None else {"description": description})
                store.change_dataset(connection, new.project, new.dataset, **values)
                latest = store.find_latest(connection, new.project, new.dataset)
                if latest is not None and latest.id == new.id:  # another published the same a moment ago
                    return latest
            version = replace(new, number=store.last_number(connection, new.project, new.dataset) + 1)
            store.add_version(connection, version)
            for tag in tags:
                store.set_tag(connection, version, tag, by=version.created_by, at=at)
            self._tell(connection, version, edges)
        return replace(version, tags=tuple(sorted(tags)))

    def _tell(self, connection: Connection, version: DatasetVersion, edges: Sequence[Node]) -> None:
        """Lineage, catalogue and audit hear of a new version, in its own transaction."""
        at, here = version.created_at, Node(NodeKind.DATASET_VERSION, version.node)
        for origin in edges:
            relation = "wrote" if origin.kind == NodeKind.RUN else "imported"
            add_edge(connection, Edge(project=version.project, source=origin, target=here, relation=relation), at)
        body = {
            "id": version.id,
            "kind": version.kind,
            "files": version.files,
            "rows": version.rows,
            "size_bytes": version.size_bytes,
            "columns": list(version.columns),
            "provenance": dict(version.provenance),
            "created_by": version.created_by,
            "created_at": at.isoformat(),
        }
        registration = Registration(
            key=f"dataset:{version.node}",
            kind=Registered.DATASET,
            name=f"{version.project}/{version.dataset}",
            version=f"v{version.number}",
            body=body,
        )
        enqueue(connection, registration, at)
        record(connection, at, version.created_by, "publish", "dataset", version.name, project=version.project, id=version.id)

    def _pin(self, version: DatasetVersion, manifest: Manifest) -> DatasetVersion:
        """Register the table in the Iceberg catalogue and note its snapshot. What a kill leaves out, `pin_missing` makes up."""
        assert self._register_table is not None
        try:
            pinned = self._register_table(version, manifest, self.objects)
        except Exception:  # the version stands without it; the next pass of the reconciler tries again
            _log.exception("%s is not in the Iceberg catalogue yet", version.node)
            return version
        if pinned is None:
            return version
        with self._database.write() as connection:
            store.set_iceberg(connection, version, pinned)
        return replace(version, iceberg=pinned)

    def pin_missing(self) -> None:
        """Register tables whose registration a kill left out."""
        if self._register_table is None:
            return
        with self._database.read() as connection:
            unpinned = store.find_unpinned(connection)
        for version in unpinned:
            self._pin(version, self.manifest(version))

    # -- finding

    def datasets(self, project: str, *, after: str = "", limit: int = 50, text: str = "") -> list[Dataset]:
        with self._database.read() as connection:
            return store.list_datasets(connection, project, after=after, limit=limit, text=text)

    def dataset(self, project: str, name: str) -> Dataset:
        with self._database.read() as connection:
            return self._dataset(connection, project, name)

    def summary(self, project: str, name: str) -> tuple[int, DatasetVersion | None, dict[str, int]]:
        """How many versions there are, the latest, and the tags."""
        with self._database.read() as connection:
            return (
                store.count_versions(connection, project, name),
                store.find_latest(connection, project, name),
                store.tags_of(connection, project, name),
            )

    def describe(self, project: str, name: str, text: str, *, by: str) -> Dataset:
        with self._database.write() as connection:
            self._dataset(connection, project, name)
            store.change_dataset(connection, project, name, description=text)
            record(connection, self._now(), by, "describe", "dataset", name, project=project)
            return self._dataset(connection, project, name)

    def versions(
        self, project: str, name: str, *, before: int | None = None, limit: int = 50, removed: bool = False
    ) -> list[DatasetVersion]:
        with self._database.read() as connection:
            self._dataset(connection, project, name)
            return store.list_versions(connection, project, name, before=before, limit=limit, removed=removed)

    def version(self, project: str, reference: Reference | str) -> DatasetVersion:
        """The version that `reference` means now.

        Raises:
            NotFound: there is none, or it was removed.
        """
        wanted = parse_reference(reference) if isinstance(reference, str) else reference
        with self._database.read() as connection:
            found = self._find(connection, project, wanted)
            if found is None:
                self._dataset(connection, project, wanted.name)
                raise NotFound("version", str(wanted), remedy=f"See: narf data versions {wanted.name}")
        if found.removed_at is not None:
            raise NotFound(
                "version", found.name, remedy=f"It was removed on {found.removed_at:%Y-%m-%d}. See: narf data versions {wanted.name}"
            )
        return found

    def resolve(self, project: str, reference: str) -> str:
        """The exact version that "digits@latest" means now, as "digits@v3"."""
        return self.version(project, reference).name

    def folder_for(self, project: str, reference: str) -> str:
        """A read-only folder with the files of this version, on this machine, shared by all who read it."""
        version = self.version(project, reference)
        return str(materialise(version.id, lambda: self.manifest(version), self.objects, self._folders))

    def manifest(self, version: DatasetVersion) -> Manifest:
        try:
            return self._read_manifest(version.manifest)
        except NotFound as error:
            raise Unavailable(f"The file list of {version.name} is lost.", remedy="Restore the objects, or import again.") from error

    def file(self, version: DatasetVersion, path: str) -> tuple[FileEntry, Path]:
        """One file of a version, on this machine."""
        for entry in self.manifest(version).files:
            if entry.path == path:
                if not self.objects.has(entry.sha256):
                    raise lost_files(version.name)
                return entry, self.objects.path(entry.sha256)
        raise NotFound("file", path, remedy=f"See: narf data show {version.name} --files")

    def table(self, version: DatasetVersion) -> Table:
        """Raises BadInput: it is files, no table. Unavailable: some of them are lost."""
        try:
            table = table_of(self.manifest(version), self.objects)
        except NotFound as error:
            raise lost_files(version.name) from error
        if isinstance(table, NoTable):
            raise BadInput(f"{version.name} is no table. {table.why}".strip(), code="no_table")
        return table

    def preview(self, version: DatasetVersion, limit: int) -> list[list[Any]]:
        """The first rows of a table; of files none."""
        if version.kind != "table":
            return []
        rows: list[list[Any]] = []
        for batch in self.table(version).batches(rows=limit):
            rows += plain_rows(batch.slice(0, limit - len(rows)))
            if len(rows) >= limit:
                break
        return rows

    # -- comparing

    def diff(self, project: str, before: Reference, after: Reference, *, key: Sequence[str] = (), most: int = 200) -> dict[str, Any]:
        """What changed of files, columns, rows and statistics; `most` files of each sort are named."""
        old, new = self.version(project, before), self.version(project, after)
        changes = compare(self.manifest(old), self.manifest(new))
        rows = None
        if old.kind == new.kind == "table":
            from narf.data.difference import compare_rows

            rows = compare_rows(self.table(old), self.table(new), changes, key)
        return {
            "before": old,
            "after": new,
            "files": {
                "added": [_shown(entry) for entry in islice(changes.added, most)],
                "removed": [_shown(entry) for entry in islice(changes.removed, most)],
                "changed": [{"path": a.path, "before": _shown(b), "after": _shown(a)} for b, a in islice(changes.changed, most)],
                "counts": {
                    "added": len(changes.added),
                    "removed": len(changes.removed),
                    "changed": len(changes.changed),
                    "unchanged": changes.unchanged,
                },
            },
            "columns": compare_columns(old.columns, new.columns),
            "rows": rows,
            "statistics": compare_statistics(old.statistics.get("columns", {}), new.statistics.get("columns", {})),
        }

    # -- tags, reads, removal

    def tag(self, project: str, name: str, tag: str, selector: str, *, by: str) -> DatasetVersion:
        """Move `tag` to the version that `selector` means."""
        version = self.version(project, Reference(name, selector))
        return self._tag_all(version, [check_tag(tag)], by)

    def untag(self, project: str, name: str, tag: str, *, by: str) -> None:
        with self._database.write() as connection:
            self._dataset(connection, project, name)
            if not store.remove_tag(connection, project, name, tag):
                raise NotFound("tag", tag)
            record(connection, self._now(), by, "untag", "dataset", f"{name}@{tag}", project=project)

    def record_read(self, version: DatasetVersion, run_id: str) -> None:
        """A run says that it read this version."""
        edge = Edge(
            project=version.project,
            source=Node(NodeKind.DATASET_VERSION, version.node),
            target=Node(NodeKind.RUN, run_id),
            relation="read_by",
        )
        with self._database.write() as connection:
            add_edge(connection, edge, self._now())

    def workload_changed(self, workload: Workload) -> None:
        """A run that was started with `--data` reads these versions, whether its program says so or not."""
        if workload.run_id is None or workload.state is not WorkloadState.RUNNING:
            return
        for reference in workload.program.data:
            self.record_read(self.version(workload.project, reference), workload.run_id)

    def remove(self, project: str, reference: Reference, *, by: str) -> DatasetVersion:
        """Let go of a version: `gc` may delete what no other version needs. Its lineage stays.

        Raises:
            Conflict: a tag still names it.
        """
        version = self.version(project, reference)
        if version.tags:
            raise Conflict(
                f"{version.name} is tagged {', '.join(version.tags)}.", remedy=f"First: narf data tag {version.name} --remove TAG"
            )
        with self._database.write() as connection:
            store.remove_version(connection, version, self._now())
            record(connection, self._now(), by, "remove", "dataset", version.name, project=project, id=version.id)
        return version

    # -- keeping

    def verify(self, version: DatasetVersion) -> list[str]:
        """Paths whose bytes are lost or changed. Their objects are discarded, so that importing the data again mends them.

        Placed folders hold the very same bytes, so those of all versions that have such a file go, too: a program that reads one
        fails, rather than learn from damaged data.
        """
        damaged: set[str] = set()
        for digest in dict.fromkeys(entry.sha256 for entry in self.manifest(version).files):
            if not self.objects.is_intact(digest):
                self.objects.discard(digest)
                damaged.add(digest)
        if damaged:
            with self._database.read() as connection:
                manifests = store.live_manifests(connection)
            for one in (read_manifest(self.objects.get(digest)) for digest in manifests if self.objects.has(digest)):
                if any(entry.sha256 in damaged for entry in one.files):
                    forget(self._folders, one.id)
        return [entry.path for entry in self.manifest(version).files if entry.sha256 in damaged]

    def gc(self, *, dry_run: bool = False) -> dict[str, int]:
        """Delete what no version needs: objects, placed folders and caches that nobody used for a week."""
        with self._database.read() as connection:
            manifests = store.live_manifests(connection)
        wanted = set(manifests)
        for digest in manifests:
            wanted.update(entry.sha256 for entry in read_manifest(self.objects.get(digest)).files)
        folders = forget_unused(self._folders, older_than=time.time() - _KEEP_UNUSED.total_seconds(), dry_run=dry_run)
        objects, size = self.objects.sweep(wanted, unused_for_seconds=_GRACE.total_seconds(), dry_run=dry_run)
        return {"objects": objects, "size_bytes": size, "folders": folders}

    # --

    def _dataset(self, connection: Connection, project: str, name: str) -> Dataset:
        found = store.find_dataset(connection, project, name)
        if found is None:
            raise NotFound("dataset", name)
        return found

    def _find(self, connection: Connection, project: str, wanted: Reference) -> DatasetVersion | None:
        if wanted.selector == LATEST:
            return store.find_latest(connection, project, wanted.name)
        if wanted.number is not None:
            return store.find_version(connection, project, wanted.name, wanted.number)
        if wanted.id_prefix is not None:
            return store.find_by_id(connection, project, wanted.name, wanted.id_prefix)
        return store.find_tagged(connection, project, wanted.name, wanted.selector)

    def _tag_all(self, version: DatasetVersion, tags: Sequence[str], by: str) -> DatasetVersion:
        if not tags:
            return version
        with self._database.write() as connection:
            for tag in tags:
                store.set_tag(connection, version, tag, by=by, at=self._now())
                record(
                    connection,
                    self._now(),
                    by,
                    "tag",
                    "dataset",
                    f"{version.dataset}@{tag}",
                    project=version.project,
                    version=version.number,
                )
            return store.find_version(connection, version.project, version.dataset, version.number) or version


def _same_columns(latest: DatasetVersion, columns: Sequence[Mapping[str, Any]]) -> None:
    changes = compare_columns(latest.columns, columns)
    said = [f"{c['name']!r} is new" for c in changes["added"]] + [f"{c['name']!r} is gone" for c in changes["removed"]]
    said += [f"{c['name']!r} is {c['after']}, was {c['before']}" for c in changes["changed"]]
    if said:
        raise BadInput(
            f"The schema changed since {latest.name}: {'; '.join(said[:8])}.",
            remedy="If that is meant, import with --allow-schema-change.",
            code="schema_changed",
        )


def _shown(entry: FileEntry) -> dict[str, Any]:
    return {"path": entry.path, "size": entry.size, "sha256": entry.sha256, "rows": entry.rows}
