"""`narf cluster`: which clusters are connected, their nodes with their GPUs, and queues with what they hold."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

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
    for trouble in found["troubles"]:
        output.say(trouble)
    waiting = "1 workload waits" if found["waiting"] == 1 else f"{found['waiting']} workloads wait"
    print(f"\n{found['gpus_free']:g} of {found['gpus']:g} GPUs are free; {waiting}.")


@app.command("list", epilog="Example: narf cluster list")
def list_(as_json: Json = False) -> None:
    """The connected clusters."""
    with connect() as connection:
        found = connection.get("/api/v1/clusters")["items"]
    if as_json:
        output.print_items(found)
        return
    rows = [
        (
            c["name"],
            c["kind"],
            c["address"],
            c["nodes"],
            c["gpus"],
            "may grow" if c["may_grow"] else "",
            c["sentence"] or "It takes workloads.",
        )
        for c in found
    ]
    output.print_table(rows, ["CLUSTER", "KIND", "ADDRESS", "NODES", "GPUS", "", "STATE"], right=["NODES", "GPUS"])


@app.command("add", epilog="Example: narf cluster add --ray head.example.org:6379 --name gpu-hall")
def add(
    ray: Annotated[str, typer.Option("--ray", metavar="ADDRESS", help="Of a Ray head: host:6379, ray://host:10001, or auto.")],
    name: Annotated[str, typer.Option(help="What it is called; made from the address when not given.")] = "",
    may_grow: Annotated[
        bool, typer.Option("--may-grow", help="It gets nodes by itself: what is too large for it now waits instead of being refused.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Connect it although nothing answers there yet.")] = False,
    as_json: Json = False,
) -> None:
    """Connect a cluster; its nodes take workloads as soon as they are seen."""
    body = {"kind": "ray", "address": ray, "name": name, "may_grow": may_grow, "offline": offline}
    with connect() as connection:
        found = connection.post("/api/v1/clusters", body)
    if as_json:
        output.print_json(found)
    else:
        print(f"{found['name']} is connected. Its nodes show up within half a minute: narf cluster show")


@app.command("remove", epilog="Example: narf cluster remove gpu-hall")
def remove(
    name: str,
    force: Annotated[bool, typer.Option("--force", help="Stop what runs there; it starts again elsewhere.")] = False,
) -> None:
    """Let go of a cluster. It takes nothing more; what ran there keeps its records."""
    with connect() as connection:
        connection.delete(f"/api/v1/clusters/{quote(name, safe='')}" + ("?force=true" if force else ""))
    print(f"{name} is no longer connected.")


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
