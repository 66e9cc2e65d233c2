"""`narf ps`, `show`, `logs`, `cancel`: workloads from the terminal."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import Connection, connect, default_project

ps = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
show = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
logs = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
cancel = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")]


@ps.command(epilog="Example: narf ps --state running")
def ps_(
    project: Project = "",
    state: Annotated[list[str] | None, typer.Option(help="Only in this state; may be given more than once.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many, newest first.")] = 30,
    cursor: Annotated[str, typer.Option(help="Go on where a list ended.")] = "",
    as_json: Json = False,
) -> None:
    """List workloads, newest first."""
    with connect() as connection:
        page = connection.get(f"/api/v1/projects/{project or default_project()}/workloads", limit=limit, cursor=cursor, state=state)
    if as_json:
        output.print_items(page["items"], page["next"])
        return
    rows = [
        (item["id"], item["name"], item["state"], _resources(item["resources"]), item["owner"], output.age(item["created_at"]))
        for item in page["items"]
    ]
    output.print_table(
        rows, ["ID", "NAME", "STATE", "RESOURCES", "OWNER", "AGE"], right=["AGE"], empty="No workloads yet. Start one: narf run train.py"
    )


@show.command(epilog="Example: narf show wl-01h2...")
def show_(workload: str, as_json: Json = False) -> None:
    """One workload: what was asked, where it ran, what happened."""
    with connect() as connection:
        found = connection.get(f"/api/v1/workloads/{workload}")
    if as_json:
        output.print_json(found)
        return
    print(f"{found['name']}  {found['id']}\n{found['state']}: {found['sentence']}")
    program = " ".join(["python", found["script"], *found["arguments"]] if found["script"] else found["command"])
    facts = [("runs", program), ("run", found["run_id"] or "-"), ("asks for", _resources(found["resources"])), ("owner", found["owner"])]
    for name, value in facts:
        print(f"  {name:<9} {value}")
    for event in found["events"]:
        print(f"  {event['at'][:19].replace('T', ' ')}  attempt {event['attempt']}  {event['state']:<10} {event['sentence']}")


@logs.command(epilog="Example: narf logs wl-01h2... --follow")
def logs_(
    workload: str,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    attempt: Annotated[int | None, typer.Option(help="An earlier attempt.")] = None,
    as_json: Json = False,
) -> None:
    """Print what a workload wrote to standard output and error."""
    with connect() as connection:
        if as_json:
            output.print_json(connection.get(f"/api/v1/workloads/{workload}/logs", attempt=attempt, limit=4 << 20))
            return
        follow_logs(connection, workload, attempt=attempt, follow=follow)


@cancel.command(epilog="Example: narf cancel wl-01h2...")
def cancel_(workloads: list[str], as_json: Json = False) -> None:
    """Stop workloads: they may save their state, and are ended after a grace period."""
    with connect() as connection:
        found = [connection.post(f"/api/v1/workloads/{workload}/cancel") for workload in workloads]
    if as_json:
        output.print_items(found)
        return
    for item in found:
        print(f"{item['id']}: {'stopping' if not item['ended_at'] else item['state']}")


def follow_logs(connection: Connection, workload: str, *, attempt: int | None = None, follow: bool = True) -> None:
    """Write the output of an attempt to our own, as bytes; with `follow` until the workload has ended."""
    offset, current = 0, attempt
    while True:
        query = {"offset": offset, "limit": 4 << 20, "attempt": current, "wait": 10 if follow else None}
        if not follow:
            offset, complete = _raw(connection, workload, current, offset)
            if complete:
                return
            continue
        chunk = connection.get(f"/api/v1/workloads/{workload}/logs", **query)
        if chunk["start"] > offset:
            output.say(f"[{chunk['start'] - offset:,} bytes were dropped by the size limit]")
        sys.stdout.write(chunk["text"])
        sys.stdout.flush()
        offset = chunk["next"]
        if chunk["is_complete"]:
            found = connection.get(f"/api/v1/workloads/{workload}")
            if found["ended_at"] or attempt is not None:
                return
            if current is None or found["attempt"] != current:
                offset, current = 0, found["attempt"]


def _raw(connection: Connection, workload: str, attempt: int | None, offset: int) -> tuple[int, bool]:
    """Copy one chunk; the next offset, and whether that was all there is now."""
    query: dict[str, Any] = {"offset": offset} | ({"attempt": attempt} if attempt else {})
    response = connection.request("GET", f"/api/v1/workloads/{workload}/logs/raw", params=query)
    if not response.is_success:
        from narf.client.connection import problem

        raise problem(response)
    start = int(response.headers["x-narf-start"])
    if start > offset:
        output.say(f"[{start - offset:,} bytes were dropped by the size limit]")
    sys.stdout.buffer.write(response.content)
    sys.stdout.flush()
    return start + len(response.content), not response.content


def _resources(resources: dict[str, Any]) -> str:
    parts = [f"{resources['gpu']:g} GPU"] if resources["gpu"] else []
    parts.append(f"{resources['cpu']:g} CPU")
    if resources["memory_bytes"]:
        parts.append(output.size(resources["memory_bytes"]))
    return ", ".join(parts)
