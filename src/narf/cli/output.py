"""How commands speak: tables and sentences for people, JSON for programs, errors with what to do, exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from narf.domain import errors

# Exit codes, documented in docs/reference/cli.md.
OK, FAILED, USAGE, NOT_FOUND, NOT_ALLOWED, UNAVAILABLE, LIMIT = 0, 1, 2, 3, 4, 5, 6
INTERRUPTED = 130


def exit_code_of(error: errors.NarfError) -> int:
    table: list[tuple[type[errors.NarfError], int]] = [
        (errors.NotFound, NOT_FOUND),
        (errors.BadInput, USAGE),
        (errors.NotAllowed, NOT_ALLOWED),
        (errors.NotSignedIn, NOT_ALLOWED),
        (errors.Unavailable, UNAVAILABLE),
        (errors.LimitReached, LIMIT),
    ]
    return next((code for kind, code in table if isinstance(error, kind)), FAILED)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, default=str))


def print_items(items: Sequence[Any], following: str | None = None) -> None:
    """A list as every list is said in JSON."""
    print_json({"items": list(items), "next": following})


def print_table(
    rows: Sequence[Sequence[Any]], columns: Sequence[str], *, right: Sequence[str] = (), empty: str = "Nothing here yet."
) -> None:
    """Rows under their columns; those named in `right` are numbers. `empty` says what would fill it."""
    if not rows:
        print(empty)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column in ("ID", "STATE"))
    for row in rows:
        table.add_row(*(_escape(cell) for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240, no_color=True)
    console.print(table)


def say(text: str) -> None:
    """A sentence about what happens, beside the result: to standard error."""
    print(text, file=sys.stderr, flush=True)


def print_error(error: errors.NarfError, *, as_json: bool = False) -> None:
    if as_json:
        body = {"code": error.code, "detail": error.sentence, "remedy": error.remedy, "field": error.field}
        print(json.dumps({"error": body}), file=sys.stderr)
        return
    red, plain = ("\033[31m", "\033[0m") if sys.stderr.isatty() else ("", "")
    print(f"{red}narf: {error.sentence}{plain}", file=sys.stderr)
    if error.remedy:
        print(f"      {error.remedy}", file=sys.stderr)


def age(moment: str | None, now: datetime | None = None) -> str:
    """How long ago an RFC 3339 moment was: "12 s", "5 min", "3 h", "4 d"."""
    if not moment:
        return ""
    seconds = ((now or datetime.now(UTC)) - datetime.fromisoformat(moment)).total_seconds()
    return duration(max(0.0, seconds))


def duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size_bytes) < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} TB"


def _escape(cell: Any) -> str:
    from rich.markup import escape

    text = "" if cell is None else str(cell)
    return escape("".join(c if c.isprintable() else "\ufffd" for c in text))
