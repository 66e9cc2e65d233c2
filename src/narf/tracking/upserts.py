"""Inserts that say what becomes of a row that is there already, as text: SQLAlchemy would compile each of them at every execution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Table, TextClause, text
from sqlalchemy.dialects import postgresql, sqlite

_DIALECTS: dict[str, tuple[Callable[[Table], Any], Any]] = {
    "sqlite": (sqlite.insert, sqlite.dialect(paramstyle="named")),
    "postgresql": (postgresql.insert, postgresql.dialect(paramstyle="named")),  # type: ignore[no-untyped-call]
}


class Upsert:
    """One such statement for each dialect. `complete` adds the clause to the insert; the parameters are `columns`, by their names."""

    def __init__(self, table: Table, columns: tuple[str, ...], complete: Callable[[Any], Any]) -> None:
        self._texts: dict[str, TextClause] = {}
        for name, (insert, dialect) in _DIALECTS.items():
            self._texts[name] = text(str(complete(insert(table)).compile(dialect=dialect, column_keys=columns)))

    def on(self, connection: Connection) -> TextClause:
        return self._texts[connection.dialect.name]


def unless_there(table: Table, columns: tuple[str, ...]) -> Upsert:
    return Upsert(table, columns, lambda statement: statement.on_conflict_do_nothing())


def replacing(table: Table, columns: tuple[str, ...], *, by: tuple[str, ...], values: tuple[str, ...]) -> Upsert:
    """A row with the same columns `by` gets the new `values`."""

    def complete(statement: Any) -> Any:
        return statement.on_conflict_do_update(
            index_elements=[table.c[name] for name in by], set_={name: statement.excluded[name] for name in values}
        )

    return Upsert(table, columns, complete)
