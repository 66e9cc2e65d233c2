"""`narf compare` and `narf rerun`: what made the difference, and the same once more."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect

compare = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
rerun = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

_SECTIONS = ("code", "params", "environment", "data", "metrics")


@compare.command(epilog="Example: narf compare 3f2a90... 77b01c...")
def compare_(
    runs: Annotated[list[str], typer.Argument(help="Two runs or more.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What differs between runs: code, parameters, environment, data, metrics."""
    with connect() as connection:
        found = connection.get("/api/v1/compare", run=runs)
    if as_json:
        output.print_json(found)
        return
    names = [f"{run['name']} ({run['id'][:8]})" for run in found["runs"]]
    for section in _SECTIONS:
        rows = [[row["name"], *(_shown(value) for value in row["values"])] for row in found[section]]
        same = found["same"][section]
        if not rows and not same:
            continue
        print(f"{section}: {len(rows)} differ, {same} the same")
        if rows:
            output.print_table(rows, ["", *names])
        print()


@rerun.command(epilog="Example: narf rerun 3f2a90... --follow")
def rerun_(
    run: Annotated[str, typer.Argument(help="The run to repeat.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show its output until it ends, then what differs; exit as it does.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run it again as it was: code, arguments, environment, data versions. In a new run; compare the two."""
    with connect() as connection:
        made = connection.post(f"/api/v1/runs/{run}/rerun")
        if not follow:
            if as_json:
                output.print_json(made)
                return
            output.say(f"submitted as {made['workload_id']}   compare then: narf compare {run} {made['run_id']}")
            print(made["run_id"])
            return
        from narf.cli.run import wait_and_follow

        code = wait_and_follow(connection, made, as_json=as_json)
    if not as_json:
        output.say("")
        compare_([run, made["run_id"]])
    raise typer.Exit(code)


def _shown(value: Any) -> str:
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    first = text.split("\n", 1)[0]
    return first[:60] + "…" if len(first) > 60 or first != text else first
