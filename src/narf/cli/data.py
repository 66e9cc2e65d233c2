"""`narf data`: datasets and their versions."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import Connection, connect, default_project
from narf.domain.errors import BadInput

app = typer.Typer(
    help="Datasets and their versions.", pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]
Tags = Annotated[list[str], typer.Option("--tag", help="Also move this tag to the version; may be repeated.")]
Checks = Annotated[Path | None, typer.Option("--checks", help="A JSON file with data-quality checks that must pass.")]


def path_of(project: str, *parts: str) -> str:
    return "/".join([f"/api/v1/projects/{project or default_project()}", *parts])


def version_path(project: str, reference: str) -> str:
    """Of NAME or NAME@VERSION."""
    name, _, version = reference.partition("@")
    return path_of(project, "datasets", name, "versions", version or "latest")


@app.command("add", epilog="Example: narf data add digits ./digits --tag approved")
def add(
    name: str,
    folder: Annotated[Path, typer.Argument(help="A folder, or one file.")],
    glob: Annotated[str, typer.Option(help="Only files that match, as '*.csv' or 'train/**/*.png'.")] = "",
    tag: Tags = [],  # noqa: B006
    checks: Checks = None,
    description: Annotated[str | None, typer.Option(help="What the dataset is.")] = None,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Make a version of the files of a folder. Only what changed is read and sent."""
    from narf.client.data import add_folder

    if folder.is_file():
        folder, glob = folder.parent, folder.name
    with connect() as connection:
        made = add_folder(
            connection,
            project or default_project(),
            name,
            folder,
            pattern=glob,
            tags=tag,
            checks=read_checks(checks),
            description=description,
            progress=show_progress(as_json),
        )
    print_version(made, as_json)


@app.command("import", epilog="Example: narf data import cards --source warehouse --query 'SELECT * FROM cards'")
def import_data(
    name: str,
    source: Annotated[str, typer.Option(help="The source; see: narf sources list")],
    path: Annotated[str, typer.Option(help="A folder or file of the source.")] = "",
    glob: Annotated[str, typer.Option(help="Only files that match, as '*.parquet'.")] = "",
    table: Annotated[str, typer.Option(help="A table, as SCHEMA.TABLE.")] = "",
    query: Annotated[str, typer.Option(help="One SELECT.")] = "",
    tag: Tags = [],  # noqa: B006
    checks: Checks = None,
    allow_schema_change: Annotated[
        bool, typer.Option("--allow-schema-change", help="The columns may differ from the last version's.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for it.")] = True,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Make a version from a source: files, a table or a query. Files that did not change are not fetched again."""
    body: dict[str, Any] = {"source": source, "path": path, "pattern": glob, "table": table, "query": query, "tags": tag}
    body |= {"checks": read_checks(checks), "same_schema": not allow_schema_change}
    with connect() as connection:
        found = connection.post(path_of(project, "datasets", name, "imports"), body)
        while wait and found["state"] in ("queued", "running"):
            time.sleep(0.3)
            found = connection.get(f"/api/v1/imports/{found['id']}")
            if not as_json and sys.stderr.isatty():
                print(f"{found['state']}: {found['rows']:,} rows, {found['files']:,} files ", end="\r", file=sys.stderr, flush=True)
        if found["state"] == "failed":
            raise BadInput(found["detail"], remedy=found["remedy"], code="import_failed")
        if found["state"] == "succeeded":
            found = connection.get(version_path(project, f"{name}@{found['version']}"))
            print_version(found, as_json)
            return
    output.print_json(found) if as_json else print(f"import {found['id']} is {found['state']}")


@app.command("imports", epilog="Example: narf data imports --cancel imp-1m8f4p88f2830gyw")
def imports(
    dataset: Annotated[str, typer.Option(help="Only those of this dataset.")] = "",
    cancel: Annotated[str, typer.Option(help="Ask this import to stop; nothing of it becomes a version.")] = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """The imports of a project, newest first: how far they are, or why they failed."""
    with connect() as connection:
        if cancel:
            found = connection.post(f"/api/v1/imports/{cancel}/cancel")
            output.print_json(found) if as_json else print(f"import {cancel} is asked to stop")
            return
        items = connection.get(path_of(project, "imports"), dataset=dataset)["items"]
    if as_json:
        output.print_items(items)
        return
    rows = [
        (
            i["id"],
            i["dataset"],
            i["source"],
            i["state"],
            i["version"] or "",
            i["files"],
            i["rows"],
            output.age(i["created_at"]),
            i["detail"],
        )
        for i in items
    ]
    columns = ["IMPORT", "DATASET", "SOURCE", "STATE", "VERSION", "FILES", "ROWS", "AGE", "DETAIL"]
    output.print_table(rows, columns, right=["FILES", "ROWS"], empty="No imports yet. Begin one: narf data import NAME --source SOURCE")


@app.command("list", epilog="Example: narf data list --project vision")
def list_datasets(search: str = "", project: Project = "", as_json: Json = False) -> None:
    """The datasets of a project."""
    with connect() as connection:
        items = list(connection.items(path_of(project, "datasets"), search=search))
    if as_json:
        output.print_items(items)
        return
    rows = []
    for item in items:
        latest = item["latest"] or {}
        size = output.size(latest["size_bytes"]) if latest else ""
        tags = ", ".join(f"{tag}={version}" for tag, version in item["tags"].items())
        rows.append(
            (item["name"], latest.get("version"), latest.get("kind"), latest.get("rows"), size, tags, output.age(item["updated_at"]))
        )
    columns = ["DATASET", "LATEST", "KIND", "ROWS", "SIZE", "TAGS", "CHANGED"]
    output.print_table(rows, columns, right=["ROWS", "SIZE"], empty="No datasets yet. Make one: narf data add NAME FOLDER")


@app.command("versions", epilog="Example: narf data versions digits")
def versions(name: str, removed: bool = False, project: Project = "", as_json: Json = False) -> None:
    """The versions of a dataset, newest first."""
    with connect() as connection:
        items = list(connection.items(path_of(project, "datasets", name, "versions"), removed=removed))
    if as_json:
        output.print_items(items)
        return
    rows = [
        (
            v["version"],
            v["id"][:12],
            v["kind"],
            v["files"],
            v["rows"],
            output.size(v["size_bytes"]),
            ", ".join(v["tags"]),
            v["created_by"],
            output.age(v["created_at"]),
        )
        for v in items
    ]
    columns = ["VERSION", "ID", "KIND", "FILES", "ROWS", "SIZE", "TAGS", "BY", "AGE"]
    output.print_table(rows, columns, right=["FILES", "ROWS", "SIZE"])


@app.command("show", epilog="Example: narf data show digits@v3")
def show(
    reference: str,
    files: Annotated[bool, typer.Option("--files", help="List the files.")] = False,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """One version: columns, statistics, where it came from."""
    with connect() as connection:
        version = connection.get(version_path(project, reference))
        if files:
            items = list(connection.items(version_path(project, reference) + "/files"))
            if as_json:
                output.print_items(items)
            else:
                output.print_table(
                    [(f["path"], f["size"], f["rows"], f["sha256"][:12]) for f in items],
                    ["PATH", "BYTES", "ROWS", "SHA-256"],
                    right=["BYTES", "ROWS"],
                )
            return
    if as_json:
        output.print_json(version)
        return
    print_version(version, as_json)
    print_columns(version["columns"], version["statistics"].get("columns", {}))
    if note := version["statistics"].get("note"):
        print(note)
    for key, value in version["provenance"].items():
        if value:
            print(f"{key}: {value if isinstance(value, str) else json.dumps(value)}")


@app.command("preview", epilog="Example: narf data preview digits@v3 --rows 5")
def preview(reference: str, rows: Annotated[int, typer.Option(min=1, max=500)] = 10, project: Project = "", as_json: Json = False) -> None:
    """The first rows of a table, or the first files."""
    with connect() as connection:
        found = connection.get(version_path(project, reference) + "/preview", limit=rows)
    if as_json:
        output.print_json(found)
        return
    print_preview(found)


@app.command("diff", epilog="Example: narf data diff digits v2 v3 --key id")
def diff(
    name: str,
    before: str,
    after: str = typer.Argument("latest"),
    key: Annotated[list[str], typer.Option(help="Match rows by this column; may be repeated.")] = [],  # noqa: B006
    project: Project = "",
    as_json: Json = False,
) -> None:
    """What changed between two versions: files, columns, rows, statistics."""
    with connect() as connection:
        found = connection.get(path_of(project, "datasets", name, "diff"), before=before, after=after, key=key)
    if as_json:
        output.print_json(found)
        return
    _print_diff(found)


@app.command("tag", epilog="Example: narf data tag digits@v3 approved")
def tag(
    reference: str,
    name: Annotated[str, typer.Argument(help="The tag, as 'approved'.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tag away instead.")] = False,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Move a tag to a version, or take it away."""
    dataset, _, version = reference.partition("@")
    with connect() as connection:
        path = path_of(project, "datasets", dataset, "tags", name)
        if remove:
            connection.delete(path)
            output.print_json({"id": name}) if as_json else print(f"{dataset}@{name} is no more")
            return
        made = connection.put(path, {"version": version or "latest"})
    output.print_json(made) if as_json else print(f"{dataset}@{name} is {made['version']} now")


@app.command("verify", epilog="Example: narf data verify digits@v3")
def verify(reference: str, project: Project = "", as_json: Json = False) -> None:
    """Read every byte again and compare with the digests."""
    with connect() as connection:
        found = patiently(connection, "POST", version_path(project, reference) + "/verify")
    if as_json:
        output.print_json(found)
    elif found["damaged"]:
        print("\n".join(f"damaged: {path}" for path in found["damaged"]))
        output.say("Import the data again: what is intact stays, what is damaged is replaced.")
    else:
        print(f"{found['files']:,} files, {output.size(found['size_bytes'])}: intact")
    if found["damaged"]:
        sys.exit(output.FAILED)


@app.command("remove", epilog="Example: narf data remove digits@v2")
def remove(reference: str, project: Project = "", as_json: Json = False) -> None:
    """Let go of a version; `narf data gc` then frees what no other version needs. Its lineage stays known."""
    if "@" not in reference:
        raise BadInput("This removes one version.", remedy=f"Name it: narf data remove {reference}@v1")
    with connect() as connection:
        connection.delete(version_path(project, reference))
    output.print_json({"id": reference}) if as_json else print(f"{reference} is removed")


@app.command("gc", epilog="Example: narf data gc --dry-run")
def gc(dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False, as_json: Json = False) -> None:
    """Delete objects and caches that no version needs (admins)."""
    with connect() as connection:
        found = patiently(connection, "POST", "/api/v1/data/gc", params={"dry_run": dry_run})
    if as_json:
        output.print_json(found)
        return
    verb = "would be deleted" if dry_run else "deleted"
    print(f"{found['objects']:,} objects ({output.size(found['size_bytes'])}) and {found['folders']:,} cached folders {verb}")


@app.command("path", epilog="Example: ls $(narf data path digits@v3)")
def path(reference: str, project: Project = "", as_json: Json = False) -> None:
    """A read-only folder with the files of a version, fetched if it is not here yet."""
    from narf.client.data import place

    with connect() as connection:
        version = connection.get(version_path(project, reference))
        folder = place(connection, project or default_project(), version)
    output.print_json({"folder": str(folder)}) if as_json else print(folder)


@app.command("lineage", epilog="Example: narf data lineage digits@v3")
def lineage(
    reference: str,
    direction: Annotated[str, typer.Option(help="up, down or both.")] = "both",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """What a version came from, and what came of it."""
    with connect() as connection:
        version = connection.get(version_path(project, reference))
        id = f"{version['project']}/{version['dataset']}@{version['version']}"
        found = connection.get(path_of(project, "lineage"), kind="dataset_version", id=id, direction=direction)
    if as_json:
        output.print_json(found)
        return
    output.print_table([(e["source"], e["relation"], e["target"]) for e in found["edges"]], ["FROM", "RELATION", "TO"])


def read_checks(place: Path | None) -> list[dict[str, Any]]:
    if place is None:
        return []
    try:
        checks = json.loads(place.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"The checks in {str(place)!r} cannot be read: {error}.", remedy="Write a JSON list of checks.") from error
    if not isinstance(checks, list) or not all(isinstance(check, dict) for check in checks):
        raise BadInput(f"{str(place)!r} is no JSON list of checks.", remedy='As [{"kind": "nulls", "column": "label"}].')
    return checks


def patiently(connection: Connection, method: str, path: str, **arguments: Any) -> Any:
    """A call that may take long, for it reads all of the data."""
    from narf.client.connection import problem

    response = connection.request(method, path, timeout=3600.0, **arguments)
    if not response.is_success:
        raise problem(response)
    return response.json()


def show_progress(quiet: bool) -> Any:
    if quiet or not sys.stderr.isatty():
        return lambda _what, _done, _all: None

    def show(what: str, done: int, everything: int) -> None:
        if done % 256 == 0 or done == everything - 1:
            end = "\n" if done == everything - 1 else "\r"
            print(f"{what} {done + 1:,} of {everything:,} files ", end=end, file=sys.stderr, flush=True)

    return show


def print_version(version: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(version)
        return
    rows = f", {version['rows']:,} rows" if version["rows"] is not None else ""
    files = f"{version['files']:,} file{'' if version['files'] == 1 else 's'}"
    same = " (nothing changed)" if version.get("created") is False else ""
    tags = f"  [{', '.join(version['tags'])}]" if version["tags"] else ""
    print(
        f"{version['dataset']}@{version['version']}  {version['id'][:12]}  {files}{rows}, {output.size(version['size_bytes'])}{tags}{same}"
    )


def print_columns(columns: list[dict[str, Any]], statistics: dict[str, Any]) -> None:
    if not columns:
        return
    rows = []
    for column in columns:
        found = statistics.get(column["name"], {})
        values = [found.get(measure) for measure in ("nulls", "distinct", "min", "mean", "max")]
        rows.append([column["name"], column["type"], *(_short(value) for value in values)])
    output.print_table(
        rows, ["COLUMN", "TYPE", "NULLS", "DISTINCT", "MIN", "MEAN", "MAX"], right=["NULLS", "DISTINCT", "MIN", "MEAN", "MAX"]
    )


def print_preview(found: dict[str, Any]) -> None:
    if found["columns"]:
        output.print_table([[_short(value) for value in row] for row in found["rows"]], [column["name"] for column in found["columns"]])
        if found.get("total_rows") is not None:
            output.say(f"{len(found['rows'])} of {found['total_rows']:,} rows")
        return
    files = found.get("files") or found.get("entries") or []
    if files and "size" not in files[0]:
        output.print_table([(f["path"],) for f in files], ["TABLE"])
        return
    output.print_table([(f["path"], f["size"]) for f in files], ["PATH", "BYTES"], right=["BYTES"])


def _print_diff(found: dict[str, Any]) -> None:
    counts = found["files"]["counts"]
    print("files    " + ", ".join(f"{count:,} {what}" for what, count in counts.items()))
    for what in ("added", "removed", "changed"):
        for entry in found["files"][what][:20]:
            print(f"  {'+' if what == 'added' else '-' if what == 'removed' else '~'} {entry['path']}")
    for what, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for column in found["columns"][what]:
            print(f"column   {sign} {column['name']} {column.get('type') or column['before'] + ' -> ' + column['after']}")
    if found["rows"]:
        print(
            "rows     " + ", ".join(f"{found['rows'][what]:,} {what}" for what in ("added", "removed", "changed") if what in found["rows"])
        )
    rows = []
    for column, measures in found["statistics"].items():
        rows += [(column, measure, _short(old), _short(new)) for measure, (old, new) in measures.items()]
    if rows:
        output.print_table(rows, ["COLUMN", "MEASURE", "BEFORE", "AFTER"], right=["BEFORE", "AFTER"])


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "" if value is None else str(value)
    return text if len(text) <= 40 else text[:39] + "…"
