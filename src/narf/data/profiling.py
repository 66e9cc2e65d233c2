"""What a version's content is: a table with rows, schema and statistics, or files."""

from __future__ import annotations

from collections import Counter
from typing import Any

from narf.data.manifest import Manifest, Profile
from narf.data.objects import ObjectStore
from narf.data.statistics import TableStatistics
from narf.data.tabular import NoTable, Table, describe_schema, find_table, suffix_of


def table_of(manifest: Manifest, objects: ObjectStore) -> Table | NoTable:
    """The table that the files of `manifest` are, if they are one."""
    digests = {entry.path: entry.sha256 for entry in manifest.files}
    return find_table(list(digests), lambda path: objects.path(digests[path]))


def profile(manifest: Manifest, objects: ObjectStore) -> tuple[Manifest, Profile]:
    """The manifest with the rows of each file, and the profile of the whole. Reads every row once.

    Raises:
        BadInput: a file that says it is Parquet or Arrow is not.
    """
    table = table_of(manifest, objects)
    if isinstance(table, NoTable):
        return manifest, Profile(kind="files", statistics={"files": _by_suffix(manifest), "note": table.why})
    gathered = TableStatistics(table.schema)
    rows: dict[str, int] = {}
    for file in table.files:
        before = gathered.rows
        for batch in table.batches_of(file):
            gathered.add(batch)
        rows[file.path] = gathered.rows - before
    counted = Manifest(tuple(entry._replace(rows=rows.get(entry.path)) for entry in manifest.files))
    statistics = {"files": _by_suffix(manifest), "columns": gathered.result()}
    return counted, Profile(kind="table", format=table.format, schema=tuple(describe_schema(table.schema)), statistics=statistics)


def _by_suffix(manifest: Manifest) -> list[dict[str, Any]]:
    """How many files and bytes of each kind, the most first."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for entry in manifest.files:
        suffix = suffix_of(entry.path)
        counts[suffix] += 1
        sizes[suffix] += entry.size
    return [{"suffix": suffix, "count": count, "size_bytes": sizes[suffix]} for suffix, count in counts.most_common(20)]
