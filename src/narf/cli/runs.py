"""`narf runs` and `narf run-show`: recorded runs from the terminal."""

from __future__ import annotations

import csv
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect, default_project
from narf.domain.errors import BadInput

runs = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)
run_show = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

_FACTS = {
    "id": "ID",
    "name": "NAME",
    "experiment": "EXPERIMENT",
    "status": "STATE",
    "user": "USER",
    "created_at": "AGE",
    "duration": "TOOK",
}
_MOST_METRICS = 4


@runs.command(
    epilog="Example: narf runs --filter \"metrics.val_loss < 0.1 and params.lr = '0.01'\" --sort metrics.val_loss --columns name,params.lr,metrics.val_loss"
)
def runs_(
    project: Annotated[str, typer.Option("--project", help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    filter: Annotated[str, typer.Option("--filter", help="MLflow's language: metrics.loss < 0.1 and params.lr = '0.01'.")] = "",
    experiment: Annotated[list[str] | None, typer.Option(help="Only of this experiment; may be given more than once.")] = None,
    sort: Annotated[
        list[str] | None, typer.Option(help="metrics.loss, params.lr, start_time; '-' before it, or ' DESC' after: greatest first.")
    ] = None,
    columns: Annotated[str, typer.Option(help="Comma-separated: id, name, metrics.loss, params.lr, tags.team.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=50_000, help="How many.")] = 30,
    deleted: Annotated[bool, typer.Option("--deleted", help="Deleted runs as well.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, every column unless --columns says which.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find recorded runs, the newest first."""
    if as_csv and as_json:
        raise BadInput("--csv and --json exclude each other.", field="csv")
    chosen = [_column(name) for name in columns.split(",") if name.strip()]
    with connect() as connection:
        from narf.client.runs import find_runs

        found = find_runs(
            project or default_project(),
            filter=filter,
            order_by=[_order(text) for text in sort or []],
            experiments=experiment or [],
            most=limit,
            deleted=deleted,
            connection=connection,
        )
    if as_json:
        output.print_items(found)
    elif as_csv:
        _print_csv(found, chosen or _all_columns(found))
    else:
        shown = chosen or ["id", "name", "experiment", "status", "user", "created_at", *_few_metrics(found)]
        right = [_title(name) for name in shown if name.startswith("metrics.") or name in ("created_at", "duration")]
        rows = [[_cell(run, name) for name in shown] for run in found]
        output.print_table(rows, [_title(name) for name in shown], right=right, empty="No runs. Record one: narf run train.py")


@run_show.command(epilog="Example: narf run-show 3f2a90c1b4...")
def run_show_(
    run: Annotated[str, typer.Argument(help="Its id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """One run: parameters, metrics, artifacts, where it came from."""
    with connect() as connection:
        found = connection.get(f"/api/v1/runs/{run}")
        metrics = connection.get(f"/api/v1/runs/{run}/metrics")["items"]
        artifacts = connection.get(f"/api/v1/runs/{run}/artifacts")["items"]
    if as_json:
        output.print_json(found | {"metrics": metrics, "artifacts": artifacts})
        return
    print(f"{found['name']}  {found['id']}\n{found['status']}, experiment {found['experiment']}, by {found['user'] or '-'}")
    if found["workload"]:
        print(f"workload {found['workload']}")
    _section("parameters", sorted(found["params"].items()))
    if metrics:
        print("\nmetrics")
        rows = [[m["key"], _number(m["last"]), _number(m["min"]), _number(m["max"]), m["count"], m["last_step"]] for m in metrics]
        output.print_table(rows, ["KEY", "LAST", "MIN", "MAX", "POINTS", "STEP"], right=["LAST", "MIN", "MAX", "POINTS", "STEP"])
    _section("data", [(one["name"], one["digest"]) for one in found["datasets"]])
    _section("artifacts", [(one["path"], "folder" if one["is_folder"] else output.size(one["size"])) for one in artifacts])
    _section("tags", sorted((key, value) for key, value in found["tags"].items() if not key.startswith("mlflow.")))


def _section(title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        print(f"\n{title}")
        width = min(40, max(len(name) for name, _ in rows))
        for name, value in rows:
            text = value if len(value) <= 160 else value[:160] + "…"
            print(f"  {name:<{width}}  {text}".replace("\n", " "))


def _order(text: str) -> str:
    """MLflow's order from what people write: "-metrics.loss", "metrics.loss DESC"."""
    text = text.strip()
    return f"{text[1:]} DESC" if text.startswith("-") else text


def _column(name: str) -> str:
    name = name.strip()
    if name not in _FACTS and not name.startswith(("metrics.", "params.", "tags.")):
        raise BadInput(
            f"There is no column {name!r}.",
            remedy=f"Choose from {', '.join(_FACTS)}, metrics.NAME, params.NAME, tags.NAME.",
            field="columns",
        )
    return name


def _title(name: str) -> str:
    return _FACTS.get(name) or name.split(".", 1)[1]


def _value(run: Mapping[str, Any], name: str) -> Any:
    if name == "duration":
        return _took(run)
    kind, _, key = name.partition(".")
    return run[kind].get(key) if key else run[name]


def _cell(run: Mapping[str, Any], name: str) -> str:
    value = _value(run, name)
    if name == "created_at":
        return output.age(value)
    if name == "duration":
        return "" if value is None else output.duration(value)
    return _number(value) if name.startswith("metrics.") else "" if value is None else str(value)


def _took(run: Mapping[str, Any]) -> float | None:
    from datetime import datetime

    if not run["ended_at"]:
        return None
    return (datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["created_at"])).total_seconds()


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _few_metrics(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """The metrics that most of the runs have; system metrics have their own page."""
    counts: dict[str, int] = {}
    for run in found:
        for key in run["metrics"]:
            if not key.startswith("system/"):
                counts[key] = counts.get(key, 0) + 1
    most = sorted(counts, key=lambda key: (-counts[key], key))[:_MOST_METRICS]
    return [f"metrics.{key}" for key in most]


def _all_columns(found: Sequence[Mapping[str, Any]]) -> list[str]:
    names = [name for name in _FACTS if name != "duration"]
    for kind in ("params", "metrics", "tags"):
        names += sorted({f"{kind}.{key}" for run in found for key in run[kind] if not key.startswith("mlflow.")})
    return names


def _print_csv(found: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    for run in found:
        writer.writerow([_guarded(_value(run, name)) for name in columns])


def _guarded(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return "'" + value if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t") and not _is_number(value) else value


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
