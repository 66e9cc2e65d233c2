"""`narf run`: submit a script or a command."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.cli.workloads import follow_logs
from narf.client.amounts import parse_size, parse_time
from narf.client.code import describe_code, send_folder
from narf.client.connection import Connection, connect, default_project, find_server
from narf.client.project_file import read_requirements, read_table
from narf.domain.errors import BadInput

run = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@run.command(
    epilog="Example: narf run train.py --gpu 1 --follow -- --epochs 20     A command of any kind: narf run -- make all",
)
def run_(
    program: Annotated[
        list[str], typer.Argument(metavar="SCRIPT [-- ARGS]", help="A Python script and its arguments, or after '--' any command.")
    ],
    name: Annotated[str, typer.Option(help="What it is called; the script's name when not given.")] = "",
    project: Annotated[str, typer.Option(help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    experiment: Annotated[str, typer.Option(help="Experiment the run belongs to.")] = "",
    gpu: Annotated[float, typer.Option(min=0, help="GPUs of each node; below 1, a part of one.")] = 0.0,
    cpu: Annotated[float, typer.Option(help="CPUs of each node.")] = 1.0,
    memory: Annotated[str, typer.Option(help="Memory of each node, e.g. 4Gi; it is stopped when it uses more.")] = "",
    gpu_memory: Annotated[str, typer.Option(help="Memory that it needs of each GPU, or of its part of one, e.g. 10Gi.")] = "",
    flavor: Annotated[str, typer.Option(help="Kind of GPU node.")] = "",
    label: Annotated[list[str] | None, typer.Option(help="KEY=VALUE: only on nodes that have this label.")] = None,
    nodes: Annotated[int, typer.Option(min=1, help="Nodes; they start together or not at all.")] = 1,
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Inside the project; higher goes first.")] = 0,
    no_preempt: Annotated[
        bool, typer.Option("--no-preempt", help="Never stop it for another; it may then use only what its project is guaranteed.")
    ] = False,
    time_limit: Annotated[str, typer.Option("--time-limit", help="e.g. 90m, 12h, 2d.")] = "",
    data: Annotated[list[str] | None, typer.Option(help="A dataset, e.g. digits@v3; its folder is in NARF_DATA_DIGITS.")] = None,
    secret: Annotated[list[str] | None, typer.Option(help="NAME or VARIABLE=NAME of a secret.")] = None,
    env: Annotated[list[str] | None, typer.Option(help="VARIABLE=VALUE, or VARIABLE to pass ours on.")] = None,
    requirements: Annotated[Path | None, typer.Option(help="Requirements file to build the Python environment from.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=100, help="After a lost node; a failing program is not retried.")] = 3,
    notify: Annotated[str, typer.Option(help="URL that is called when it ends.")] = "",
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show its output until it ends; exit as it does.")] = False,
    no_up: Annotated[bool, typer.Option("--no-up", help="Do not start the platform when none is running.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a script as it is: tracked, scheduled, resumable."""
    body, folder = _program(program)
    body |= {
        "name": name,
        "experiment": experiment,
        "resources": {
            "cpu": cpu,
            "memory_bytes": parse_size(memory) if memory else 0,
            "gpu": gpu,
            "gpu_memory_bytes": parse_size(gpu_memory) if gpu_memory else 0,
            "flavor": flavor,
            "node_selector": dict(_pair(text) for text in label or []),
        },
        "replicas": nodes,
        "priority": priority,
        "preemptible": not no_preempt,
        "time_limit_seconds": parse_time(time_limit) if time_limit else None,
        "data": data or [],
        "secrets": dict(_pair(text, same=True) for text in secret or []),
        "environment": dict(_variable(text) for text in env or []),
        "requirements": read_requirements(requirements) if requirements is not None else "",
        "max_retries": retries,
        "webhook": notify,
    }
    defaults = _defaults(folder)
    body = _with_defaults(body, defaults)
    if find_server() is None and not no_up:
        from narf.cli.platform import start

        start(quiet=True)
    with connect() as connection:
        submitted = submit(connection, project or defaults.get("project") or default_project(), body, folder, quiet=as_json)
        if as_json and not follow:
            output.print_json(submitted)
            return
        if not as_json:
            output.say(
                f"submitted {submitted['name']} as {submitted['workload_id']}"
                + ("" if follow else f"   follow it: narf logs -f {submitted['workload_id']}")
            )
        if not follow:
            print(submitted["workload_id"])
            return
        raise typer.Exit(wait_and_follow(connection, submitted, as_json=as_json))


def submit(connection: Connection, project: str, body: dict[str, Any], folder: Path, *, quiet: bool = False) -> dict[str, Any]:
    """Send the folder and submit; the answer has workload_id and run_id."""

    def progress(done: int, of: int) -> None:
        if not quiet and of > 200 and (done % 200 == 0 or done == of):
            output.say(f"sending code: {done} of {of} files")

    body = {**body, "snapshot": send_folder(connection, project, folder, progress), "code": describe_code(folder)}
    response = connection.request("POST", f"/api/v1/projects/{project}/workloads", json=body, headers={"Idempotency-Key": uuid.uuid4().hex})
    if not response.is_success:
        from narf.client.connection import problem

        raise problem(response)
    answer: dict[str, Any] = response.json()
    return answer


def wait_and_follow(connection: Connection, submitted: dict[str, Any], *, as_json: bool = False) -> int:
    """Show the output until it ends; the exit code to leave with: the program's own, 1 for any other failure."""
    workload_id = submitted["workload_id"]
    try:
        if not as_json:
            follow_logs(connection, workload_id)
        else:
            while not connection.get(f"/api/v1/workloads/{workload_id}/logs", wait=20, limit=1, offset=1 << 50)["is_complete"]:
                continue
    except KeyboardInterrupt:
        output.say(f"\nIt goes on. Follow it again: narf logs -f {workload_id}     Stop it: narf cancel {workload_id}")
        return output.INTERRUPTED
    found = connection.get(f"/api/v1/workloads/{workload_id}")
    while not found["ended_at"]:
        connection.get(f"/api/v1/workloads/{workload_id}/logs", wait=1, limit=1, offset=1 << 50)
        found = connection.get(f"/api/v1/workloads/{workload_id}")
    if as_json:
        output.print_json({**submitted, **found})
    else:
        output.say(f"{found['state']}: {found['sentence']}")
    if found["state"] == "succeeded":
        return 0
    code = found["exit_code"] or 1
    return int(code) if 0 < code < 126 else 1


def _program(words: list[str]) -> tuple[dict[str, Any], Path]:
    """What to run, and the folder that goes along: the script's project, or where we are.

    The folder is the current one when the script lies in it, else the script's own.
    """
    here = Path.cwd()
    first, rest = words[0], words[1:]
    if not first.endswith(".py"):
        if (here / first).is_dir():
            raise BadInput(f"{first} is a folder.", remedy="Name the script in it.", field="script")
        return {"command": [first, *rest]}, here
    script = Path(first).expanduser()
    if not script.exists():
        raise BadInput(f"There is no script {first[:200]}.", remedy=f"Paths are taken from {here}.", field="script")
    if script.is_dir():
        raise BadInput(f"{first} is a folder.", remedy="Name the script in it.", field="script")
    source = script.read_bytes()
    try:
        compile(source, str(script), "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BadInput(f"{first} has a syntax error in line {error.lineno}: {error.msg}.", field="script", code="syntax_error") from None
    except ValueError as error:
        raise BadInput(f"{first} is no Python source ({error}).", field="script", code="syntax_error") from None
    full = script.resolve()
    folder = here if full.is_relative_to(here.resolve()) and here != Path.home() else full.parent
    return {"script": full.relative_to(folder.resolve()).as_posix(), "arguments": rest}, folder


def _defaults(folder: Path) -> dict[str, Any]:
    """[run] of the narf.toml beside the code."""
    known = {"project", "experiment", "name", "gpu", "gpu_memory", "cpu", "memory", "flavor", "labels", "nodes", "priority", "preemptible"}
    known |= {"time_limit", "data", "requirements"}
    table = read_table(folder, "run", known)
    if "requirements" in table:
        table["requirements"] = read_requirements(folder / table["requirements"])
    return table


def _with_defaults(body: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """What the command line left at its default is taken from narf.toml."""
    resources = dict(body["resources"])
    for name, key, neutral in (("gpu", "gpu", 0.0), ("cpu", "cpu", 1.0), ("flavor", "flavor", ""), ("labels", "node_selector", {})):
        if name in defaults and resources[key] == neutral:
            resources[key] = defaults[name]
    for name, key in (("memory", "memory_bytes"), ("gpu_memory", "gpu_memory_bytes")):
        if name in defaults and not resources[key]:
            resources[key] = parse_size(str(defaults[name]))
    merged = {**body, "resources": resources}
    if "preemptible" in defaults and merged["preemptible"]:
        merged["preemptible"] = defaults["preemptible"]
    for name, key in (
        ("experiment", "experiment"),
        ("name", "name"),
        ("data", "data"),
        ("requirements", "requirements"),
        ("priority", "priority"),
    ):
        if name in defaults and not merged[key]:
            merged[key] = defaults[name]
    if "nodes" in defaults and merged["replicas"] == 1:
        merged["replicas"] = defaults["nodes"]
    if "time_limit" in defaults and merged["time_limit_seconds"] is None:
        merged["time_limit_seconds"] = parse_time(str(defaults["time_limit"]))
    return merged


def _pair(text: str, *, same: bool = False) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        if not same:
            raise BadInput(f"{text[:60]!r} is not NAME=VALUE.")
        return name, name
    return name, value


def _variable(text: str) -> tuple[str, str]:
    import os

    if "=" in text:
        return _pair(text)
    if text not in os.environ:
        raise BadInput(f"There is no variable {text[:60]!r} to pass on.", remedy="Give it a value: --env NAME=VALUE", field="env")
    return text, os.environ[text]
