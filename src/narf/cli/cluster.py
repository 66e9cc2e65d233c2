"""`narf cluster`: nodes with their GPUs, and queues with what they hold."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.connection import connect

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False, no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("show", epilog="Example: narf cluster show")
def show(as_json: Json = False) -> None:
    """The nodes and what is free on them."""
    with connect() as connection:
        found = connection.get("/api/v1/cluster")
    if as_json:
        output.print_json(found)
        return
    rows = [
        (
            node["name"], node["flavor"], "yes" if node["schedulable"] else "no", _gpus(node["gpus"]), f"{node['cpu_free']:g}/{node['cpu']:g}",
            f"{node['memory_free_bytes'] / (1 << 30):.0f}/{node['memory_bytes'] / (1 << 30):.0f}",
        )
        for node in found["nodes"]
    ]  # fmt: skip
    output.print_table(rows, ["NODE", "FLAVOR", "USABLE", "GPUS", "CPUS FREE", "GiB FREE"], right=["CPUS FREE", "GiB FREE"])
    print(f"\n{found['gpus_free']:g} of {found['gpus']:g} GPUs are free; {found['waiting']} workloads wait.")


@app.command("queues", epilog="Example: narf cluster queues")
def queues(as_json: Json = False) -> None:
    """The queues: what each holds beside its quota and limit."""
    with connect() as connection:
        found = connection.get("/api/v1/cluster")["queues"]
    if as_json:
        output.print_items(found)
        return
    rows = [
        (
            q["name"], f"{q['held'].get('gpu', 0):g}", _or_dash(q["quota"].get("gpu")), _or_dash(q["limit"].get("gpu")), q["running"],
            q["waiting"], f"{q['usage_gpu_hours']:.1f}",
        )
        for q in found
    ]  # fmt: skip
    columns = ["QUEUE", "GPUS", "QUOTA", "LIMIT", "RUNNING", "WAITING", "USED GPU-H"]
    output.print_table(rows, columns, right=columns[1:])


def _gpus(gpus: list[dict[str, Any]]) -> str:
    """A sign a GPU: free, shared, taken."""
    return "".join("·" if gpu["free"] == 1 else "█" if gpu["free"] == 0 else "▄" for gpu in gpus) or "-"


def _or_dash(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:g}"
