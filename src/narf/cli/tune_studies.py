"""Studies on the terminal: a live table while one runs, and what `narf tune --show`, `--best` and the others print."""

from __future__ import annotations

import sys
from typing import Any
from urllib.parse import quote

from narf.cli import output
from narf.client.connection import Connection
from narf.client.tuning import follow
from narf.domain.errors import BadInput

_ROWS = 12


def act(
    connection: Connection, project: str, verb: str, study: str, *, limits: dict[str, Any] | None, register: str, as_json: bool
) -> None:
    """Do what a flag that names a study asks for."""
    if verb == "list":
        _list(connection, project, as_json)
        return
    if verb == "board":
        _board(connection, project, as_json)
        return
    info = connection.get(f"/api/v1/projects/{project}/studies/named/{quote(study, safe='')}")
    place = f"/api/v1/studies/{info['id']}"
    if verb == "show":
        _show(connection, info, as_json)
    elif verb == "best":
        _best(connection, place, register, as_json)
    elif verb == "importance":
        _importance(connection, place, as_json)
    else:
        if verb == "extend" and limits is None:
            raise BadInput(
                "Say by how much: the whole budget is given anew.", remedy="narf tune --extend STUDY --trials 50", field="budget"
            )
        answer = connection.post(f"{place}/{verb}", {"budget": limits} if verb == "extend" else None)
        if as_json:
            output.print_json(answer)
        else:
            print(f"{answer['name']}: {answer['state']}. {answer['sentence']}")


def follow_to_end(connection: Connection, study: dict[str, Any], *, as_json: bool) -> int:
    """Show a study until it has ended; the exit code to leave with."""
    info = study
    try:
        quiet = as_json or not sys.stdout.isatty()
        info = list(follow(connection, study["id"]))[-1] if quiet else _live(connection, study)
    except KeyboardInterrupt:
        output.say(f"\nIt goes on. See it: narf tune --show {study['name']}     Stop it: narf tune --cancel {study['name']}")
        return output.INTERRUPTED
    best = connection.get(f"/api/v1/studies/{study['id']}/best") if info["best_value"] is not None else None
    if as_json:
        output.print_json(info | {"best": best})
    else:
        _print_end(info, best)
    return 0 if info["state"] == "succeeded" else 1


def _live(connection: Connection, study: dict[str, Any]) -> dict[str, Any]:
    from rich.console import Console
    from rich.live import Live

    info = study
    with Live(console=Console(highlight=False), refresh_per_second=8, transient=True) as live:
        for info in follow(connection, study["id"]):
            trials = list(connection.items(f"/api/v1/studies/{study['id']}/trials"))
            live.update(_picture(info, trials))
    return info


def _picture(info: dict[str, Any], trials: list[dict[str, Any]]) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    counts, budget = info["trials"], info["budget"]
    done = sum(count for state, count in counts.items() if state != "running")
    of = f" of {budget['trials']}" if budget["trials"] else ""
    best = "-" if info["best_value"] is None else f"{info['best_value']:.6g}"
    head = Text(
        f"{info['name']}   {done}{of} trials, {counts['running']} running   best {info['metric']} {best}   {output.duration(info['spent_seconds'])}"
    )
    names = [parameter["name"] for parameter in info["space"]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("TRIAL", "STATE", info["metric"], "TIME", *names):
        table.add_column(column, justify="right" if column in ("TRIAL", info["metric"], "TIME") else "left", no_wrap=True)
    shown = [trial for trial in trials if trial["state"] == "running"] + [
        trial for trial in reversed(trials) if trial["state"] != "running"
    ]
    for trial in shown[:_ROWS]:
        table.add_row(*_row(trial, names))
    return Group(head, table)


def _row(trial: dict[str, Any], names: list[str]) -> list[str]:
    value = trial["value"] if trial["value"] is not None else trial["last_value"]
    seconds = "" if trial["seconds"] is None else output.duration(trial["seconds"])
    cells = [str(trial["number"]), trial["state"], "" if value is None else f"{value:.6g}", seconds]
    return cells + [_text(trial["values"].get(name)) for name in names]


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _text(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _print_end(info: dict[str, Any], best: dict[str, Any] | None) -> None:
    print(f"{info['name']}: {info['state']}. {info['sentence']}")
    for warning in info.get("warnings", ()):
        print(f"warning: {warning}")
    if best is None:
        return
    trial = best["trial"]
    print(f"best trial {trial['number']}: {info['metric']} {trial['value']:.6g}")
    _print_values(best)


def _print_values(best: dict[str, Any]) -> None:
    """The values of the best trial, of a population those along its way, and the command."""
    schedule = best.get("schedule") or []
    for name, value in best["trial"]["values"].items():
        way = [_text(step["values"].get(name)) for step in schedule]
        print(f"  {name:<20} {' -> '.join(way) if len(set(way)) > 1 else _text(value)}")
    if len(schedule) > 1:
        print(
            f"It was trained in segments, trials {', '.join(str(step['trial']) for step in schedule)}; a run with its last values throughout:"
        )
        print(f"  {best['command']}")
    else:
        print(f"run it again:  {best['command']}")


def _list(connection: Connection, project: str, as_json: bool) -> None:
    page = connection.get(f"/api/v1/projects/{project}/studies", limit=100)
    if as_json:
        output.print_items(page["items"], page["next"])
        return
    rows = [
        (
            item["name"],
            item["state"],
            item["script"],
            sum(item["trials"].values()),
            item["metric"],
            _text(item["best_value"]),
            output.age(item["created_at"]),
        )
        for item in page["items"]
    ]
    columns = ["STUDY", "STATE", "SCRIPT", "TRIALS", "METRIC", "BEST", "AGE"]
    output.print_table(rows, columns, right=["TRIALS", "BEST", "AGE"], empty="No studies yet. Begin one: narf tune train.py")


def _show(connection: Connection, info: dict[str, Any], as_json: bool) -> None:
    trials = list(connection.items(f"/api/v1/studies/{info['id']}/trials"))
    if as_json:
        output.print_json(info | {"items": trials})
        return
    print(f"{info['name']}  {info['id']}\n{info['state']}: {info['sentence']}")
    for warning in info.get("warnings", ()):
        print(f"warning: {warning}")
    names = [parameter["name"] for parameter in info["space"]]
    rows = [(*_row(trial, names), "" if trial["fault"] is None else trial["sentence"]) for trial in trials]
    columns = ["TRIAL", "STATE", info["metric"], "TIME", *names, ""]
    output.print_table(rows, columns, right=["TRIAL", info["metric"], "TIME"], empty="No trials yet.")


def _best(connection: Connection, place: str, register: str, as_json: bool) -> None:
    best = connection.get(f"{place}/best")
    if register:
        best["registered"] = connection.post(f"{place}/register", {"name": register})
    if as_json:
        output.print_json(best)
        return
    trial = best["trial"]
    print(f"trial {trial['number']}: {trial['value']:.6g}   run {trial['run_id'] or '-'}")
    _print_values(best)
    if register:
        print(f"registered as {register} version {best['registered']['version']}")


def _importance(connection: Connection, place: str, as_json: bool) -> None:
    found = connection.get(f"{place}/importance")
    if as_json:
        output.print_json(found)
        return
    rows = [(name, f"{share:.0%}") for name, share in found["importance"].items()]
    output.print_table(rows, ["PARAMETER", "EXPLAINS"], right=["EXPLAINS"], empty=found["note"])


def _board(connection: Connection, project: str, as_json: bool) -> None:
    found = connection.get(f"/api/v1/projects/{project}/studies/board")
    if as_json:
        output.print_json(found)
        return
    for group in found["groups"]:
        best = "-" if group["best_value"] is None else f"{group['best_value']:.6g} in {group['best_study']}"
        print(
            f"{group['script']}  {group['direction']} {group['metric']}: {_count(group['trials'], 'trial', 'trials')} in "
            f"{_count(len(group['studies']), 'study', 'studies')}, best {best}"
        )
        rows = []
        for row in group["parameters"]:
            share = "" if row["importance"] is None else f"{row['importance']:.0%}"
            region = ", ".join(map(str, row["best_choices"])) or (
                f"{_text(row['best_low'])}..{_text(row['best_high'])}" if row["best_low"] is not None else ""
            )
            rows.append((row["parameter"], share, region))
        output.print_table(rows, ["PARAMETER", "EXPLAINS", "BEST REGION"], right=["EXPLAINS"])
    if not found["groups"]:
        print("No studies yet. Begin one: narf tune train.py")
