"""`narf endpoints` and `narf trace`: what serves, how it is doing, and where a prediction came from."""

from __future__ import annotations

import base64
import contextlib
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.cli.models import print_lineage
from narf.client.connection import connect, default_project
from narf.domain.errors import NotAllowed

app = typer.Typer(
    help="Endpoints.", pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, invoke_without_command=True
)
trace = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]


@app.callback(epilog="Example: narf endpoints      narf endpoints show digits")
def main(context: typer.Context, project: Project = "", as_json: Json = False) -> None:
    """Endpoints: without a command, the list of them."""
    if context.invoked_subcommand is None:
        list_(project, as_json)


@app.command("list", epilog="Example: narf endpoints list")
def list_(project: Project = "", as_json: Json = False) -> None:
    """Endpoints of a project."""
    with connect() as connection:
        items = connection.get(f"/api/v1/projects/{project or default_project()}/endpoints")["items"]
    if as_json:
        output.print_items(items)
        return
    rows = [
        [e["name"], e["state"], _serving(e), f"{e['ready']} of {e['least']}..{e['most']}", output.age(e["last_used"]), e["url"]]
        for e in items
    ]
    output.print_table(
        rows, ["NAME", "STATE", "SERVES", "REPLICAS", "USED", "URL"], empty="No endpoints yet. Make one: narf deploy MODEL@ALIAS"
    )


@app.command("show", epilog="Example: narf endpoints show digits")
def show(name: str, as_json: Json = False) -> None:
    """One endpoint: revisions, replicas and what happened."""
    with connect() as connection:
        found = connection.get(f"/api/v1/endpoints/{name}")
        traffic = connection.get(f"/api/v1/endpoints/{name}/traffic")
    if as_json:
        output.print_json({**found, "traffic": traffic})
        return
    print(f"{found['name']}  {found['state']}  {found['url']}")
    if found["trouble"]:
        print(f"  trouble: {found['trouble']}")
    if found["alias"]:
        print(f"  follows {found['model']}@{found['alias']}")
    if kept := _kept(found["keep"]):
        print(f"  keeps payloads: {kept}")
    if found["shared"]:
        own = any(not replica["shared"] for replica in found["replicas"])
        print("  shares a process with other small models" + (", but has its own now" if own else ""))
    print(f"  last hour: {_traffic(traffic)}")
    rows = [
        [
            r["number"],
            f"{r['model']}/{r['version']}",
            r["role"],
            f"{r['weight']:g} %",
            _replicas(r["replicas"]),
            output.age(r["created_at"]),
            r["reason"],
        ]
        for r in found["revisions"][-10:]
    ]
    output.print_table(rows, ["REVISION", "MODEL", "ROLE", "TRAFFIC", "REPLICAS", "AGE", "BECAUSE"], right=["REVISION", "TRAFFIC"])
    for event in found["events"][:10]:
        print(f"  {output.age(event['at']):>8} ago  {event['sentence']}")


@app.command("scale", epilog="Example: narf endpoints scale digits 1..4")
def scale(name: str, replicas: Annotated[str, typer.Argument(help="2, or 0..4.")], as_json: Json = False) -> None:
    """Change how many replicas there may be."""
    from narf.cli.deploy import _range

    least, most = _range(replicas)
    _change(name, {"least": least, "most": most}, as_json)


@app.command("follow", epilog="Example: narf endpoints follow digits champion      narf endpoints follow digits ''")
def follow(
    name: str, alias: Annotated[str, typer.Argument(help="An alias of its model; '' to follow none.")], as_json: Json = False
) -> None:
    """Follow an alias of its model: moving it rolls the endpoint."""
    _change(name, {"alias": alias}, as_json)


@app.command("rollback", epilog="Example: narf endpoints rollback digits")
def rollback(
    name: str,
    to: Annotated[int | None, typer.Option(min=1, help="A revision; the one before when not given.")] = None,
    as_json: Json = False,
) -> None:
    """Back to an earlier revision, at once. It stops following its alias."""
    with connect() as connection:
        _say(connection.post(f"/api/v1/endpoints/{name}/rollback", {"to": to}), as_json)


@app.command("promote", epilog="Example: narf endpoints promote digits")
def promote(name: str, as_json: Json = False) -> None:
    """Give a canary all the traffic now."""
    with connect() as connection:
        _say(connection.post(f"/api/v1/endpoints/{name}/promote"), as_json)


@app.command("drift", epilog="Example: narf endpoints drift digits --hours 24")
def drift(name: str, hours: Annotated[int, typer.Option(min=1, max=168)] = 24, as_json: Json = False) -> None:
    """Are the inputs still what the model was trained on?"""
    with connect() as connection:
        found = connection.get(f"/api/v1/endpoints/{name}/drift", hours=hours)
    if as_json:
        output.print_json(found)
        return
    for revision in found["revisions"]:
        print(
            f"revision {revision['revision']} ({revision['model']}/{revision['version']}), {revision['rows']:,} row{'' if revision['rows'] == 1 else 's'}"
        )
        if revision.get("baseline"):
            print(f"compared with {revision['baseline']}")
        if revision.get("note"):
            print(revision["note"])
            continue
        rows = [
            [
                f["name"],
                "drifted" if f["drifted"] else "",
                _number(f["psi"]),
                _number(f["ks"]),
                f"{f['missing']:.1%}",
                f"{f['out_of_range']:.1%}",
            ]
            for f in revision["features"][:20]
        ]
        output.print_table(rows, ["FEATURE", "", "PSI", "KS", "MISSING", "OUT OF RANGE"], right=["PSI", "KS", "MISSING", "OUT OF RANGE"])
    if not found["revisions"]:
        print("No predictions in this time.")


@app.command("delete", epilog="Example: narf endpoints delete digits")
def delete(name: str, as_json: Json = False) -> None:
    """Take an endpoint away, its replicas and records with it."""
    with connect() as connection:
        connection.delete(f"/api/v1/endpoints/{name}")
    output.print_json({"deleted": name}) if as_json else print(f"{name} is deleted")


@trace.command(epilog="Example: narf trace pred-1933f0a2b4c0d1e2f3a4b5c6d7")
def trace_(
    prediction: Annotated[str, typer.Argument(help="The id of a prediction: header narf-prediction of its answer.")], as_json: Json = False
) -> None:
    """From a prediction to model version, run, code and data."""
    with connect() as connection:
        found = connection.get(f"/api/v1/predictions/{prediction}")
        payload = None
        if found["payload"]:
            with contextlib.suppress(NotAllowed):
                payload = connection.get(f"/api/v1/predictions/{prediction}/payload")
    if as_json:
        output.print_json({**found, "payload": payload} if payload else found)
        return
    how = (
        f"status {found['status']}"
        if "status" in found
        else f"{found['milliseconds']} ms  {found['rows']} row{'' if found['rows'] == 1 else 's'}"
    )
    print(f"{'prediction':<12}{found['id']}  {found['at']}  {how}")
    print(f"{'endpoint':<12}{found['project']}/{found['endpoint']} revision {found['revision']}")
    if found["lineage"]:
        print_lineage(found["lineage"])
    if payload:
        for side in ("request", "response"):
            print(f"{side:<12}{_shown(payload, side)}")
    elif found["payload"]:
        print(f"{'payload':<12}kept; to see it needs the role maintainer")


def _shown(payload: dict[str, Any], side: str) -> str:
    """The beginning of a kept payload, where it is text."""
    body, size = base64.b64decode(payload[side]), payload[f"{side}_bytes"]
    try:
        text = body[:2000].decode()
    except UnicodeDecodeError:
        return f"{size} bytes of {payload[side + '_type'] or 'no stated type'}"
    return text if size <= 2000 else f"{text}... ({size} bytes)"


def _change(name: str, body: dict[str, Any], as_json: bool) -> None:
    with connect() as connection:
        _say(connection.patch(f"/api/v1/endpoints/{name}", body), as_json)


def _say(endpoint: dict[str, Any], as_json: bool) -> None:
    output.print_json(endpoint) if as_json else print(
        f"{endpoint['name']} is {endpoint['state']}, serves {_serving(endpoint)}, {endpoint['least']}..{endpoint['most']} replicas"
    )


def _kept(keep: dict[str, Any]) -> str:
    parts = [f"{keep['percent']:g} % of all"] if keep.get("percent") else []
    parts += ["errors"] if keep.get("errors") else []
    return f"{' and '.join(parts)}, for {keep['days']:g} days, {keep['most_bytes'] / 2**30:g} GiB at most" if parts else ""


def _serving(endpoint: dict[str, Any]) -> str:
    active = [r for r in endpoint["revisions"] if r["role"] == "active"]
    return ", ".join(f"{r['model']}/{r['version']}" + (f" {r['weight']:g} %" if len(active) > 1 else "") for r in active) or "nothing yet"


def _traffic(seen: dict[str, Any]) -> str:
    if not seen["requests"]:
        return "no request"
    slow = [f"{name} {'above 10 s' if ms is None else f'{ms:g} ms'}" for name, ms in seen["percentiles"].items() if name != "p95"]
    counts = (
        f"{seen['requests']:,} request{'s' if seen['requests'] != 1 else ''}, {seen['errors']:,} error{'s' if seen['errors'] != 1 else ''}"
    )
    return f"{counts}, {', '.join(slow)}, error budget used {seen['error_budget']['used']:.0%}"


def _replicas(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
