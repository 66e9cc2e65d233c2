"""`narf sources`: places data comes from, set up once and used by name."""

from __future__ import annotations

from typing import Annotated

import typer

from narf.cli import output
from narf.cli.data import Json, Project, path_of, patiently, print_columns, print_preview
from narf.client.connection import connect
from narf.domain.errors import BadInput, NarfError

app = typer.Typer(
    help="Places data comes from.", pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True
)


@app.command(
    "add", epilog="Example: narf sources add lake s3 bucket=raw endpoint=https://s3.bank access_key_id=AK secret_access_key=secret:LAKE_KEY"
)
def add(
    name: str,
    kind: Annotated[str, typer.Argument(help="s3, webhdfs, http, folder, postgresql, sqlite, iceberg, ...; see: narf sources kinds")],
    options: Annotated[list[str], typer.Argument(help="OPTION=VALUE ...; a secret as OPTION=secret:NAME")],
    description: str = "",
    test: Annotated[bool, typer.Option(help="Reach it right away.")] = True,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Set up a source. Its secrets are named, never given here: narf secret set NAME."""
    given = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise BadInput(f"{option!r} is not OPTION=VALUE.", remedy="As: bucket=raw")
        given[key] = value
    with connect() as connection:
        made = connection.put(path_of(project, "sources", name), {"kind": kind, "options": given, "description": description})
        try:
            said = patiently(connection, "POST", path_of(project, "sources", name, "test"))["detail"] if test else ""
        except NarfError:
            output.say(f"source {name} is set up, but does not work yet:")
            raise
    if as_json:
        output.print_json(made)
        return
    note = "" if made["tested"] else " This kind is untested: no test of this project runs it."
    print(f"source {name} is set up. {said}{note}".rstrip())


@app.command("list", epilog="Example: narf sources list")
def list_sources(project: Project = "", as_json: Json = False) -> None:
    """The sources of a project."""
    with connect() as connection:
        items = list(connection.items(path_of(project, "sources")))
    if as_json:
        output.print_items(items)
        return
    rows = [(s["name"], s["kind"] + ("" if s["tested"] else " (untested)"), _options(s["options"]), s["created_by"]) for s in items]
    output.print_table(rows, ["SOURCE", "KIND", "OPTIONS", "BY"], empty="No sources yet. Set one up: narf sources add --help")


@app.command("kinds", epilog="Example: narf sources kinds")
def kinds(as_json: Json = False) -> None:
    """The kinds of source and their options."""
    with connect() as connection:
        items = connection.get("/api/v1/source-kinds")["items"]
    if as_json:
        output.print_items(items)
        return
    rows = [(k["kind"], "yes" if k["tested"] else "untested", ", ".join(k["required"]), ", ".join(k["optional"])) for k in items]
    output.print_table(rows, ["KIND", "TESTED", "NEEDS", "MAY HAVE"])


@app.command("test", epilog="Example: narf sources test lake")
def reach(name: str, project: Project = "", as_json: Json = False) -> None:
    """Reach a source with its credentials."""
    with connect() as connection:
        found = patiently(connection, "POST", path_of(project, "sources", name, "test"))
    output.print_json(found) if as_json else print(f"{name}: {found['detail']}")


@app.command("preview", epilog="Example: narf sources preview warehouse --query 'SELECT * FROM cards'")
def preview(
    name: str,
    path: Annotated[str, typer.Option(help="A folder or file of the source.")] = "",
    glob: Annotated[str, typer.Option(help="Only files that match.")] = "",
    table: Annotated[str, typer.Option(help="A table, as SCHEMA.TABLE.")] = "",
    query: Annotated[str, typer.Option(help="One SELECT.")] = "",
    rows: Annotated[int, typer.Option(min=1, max=500)] = 10,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Schema, first rows and statistics, before anything is copied. With no choice: what there is."""
    body = {"path": path, "pattern": glob, "table": table, "query": query, "limit": rows}
    with connect() as connection:
        found = patiently(connection, "POST", path_of(project, "sources", name, "preview"), json=body)
    if as_json:
        output.print_json(found)
        return
    if found["columns"]:
        print_columns(found["columns"], found["statistics"])
    print_preview(found)


@app.command("remove", epilog="Example: narf sources remove lake")
def remove(name: str, project: Project = "", as_json: Json = False) -> None:
    """Forget a source; what was imported from it stays."""
    with connect() as connection:
        connection.delete(path_of(project, "sources", name))
    output.print_json({"id": name}) if as_json else print(f"source {name} is removed")


def _options(options: dict[str, str]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())
