"""`narf experiments`: named sets of runs."""

from __future__ import annotations

from typing import Annotated

import typer

from narf.cli import output
from narf.client.connection import connect, default_project

experiments = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@experiments.command(epilog="Example: narf experiments --project vision")
def experiments_(
    project: Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the experiments of a project."""
    with connect() as connection:
        found = connection.get(f"/api/v1/projects/{project or default_project()}/experiments")
    if as_json:
        output.print_items(found["items"], found["next"])
        return
    rows = [(item["id"], item["name"], item["runs"], output.age(item["created_at"])) for item in found["items"]]
    output.print_table(
        rows, ["ID", "NAME", "RUNS", "AGE"], right=["RUNS", "AGE"], empty="No experiments. Make one: narf run train.py --experiment NAME"
    )
