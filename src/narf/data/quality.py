"""Data-quality checks: what must hold for a table before it becomes a version."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from narf.data.engine import engine, first_row, rows
from narf.data.statistics import plain_rows
from narf.data.tabular import Table
from narf.domain.errors import BadInput

KINDS = ("columns", "rows", "nulls", "range", "unique", "values", "matches", "sql")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`sentence`: what was looked at and what was found. `examples`: rows that are wrong."""

    check: Mapping[str, Any]
    passed: bool
    sentence: str
    examples: tuple[Any, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return {"check": dict(self.check), "passed": self.passed, "sentence": self.sentence, "examples": list(self.examples)}


class ChecksFailed(BadInput):
    """The data is not good enough; no version was made."""

    code = "checks_failed"

    def __init__(self, dataset: str, outcomes: Sequence[Outcome]) -> None:
        self.outcomes = tuple(outcomes)
        failed = [outcome.sentence for outcome in outcomes if not outcome.passed]
        shown = " ".join(failed[:5]) + (f" And {len(failed) - 5} more." if len(failed) > 5 else "")
        super().__init__(
            f"{len(failed)} of {len(outcomes)} checks of {dataset!r} failed: {shown}",
            remedy="No version was made. Mend the data or change the checks, then import again.",
            field="checks",
        )


def run_checks(table: Table, checks: Iterable[Mapping[str, Any]]) -> list[Outcome]:
    """The outcome of each check, in order.

    Raises:
        BadInput: a check is not well formed: an unknown kind, a column that is needed and not named, wrong SQL.
    """
    asked = [{name: value for name, value in check.items() if value not in (None, "", [], {})} for check in checks]
    if not asked:
        return []
    with engine({"data": table}) as connection:
        return [_run(connection, table, check) for check in asked]


def _run(connection: Any, table: Table, check: Mapping[str, Any]) -> Outcome:
    kind = check.get("kind")
    if kind not in KINDS:
        raise BadInput(f"There is no check {str(kind)[:60]!r}.", remedy=f"There are {', '.join(KINDS)}.", field="checks")
    if kind == "columns":
        return _columns(table, check)
    names = [check["column"]] if "column" in check else list(check.get("columns", []))
    if kind in ("nulls", "range", "unique", "values", "matches") and not names:
        raise BadInput(f"The check {kind!r} names no column.", remedy='Add "column".', field="checks")
    if absent := [name for name in names if name not in table.schema.names]:
        return Outcome(check, False, f"There is no column {absent[0]!r}.")
    try:
        return _CHECKS[kind](connection, check, names)
    except duckdb.Error as error:
        raise BadInput(f"The check {kind!r} cannot be made: {str(error).splitlines()[0][:300]}", field="checks") from error


def _columns(table: Table, check: Mapping[str, Any]) -> Outcome:
    wanted = dict.fromkeys(check.get("columns", []), "") | dict(check.get("types", {}))
    found = {field.name: str(field.type) for field in table.schema}
    wrong = [f"{name!r} is missing" for name in wanted if name not in found]
    wrong += [f"{name!r} is {found[name]}, not {type}" for name, type in wanted.items() if type and name in found and found[name] != type]
    return Outcome(check, not wrong, f"Columns: {'; '.join(wrong)}." if wrong else f"All {len(wanted)} columns are as they should be.")


def _rows(connection: Any, check: Mapping[str, Any], _names: list[str]) -> Outcome:
    (count,) = first_row(connection, "SELECT count(*) FROM data")
    passed = float(check.get("least", 0)) <= count <= float(check.get("most", "inf"))
    return Outcome(check, passed, f"There are {count:,} rows{'' if passed else f', not {_span(check)}'}.")


def _nulls(connection: Any, check: Mapping[str, Any], names: list[str]) -> Outcome:
    column = _quoted(names[0])
    nulls, count = first_row(connection, f"SELECT count(*) - count({column}), count(*) FROM data")
    share, most = (nulls / count if count else 0.0), float(check.get("most", 0))
    sentence = f"{names[0]!r} has {nulls:,} nulls in {count:,} rows ({share:.2%}); {most:.2%} are allowed."
    return Outcome(check, share <= most, sentence)


def _range(connection: Any, check: Mapping[str, Any], names: list[str]) -> Outcome:
    column, terms, values = _quoted(names[0]), [], []
    for bound, comparison in (("least", "<"), ("most", ">")):
        if bound in check:
            terms.append(f"{column} {comparison} ?")
            values.append(check[bound])
    if not terms:
        raise BadInput("The check 'range' has neither 'least' nor 'most'.", field="checks")
    return _none_where(connection, check, f"({' OR '.join(terms)})", values, f"{names[0]!r} outside {_span(check)}")


def _unique(connection: Any, check: Mapping[str, Any], names: list[str]) -> Outcome:
    columns = ", ".join(_quoted(name) for name in names)
    query = f"SELECT {columns}, count(*) AS times FROM data GROUP BY {columns} HAVING count(*) > 1"
    (count,) = first_row(connection, f"SELECT count(*) FROM ({query})")
    examples = plain_rows(rows(connection, f"{query} ORDER BY times DESC LIMIT 5")) if count else []
    return Outcome(check, count == 0, f"{count:,} values of {', '.join(names)} stand more than once.", tuple(examples))


def _values(connection: Any, check: Mapping[str, Any], names: list[str]) -> Outcome:
    values = list(check.get("values", []))
    if not values:
        raise BadInput("The check 'values' lists none.", remedy='Add "values".', field="checks")
    marks = ", ".join("?" for _ in values)
    return _none_where(connection, check, f"{_quoted(names[0])} NOT IN ({marks})", values, f"{names[0]!r} that is none of {values[:10]}")


def _matches(connection: Any, check: Mapping[str, Any], names: list[str]) -> Outcome:
    condition = f"NOT regexp_full_match({_quoted(names[0])}, ?)"
    return _none_where(connection, check, condition, [check.get("pattern", "")], f"{names[0]!r} unlike {check.get('pattern', '')!r}")


def _sql(connection: Any, check: Mapping[str, Any], _names: list[str]) -> Outcome:
    """Custom: a SELECT over `data` that finds what is wrong; it should find nothing."""
    statements = duckdb.extract_statements(str(check.get("sql", "")))
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise BadInput(
            "The check 'sql' is not one SELECT.", remedy="Write a SELECT over the table data that finds bad rows.", field="checks"
        )
    query = str(check["sql"]).strip().rstrip(";")
    (count,) = first_row(connection, f"SELECT count(*) FROM ({query})")
    examples = plain_rows(rows(connection, f"SELECT * FROM ({query}) LIMIT 5")) if count else []
    return Outcome(check, count == 0, f"The query finds {count:,} rows.", tuple(examples))


def _none_where(connection: Any, check: Mapping[str, Any], condition: str, values: list[Any], what: str) -> Outcome:
    (count,) = first_row(connection, f"SELECT count(*) FROM data WHERE {condition}", values)
    examples = plain_rows(rows(connection, f"SELECT * FROM data WHERE {condition} LIMIT 5", values)) if count else []
    return Outcome(check, count == 0, f"{count:,} rows have {what}.", tuple(examples))


def _span(check: Mapping[str, Any]) -> str:
    return f"{check.get('least', '-∞')} to {check.get('most', '∞')}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


_CHECKS = {"rows": _rows, "nulls": _nulls, "range": _range, "unique": _unique, "values": _values, "matches": _matches, "sql": _sql}
