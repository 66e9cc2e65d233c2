"""`narf models`: the model registry."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import Connection, connect, default_project
from narf.domain.errors import BadInput, NarfError

app = typer.Typer(
    help="The model registry.", pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True
)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]
Version = Annotated[str, typer.Argument(metavar="MODEL/VERSION", help="e.g. digits/3, or digits@champion.")]
_LOOK_SECONDS = 0.3


@app.command("register", epilog="Example: narf models register 4f2a... --name digits --alias champion")
def register(
    run: Annotated[
        str, typer.Argument(metavar="RUN[:ARTIFACT]", help="A run, or workload, and which of its artifacts, when it has several models.")
    ],
    name: Annotated[str, typer.Option(help="The model's name.")],
    alias: Annotated[list[str] | None, typer.Option(help="Point this alias at the version; may be repeated.")] = None,
    description: Annotated[str, typer.Option(help="What is special about this version.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")] = None,
    class_name: Annotated[
        str, typer.Option("--class", help="file.py:Class of a checkpoint; found by the training script when not given.")
    ] = "",
    inputs: Annotated[
        str, typer.Option(help="Artifact of the run with real inputs to compare on (.npy, .npz, .json, .csv, .parquet).")
    ] = "",
    processing: Annotated[str, typer.Option(help="file.py:Name in the run's code, with preprocess and postprocess.")] = "",
    runtime: Annotated[str, typer.Option(help="onnx, torchscript, torch or pyfunc; the fastest that agrees when not given.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is packaged for serving.")] = True,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Make a model version from a run, and package it for serving."""
    run_id, _, artifact = run.partition(":")
    project = project or default_project()
    with connect() as connection:
        if run_id.startswith("wl-"):
            run_id = _run_of(connection, run_id)
        body = {
            "run": run_id,
            "artifact": artifact,
            "name": name,
            "description": description,
            "tags": dict(_pair(text) for text in tag or []),
            "aliases": alias or [],
            "packaging": {"class_name": class_name, "inputs": inputs, "processing": processing, "only": runtime},
        }
        version = connection.post(f"/api/v1/projects/{project}/models", body)
        if not as_json:
            output.say(f"registered {version['id']}; packaging it in {version['package']['workload_id']}")
        if wait:
            version = wait_until_packaged(connection, project, version)
        _show_version(version, as_json)


@app.command("list", epilog="Example: narf models list")
def list_(text: Annotated[str, typer.Argument(help="Part of a name.")] = "", project: Project = "", as_json: Json = False) -> None:
    """Models of a project."""
    with connect() as connection:
        items = list(connection.items(f"/api/v1/projects/{project or default_project()}/models", text=text))
    if as_json:
        output.print_items(items)
        return
    rows = [[m["name"], m["latest"], _aliases(m["aliases"]), output.age(m["updated_at"]), m["description"]] for m in items]
    output.print_table(
        rows,
        ["NAME", "LATEST", "ALIASES", "UPDATED", "DESCRIPTION"],
        right=["LATEST"],
        empty="No models yet. Register one: narf models register RUN --name NAME",
    )


@app.command("show", epilog="Example: narf models show digits      narf models show digits/3")
def show(model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION]")], project: Project = "", as_json: Json = False) -> None:
    """A model with its versions, or one version with the evidence for its runtime."""
    base = f"/api/v1/projects/{project or default_project()}/models"
    with connect() as connection:
        if "/" in model or "@" in model:
            _show_version(connection.get(version_path(connection, base, model)), as_json)
            return
        found = connection.get(f"{base}/{model}")
    if as_json:
        output.print_json(found)
        return
    print(f"{found['name']}  {found['description']}")
    rows = [
        [
            v["version"],
            ", ".join(v["aliases"]),
            _package_word(v),
            v["run_id"] or "",
            output.age(v["created_at"]),
            v["created_by"],
            v["description"],
        ]
        for v in found["versions"]
    ]
    output.print_table(rows, ["VERSION", "ALIASES", "PACKAGE", "RUN", "AGE", "BY", "DESCRIPTION"], right=["VERSION"])


@app.command("alias", epilog="Example: narf models alias digits champion 4")
def alias_(model: str, alias: str, version: Annotated[int, typer.Argument(min=1)], project: Project = "", as_json: Json = False) -> None:
    """Point an alias at a version. Endpoints that follow it roll over."""
    with connect() as connection:
        found = connection.put(f"/api/v1/projects/{project or default_project()}/models/{model}/aliases/{alias}", {"version": version})
    output.print_json(found) if as_json else print(f"{model}@{alias} is version {version} now")


@app.command("unalias", epilog="Example: narf models unalias digits challenger")
def unalias(model: str, alias: str, project: Project = "", as_json: Json = False) -> None:
    """Take an alias away."""
    with connect() as connection:
        connection.delete(f"/api/v1/projects/{project or default_project()}/models/{model}/aliases/{alias}")
    output.print_json({"deleted": f"{model}@{alias}"}) if as_json else print(f"{model}@{alias} is gone")


@app.command("describe", epilog="Example: narf models describe digits/3 'trained without augmentation' --tag reviewed=yes")
def describe(
    model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION]")],
    description: Annotated[str | None, typer.Argument()] = None,
    tag: Annotated[list[str] | None, typer.Option(help="KEY=VALUE; may be repeated.")] = None,
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Change the description and tags of a model or version."""
    base = f"/api/v1/projects/{project or default_project()}/models"
    with connect() as connection:
        path = version_path(connection, base, model) if "/" in model else f"{base}/{model}"
        found = connection.patch(path, {"description": description, "tags": dict(_pair(text) for text in tag or [])})
    output.print_json(found) if as_json else print(f"{model} is described")


@app.command("package", epilog="Example: narf models package digits/3 --runtime torchscript")
def package(
    version: Version,
    class_name: Annotated[str, typer.Option("--class", help="file.py:Class of a checkpoint.")] = "",
    inputs: Annotated[str, typer.Option(help="Artifact of the run with real inputs.")] = "",
    processing: Annotated[str, typer.Option(help="file.py:Name in the run's code.")] = "",
    runtime: Annotated[str, typer.Option(help="onnx, torchscript, torch or pyfunc.")] = "",
    project: Project = "",
    as_json: Json = False,
) -> None:
    """Package a version again, with other options."""
    project = project or default_project()
    with connect() as connection:
        path = version_path(connection, f"/api/v1/projects/{project}/models", version)
        begun = connection.post(f"{path}/package", {"class_name": class_name, "inputs": inputs, "processing": processing, "only": runtime})
        _show_version(wait_until_packaged(connection, project, begun), as_json)


@app.command("download", epilog="Example: narf models download digits@champion ./digits")
def download(version: Version, folder: Path, project: Project = "", as_json: Json = False) -> None:
    """Fetch the serving package. It serves anywhere: python -m narf.serving.replica --package FOLDER"""
    import io

    from narf.serving.transfer import unpack

    if folder.exists():
        raise BadInput(f"{folder} exists already.", remedy="Name a new folder.", field="folder")
    with connect() as connection:
        path = version_path(connection, f"/api/v1/projects/{project or default_project()}/models", version)
        response = connection.request("GET", f"{path}/package")
        if not response.is_success:
            from narf.client.connection import problem

            raise problem(response)
    unpack(io.BytesIO(response.content), folder)
    output.print_json({"folder": str(folder)}) if as_json else print(folder)


@app.command("lineage", epilog="Example: narf models lineage digits@champion")
def lineage(version: Version, project: Project = "", as_json: Json = False) -> None:
    """The run, code and data that a version comes from."""
    with connect() as connection:
        path = version_path(connection, f"/api/v1/projects/{project or default_project()}/models", version)
        found = connection.get(f"{path}/lineage")
    output.print_json(found) if as_json else print_lineage(found)


@app.command("delete", epilog="Example: narf models delete digits/2")
def delete(model: Annotated[str, typer.Argument(metavar="MODEL[/VERSION]")], project: Project = "", as_json: Json = False) -> None:
    """Delete a version, or a model with all of them. One that serves is refused."""
    base = f"/api/v1/projects/{project or default_project()}/models"
    with connect() as connection:
        connection.delete(version_path(connection, base, model) if "/" in model else f"{base}/{model}")
    output.print_json({"deleted": model}) if as_json else print(f"{model} is deleted")


def version_path(connection: Connection, base: str, reference: str) -> str:
    """The address of MODEL/VERSION or MODEL@ALIAS."""
    model, slash, version = reference.partition("/")
    if slash:
        if not version.isdigit():
            raise BadInput(f"{version[:40]!r} is no version number.", remedy="Write it as digits/3.", field="version")
        return f"{base}/{model}/versions/{version}"
    model, _, alias = reference.partition("@")
    found = connection.get(f"{base}/{model}")
    number = found["aliases"].get(alias) if alias else found["latest"]
    if number is None:
        raise BadInput(f"{model!r} has no alias {alias!r}.", remedy=f"It has: {', '.join(found['aliases']) or 'none'}.", field="alias")
    return f"{base}/{model}/versions/{number}"


def wait_until_packaged(connection: Connection, project: str, version: dict[str, Any]) -> dict[str, Any]:
    """The version once its package is ready.

    Raises:
        NarfError: it could not be packaged.
    """
    path = f"/api/v1/projects/{project}/models/{version['model']}/versions/{version['version']}"
    while version["package"] and version["package"]["state"] == "packaging":
        time.sleep(_LOOK_SECONDS)
        version = connection.get(path)
    if version["package"] and version["package"]["state"] == "failed":
        raise NarfError(
            f"{version['id']} could not be packaged: {version['package']['error']}",
            remedy=f"Its log: narf logs {version['package']['workload_id']}",
            code="packaging_failed",
        )
    return version


def print_lineage(found: dict[str, Any]) -> None:
    code = found.get("code") or {}
    lines = {
        "model": f"{found['model']}/{found['version']}",
        "run": f"{found.get('run') or ''}  {found.get('run_name') or ''}",
        "workload": found.get("workload"),
        "code": " ".join(f"{key}={value}" for key, value in code.items()) or None,
        "snapshot": found.get("snapshot"),
        "data": ", ".join(found.get("data") or []) or None,
        "parameters": ", ".join(f"{key}={value}" for key, value in (found.get("parameters") or {}).items()) or None,
    }
    for name, value in lines.items():
        if value:
            print(f"{name:<12}{value}")


def _show_version(version: dict[str, Any], as_json: bool) -> None:
    if as_json:
        output.print_json(version)
        return
    package = version["package"]
    print(f"{version['id']}  {', '.join(version['aliases'])}  {_package_word(version)}  {version['description']}".rstrip())
    if package and package["signature"]:
        for side in ("inputs", "outputs"):
            print(f"  {side:<8}" + "  ".join(f"{t['name']} {t['datatype']}{t['shape']}" for t in package["signature"][side]))
    if package and package["evidence"]:
        evidence = package["evidence"]
        print(
            f"  compared with the original ({evidence['original']}) on {evidence['rows']} {evidence['inputs']} rows and {len(evidence['cases'])} cases"
        )
        rows = [
            [
                c["runtime"],
                "chosen" if c["runtime"] == evidence["chosen"] else "",
                _number(c["worst"]),
                _number(c["milliseconds_one"]),
                _number(c["milliseconds_batch"]),
                c["refused"],
            ]
            for c in evidence["candidates"]
        ]
        output.print_table(
            rows,
            ["RUNTIME", "", "OF TOLERANCE", "MS 1 ROW", f"MS {evidence['batch_rows']} ROWS", "REFUSED"],
            right=["OF TOLERANCE", "MS 1 ROW"],
        )
        if taken := evidence.get("memory_bytes"):
            grown = evidence["growth_allowed_bytes"]
            print(f"  takes {taken / 2**20:.0f} MiB of memory; a replica that grows by {grown / 2**20:.0f} MiB more is replaced")
    if package and package["error"]:
        print(f"  {package['error']}")


def _package_word(version: dict[str, Any]) -> str:
    package = version["package"]
    if package is None:
        return "not packaged"
    return str(package["runtime"] or package["state"])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _aliases(aliases: dict[str, int]) -> str:
    return ", ".join(f"{name}={version}" for name, version in sorted(aliases.items()))


def _run_of(connection: Connection, workload: str) -> str:
    run = connection.get(f"/api/v1/workloads/{workload}")["run_id"]
    if not run:
        raise BadInput(f"Workload {workload} has no run.", field="run")
    return str(run)


def _pair(text: str) -> tuple[str, str]:
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise BadInput(f"{text[:60]!r} is no tag.", remedy="Write it as KEY=VALUE.", field="tag")
    return key, value
