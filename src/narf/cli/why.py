"""`narf why`: why a workload waits, when it will start, and what would make it start now."""

from __future__ import annotations

from typing import Annotated

import typer

from narf.cli import output
from narf.client.connection import connect

why = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@why.command(epilog="Example: narf why wl-01h2... --history")
def why_(
    workload: str,
    history: Annotated[bool, typer.Option("--history", help="Why it waited before, from when to when.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say why a workload waits."""
    with connect() as connection:
        found = connection.get(f"/api/v1/workloads/{workload}/why")
        decided = connection.get(f"/api/v1/workloads/{workload}/decisions")["items"] if history else []
    if as_json:
        output.print_json({**found, "decisions": decided} if history else found)
        return
    print(f"{found['workload']} is {found['state']}. {found['sentence']}")
    if found["remedy"]:
        print(found["remedy"])
    for row in decided:
        until = (row["until_at"] or "now")[:19].replace("T", " ")
        what = f"waited: {row['reason'].replace('_', ' ')}" if row["kind"] == "waiting" else row["kind"]
        span = row["from_at"][:19].replace("T", " ") + (f" to {until}" if row["kind"] == "waiting" else "")
        print(f"  {span}  {what}")
