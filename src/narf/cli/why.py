"""`narf why`: why a workload waits, when it will start, what would make it start now, and why it waited before."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect
from narf.domain.errors import BadInput

why = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@why.command(epilog="Example: narf why wl-01h2... --from 10:00 --to 11:30")
def why_(
    workload: str,
    history: Annotated[bool, typer.Option("--history", help="Why it waited before, from when to when.")] = False,
    after: Annotated[str, typer.Option("--from", help="Why it waited from then on: 10:00 (today), or 2026-03-01T10:00.")] = "",
    before: Annotated[str, typer.Option("--to", help="Until then.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say why a workload waits, or why it waited."""
    now = datetime.now().astimezone()
    between = {name: moment(text, now).isoformat() for name, text in (("after", after), ("before", before)) if text}
    with connect() as connection:
        found = connection.get(f"/api/v1/workloads/{workload}/why")
        decided = connection.get(f"/api/v1/workloads/{workload}/decisions", **between)["items"] if history or between else []
    if as_json:
        output.print_json({**found, "decisions": decided} if history or between else found)
        return
    if not between:
        waits = "It does not wait." if found["state"] == "running" else found["sentence"]
        print(f"{found['workload']} is {found['state']}. {waits}")
        if found["remedy"]:
            print(found["remedy"])
    elif not decided:
        output.say("It did not wait then, and nothing was decided about it.")
    for row in decided:
        print(f"  {_span(row)}  {row['sentence']}")


def moment(text: str, now: datetime) -> datetime:
    """When "10:00", "2026-03-01" or "2026-03-01T10:00" is, in the zone of `now`. A time of day is its last one.

    Raises:
        BadInput: it is not written so.
    """
    try:
        if "-" not in text:
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").time()  # noqa: DTZ007 - only the time is used
            today = datetime.combine(now.date(), clock, now.tzinfo)
            return today if today <= now else today - timedelta(days=1)
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadInput(f"{text[:40]!r} is no moment.", remedy="Write 10:00, or 2026-03-01T10:00.", field="from") from error
    return found if found.tzinfo else found.replace(tzinfo=now.tzinfo)


def _span(row: dict[str, Any]) -> str:
    begun = _local(row["from_at"])
    if row["kind"] != "waiting":
        return begun
    return f"{begun} to {_local(row['until_at']) if row['until_at'] else 'now'}"


def _local(text: str) -> str:
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
