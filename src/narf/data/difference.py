"""How the rows of two versions of a table differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from narf.data.engine import engine, first_row, rows
from narf.data.manifest import FileChanges
from narf.data.statistics import plain_rows
from narf.data.tabular import Table
from narf.domain.errors import BadInput

_SHOWN = 5


def compare_rows(before: Table, after: Table, changes: FileChanges, key: Sequence[str] = ()) -> dict[str, Any]:
    """How many rows were added, removed and, with a `key`, changed, with a few examples of each.

    Rows in files that both versions share cancel out and are not read. Rows are compared in the columns that both
    versions have; without a key as bags of rows.

    Raises:
        BadInput: a column of the key is not in both versions.
    """
    gone = [entry.path for entry in changes.removed] + [old.path for old, _ in changes.changed]
    come = [entry.path for entry in changes.added] + [new.path for _, new in changes.changed]
    common = [name for name in after.schema.names if name in before.schema.names]
    if wrong := [name for name in key if name not in common]:
        raise BadInput(f"The key column {wrong[0]!r} is not in both versions.", remedy=f"There are {', '.join(common)}.", field="key")
    if not common:
        return {"added": 0, "removed": 0, "compared_columns": []}
    columns = ", ".join(_quoted(name) for name in common)
    tables = {"old": before.only(gone), "new": after.only(come)}
    given: dict[str, Table | pa.Table] = {name: t if t.files else t.schema.empty_table() for name, t in tables.items()}
    with engine(given) as connection:
        result: dict[str, Any] = {"compared_columns": common}
        queries = _keyed(columns, key, common) if key else _bags(columns)
        for what, query in queries.items():
            (result[what],) = first_row(connection, f"SELECT count(*) FROM ({query})")
            if result[what]:
                result[f"{what}_examples"] = plain_rows(rows(connection, f"SELECT * FROM ({query}) LIMIT {_SHOWN}"))
    return result


def _bags(columns: str) -> dict[str, str]:
    return {
        "added": f"SELECT {columns} FROM new EXCEPT ALL SELECT {columns} FROM old",
        "removed": f"SELECT {columns} FROM old EXCEPT ALL SELECT {columns} FROM new",
    }


def _keyed(columns: str, key: Sequence[str], common: Sequence[str]) -> dict[str, str]:
    same = " AND ".join(f"old.{_quoted(name)} IS NOT DISTINCT FROM new.{_quoted(name)}" for name in key)
    differs = " OR ".join(f"old.{_quoted(name)} IS DISTINCT FROM new.{_quoted(name)}" for name in common if name not in key) or "false"
    wanted = ", ".join(f"new.{_quoted(name)}" for name in common)
    return {
        "added": f"SELECT {columns} FROM new WHERE NOT EXISTS (SELECT 1 FROM old WHERE {same})",
        "removed": f"SELECT {columns} FROM old WHERE NOT EXISTS (SELECT 1 FROM new WHERE {same})",
        "changed": f"SELECT {wanted} FROM new JOIN old ON {same} WHERE {differs}",
    }


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
