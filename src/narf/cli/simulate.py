"""`narf simulate`: a trace through the scheduler that production runs, or what would happen on this cluster if."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from narf.cli import output
from narf.domain.errors import BadInput

if TYPE_CHECKING:
    from narf.scheduling.requests import Node
    from narf.scheduling.simulator.outcome import Outcome
    from narf.scheduling.simulator.traces import Trace

simulate = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

POLICIES = (
    "narf", "fifo", "fifo-best-effort", "sjf", "sjf-best-effort", "srtf", "srsf", "tiresias", "las", "drf", "best-fit", "fgd",
)  # fmt: skip
_NODES = re.compile(r"(\d{1,6})x(\d{1,3})")


@simulate.command(epilog="Example: narf simulate trace.csv --nodes 20x8 --policy narf --json")
def simulate_(
    file: Annotated[Path | None, typer.Argument(help="A trace, CSV or CSV.gz.")] = None,
    format: Annotated[str, typer.Option(help="helios, philly, muri, openb or narf; known by its columns when not given.")] = "",
    nodes: Annotated[str, typer.Option(help="NODESxGPUS, as 20x8; or a CSV of nodes: sn, cpu_milli, memory_mib, gpu, model.")] = "20x8",
    policy: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(POLICIES)}; more than once to compare.")] = None,
    projects: Annotated[bool, typer.Option(help="Keep the trace's projects apart, each a queue.")] = False,
    start: Annotated[float | None, typer.Option(help="Only jobs submitted at or after this, in seconds.")] = None,
    end: Annotated[float | None, typer.Option(help="Only jobs submitted before this, in seconds.")] = None,
    checkpoint: Annotated[float, typer.Option(min=0, help="Seconds between checkpoints; 0: a job saves when asked to leave.")] = 0.0,
    node_mtbf: Annotated[float, typer.Option(min=0, help="Mean hours between failures of a node; 0: none fail.")] = 0.0,
    coalesce: Annotated[float, typer.Option(min=0, help="Decide once for events this many seconds apart.")] = 0.0,
    plot: Annotated[Path | None, typer.Option(help="Draw queueing and use over time into this PNG or SVG.")] = None,
    from_now: Annotated[bool, typer.Option("--from-now", help="Ask about the cluster of the platform instead of a trace.")] = False,
    add_nodes: Annotated[list[str] | None, typer.Option(help="With --from-now: more nodes, as 2x8, or 2x8,a100.")] = None,
    quota: Annotated[list[str] | None, typer.Option(help="With --from-now: GPUs guaranteed, as team=16.")] = None,
    submit: Annotated[list[str] | None, typer.Option(help="With --from-now: another workload, as 8gpu,2h or 4x8gpu.")] = None,
    project: Annotated[str, typer.Option(help="With --submit: the project it is submitted in.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Replay a trace through the scheduler, or say when what waits would start if something were different."""
    asked = [name for name, given in (("--add-nodes", add_nodes), ("--quota", quota), ("--submit", submit)) if given]
    if asked and not from_now:
        raise BadInput(f"{asked[0]} asks about the platform's cluster, not about a trace.", remedy="Add --from-now.", field=asked[0][2:])
    if from_now and file is not None:
        raise BadInput(f"--from-now asks about the platform's cluster; {file} is a trace.", remedy="Leave one of them out.", field="file")
    if from_now:
        _ask(add_nodes or [], quota or [], submit or [], project, as_json=as_json)
        return
    if file is None:
        raise BadInput("No trace was given.", remedy="narf simulate FILE, or narf simulate --from-now --add-nodes 2x8", field="file")
    from narf.scheduling.simulator.traces import read_trace

    machines = _machines(nodes)

    trace = read_trace(file, format, projects=projects)
    if start is not None or end is not None:
        trace = trace.between(start if start is not None else float("-inf"), end if end is not None else float("inf"))
    if not trace.jobs:
        raise BadInput("No job of the trace was submitted in that time.", remedy="Widen --start and --end.", field="start")
    for problem in trace.problems:
        output.say(problem)
    if trace.broken_rows > len(trace.problems):
        output.say(f"{trace.broken_rows - len(trace.problems)} more rows are left out.")
    world = {"checkpoint_seconds": checkpoint, "node_mtbf_seconds": node_mtbf * 3600, "coalesce_seconds": coalesce}
    outcomes = [run_policy(name, trace, machines, world) for name in policy or ["narf"]]
    results = [{**outcome.as_json(), "broken_rows": trace.broken_rows} for outcome in outcomes]
    if plot is not None:
        _plot(outcomes, plot)
    if as_json:
        output.print_json(results[0] if len(results) == 1 else results)
        return
    _print(results)


def run_policy(name: str, trace: Trace, machines: Sequence[Node], world: dict[str, float] | None = None) -> Outcome:
    """`trace` on `machines` by the policy of this name."""
    from narf.scheduling.simulator.packing import MEASURES, replay_packing
    from narf.scheduling.simulator.preemptive import Ranking, las, replay_preemptive, tiresias
    from narf.scheduling.simulator.queueing import replay_queue
    from narf.scheduling.simulator.replay import World, replay

    if name == "narf":
        return replay(trace, machines, world=World(**(world or {})))  # type: ignore[arg-type]
    if name in MEASURES:
        return replay_packing(trace, machines, MEASURES[name])
    sizes = {node.gpus for node in machines}
    if len(sizes) > 1 or any(job.gpus != int(job.gpus) for job in trace.jobs):
        raise BadInput(
            f"The policy {name!r} knows whole GPUs on equal nodes only; this trace has fractions, or these nodes differ.",
            remedy="Use --policy narf, best-fit or fgd.", field="policy",
        )  # fmt: skip
    nodes, gpus = len(machines), sizes.pop()
    queueing = {
        "fifo": ("fifo", True),
        "fifo-best-effort": ("fifo", False),
        "sjf": ("sjf", True),
        "sjf-best-effort": ("sjf", False),
        "drf": ("drf", False),
    }
    if name in queueing:
        order, strict = queueing[name]
        return replay_queue(trace, nodes, gpus, order=order, strict=strict, name=name)
    rankings = {"srtf": Ranking(kind="srtf"), "srsf": Ranking(kind="srsf"), "tiresias": tiresias(), "las": las()}
    if name not in rankings:
        raise BadInput(f"There is no policy {name!r}.", remedy=f"Use one of {', '.join(POLICIES)}.", field="policy")
    return replay_preemptive(trace, nodes, gpus, rankings[name], name)


def _machines(text: str) -> list[Node]:
    """The nodes that `text` names: NODESxGPUS, with CPUs and memory for whatever a trace asks; or a file of them."""
    from narf.scheduling.requests import Node
    from narf.scheduling.simulator.traces import read_nodes

    if not text.lower().endswith((".csv", ".csv.gz")):
        count, gpus = node_counts(text, "nodes")
        return [Node(name=f"n{i:05}", cpu=4096.0, memory_bytes=1 << 46, gpus=gpus) for i in range(count)]
    return read_nodes(Path(text))


def node_counts(text: str, field: str) -> tuple[int, int]:
    """(20, 8) from "20x8".

    Raises:
        BadInput: it is not written so, or asks for nothing or too much.
    """
    found = _NODES.fullmatch(text.strip())
    if not found or not 0 < int(found[1]) <= 100_000 or not 0 < int(found[2]) <= 64:
        raise BadInput(f"{text[:60]!r} are no nodes.", remedy="Write NODESxGPUS, at most 64 GPUs a node, as 20x8.", field=field)
    return int(found[1]), int(found[2])


def _ask(add_nodes: list[str], quota: list[str], submit: list[str], project: str, *, as_json: bool) -> None:
    from narf.cli.quota import amounts
    from narf.client.connection import connect, default_project

    body: dict[str, Any] = {"add_nodes": [], "submit": [], "quota": amounts(quota, "quota")}
    for text in add_nodes:
        size, _, flavor = text.partition(",")
        count, gpus = node_counts(size, "add-nodes")
        body["add_nodes"].append({"count": count, "gpus": gpus, "flavor": flavor.strip()})
    body["submit"] = [workload_of(text, project or default_project()) for text in submit]
    with connect() as connection:
        found = connection.post("/api/v1/cluster/what-if", body)
    if as_json:
        output.print_json(found)
        return
    new = {f"new-{number}": text for number, text in enumerate(submit, start=1)}
    rows = [
        (f"{row['workload']} ({new[row['workload']]})" if row["workload"] in new else row["workload"], row["project"],
         "-" if row["workload"] in new else _when(row["before"]), _when(row["after"]))
        for row in found["starts"]
    ]  # fmt: skip
    output.print_table(
        rows, ["WAITING", "PROJECT", "STARTS", "AND IF"], empty="Nothing waits. Add --submit 8gpu to ask about a new workload."
    )
    for row in found["starts"]:
        if row["sentence"]:
            print(f"{row['workload']} would wait. {row['sentence']}")
    for warning in found["warnings"]:
        output.say(warning)
    if found["is_rough"]:
        output.say("So much waits that only the next decisions were looked at: what starts later is not in sight.")


def workload_of(text: str, project: str) -> dict[str, Any]:
    """What "8gpu", "0.5gpu,30m", "4x8gpu,2h" or "8gpu,2h,a100" asks for.

    Raises:
        BadInput: it is not written so.
    """
    shape, *rest = (part.strip() for part in text.split(","))
    found = re.fullmatch(r"(?:(\d{1,4})x)?(\d{1,4}(?:\.\d+)?)gpus?", shape)
    if not found or len(rest) > 2 or not all(rest):
        raise BadInput(
            f"{text[:60]!r} is no workload.",
            remedy="Write 8gpu, 8gpu,2h for one of two hours, or 4x8gpu for a gang of four.",
            field="submit",
        )
    body: dict[str, Any] = {"project": project, "gpu": float(found[2]), "replicas": int(found[1] or 1)}
    for part in rest:
        if re.fullmatch(r"\d.*[smhd]?", part):
            from narf.client.amounts import parse_time

            body["duration_seconds"] = parse_time(part)
        else:
            body["flavor"] = part
    return body


def _when(forecast: dict[str, float] | None) -> str:
    if forecast is None:
        return "not in sight"
    if forecast["high"] < 60:
        return "at once"
    return f"in {_span(forecast['seconds'])} ({_span(forecast['low'])} to {_span(forecast['high'])})"


def _span(seconds: float) -> str:
    return (
        f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86400:.1f} days"
    )


def _print(results: list[dict[str, Any]]) -> None:
    rows = [
        (
            r["policy"], r["jobs"], f"{r['jct']['mean']:,.0f}", f"{r['jct']['p99']:,.0f}", f"{r['queue']['mean']:,.0f}", f"{r['queue']['p50']:,.0f}",
            f"{r['queue']['p99']:,.0f}", f"{r['allocated_percent']:.1f}", r["preemptions"], f"{r['lost_gpu_hours']:,.1f}",
        )
        for r in results
    ]  # fmt: skip
    columns = ["POLICY", "JOBS", "JCT MEAN s", "p99", "QUEUE MEAN s", "p50", "p99", "ALLOCATED %", "PREEMPTED", "LOST GPU-H"]
    output.print_table(rows, columns, right=columns[1:])
    print("\nQueueing by GPUs (mean s / p99 s):")
    sizes = list(dict.fromkeys(size for r in results for size in r["queue"]["by_gpus"]))
    table = [(size, *(_cell(r["queue"]["by_gpus"].get(size)) for r in results)) for size in sizes]
    names = [f"{r['policy']}" for r in results]
    output.print_table(table, ["GPUS", *names], right=["GPUS", *names])


def _cell(spread: dict[str, float] | None) -> str:
    return "-" if spread is None else f"{spread['mean']:,.0f} / {spread['p99']:,.0f}"


def _plot(outcomes: list[Outcome], path: Path) -> None:
    """GPUs in use and jobs that wait, over time, and the distribution of waits."""
    try:
        import matplotlib
    except ImportError as error:
        from narf.domain.errors import MissingExtra

        raise MissingExtra("Drawing a plot", "training") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (used, waiting, waits) = pyplot.subplots(3, 1, figsize=(9, 9), constrained_layout=True)
    for outcome in outcomes:
        first = outcome.samples[0][0] if outcome.samples else 0.0
        days = [(at - first) / 86400 for at, _, _ in outcome.samples]
        used.step(days, [busy for _, busy, _ in outcome.samples], where="post", linewidth=0.8, label=outcome.policy)
        waiting.step(days, [queued for _, _, queued in outcome.samples], where="post", linewidth=0.8, label=outcome.policy)
        sorted_waits = sorted(max(1.0, j.finished_at - j.submitted_at - j.duration) for j in outcome.jobs if j.finished_at == j.finished_at)
        parts = [100 * (i + 1) / len(sorted_waits) for i in range(len(sorted_waits))]
        waits.plot(sorted_waits, parts, linewidth=1.0, label=outcome.policy)
    used.set(xlabel="days", ylabel="GPUs in use")
    waiting.set(xlabel="days", ylabel="jobs that wait")
    waits.set(xlabel="seconds waited", ylabel="% of jobs", xscale="log")
    waits.legend()
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The plot cannot be written to {path}: {error}.", remedy="Name a PNG or SVG in a folder that exists.", field="plot"
        ) from error
    finally:
        pyplot.close(figure)
    output.say(f"The plot is in {path}.")
