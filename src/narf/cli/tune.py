"""`narf tune`: find the parameters of a script and search over them; look at studies and steer them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.client.amounts import parse_time
from narf.client.connection import connect, default_project, find_server
from narf.client.tune_settings import budget_of, over, read_settings, study_body
from narf.client.tuning import begin, check_script, folder_of
from narf.domain.errors import BadInput

tune = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)


@tune.command(epilog="Example: narf tune train.py --trials 30 --metric val_loss     The best so far: narf tune --best train-1")
def tune_(
    script: Annotated[str, typer.Argument(metavar="[SCRIPT] [-- ARGS]", help="A Python script; it stays as it is.")] = "",
    arguments: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    discover: Annotated[bool, typer.Option("--discover", help="Only list the script's parameters and metrics.")] = False,
    static: Annotated[bool, typer.Option("--static", help="With --discover: read the script, do not start it.")] = False,
    param: Annotated[list[str] | None, typer.Option(help="NAME=RANGE: lr='1e-4..0.1 log', layers=1..5, opt='adam, sgd'.")] = None,
    only: Annotated[bool, typer.Option("--only", help="Search what --param names and nothing else.")] = False,
    skip: Annotated[list[str] | None, typer.Option(help="Leave this parameter as it is.")] = None,
    metric: Annotated[str, typer.Option(help="The metric to better; found in the script when not given.")] = "",
    minimize: Annotated[bool, typer.Option("--minimize", help="Less of the metric is better.")] = False,
    maximize: Annotated[bool, typer.Option("--maximize", help="More of it is better.")] = False,
    use_best: Annotated[bool, typer.Option("--use-best", help="A trial's best value counts, not its last.")] = False,
    trials: Annotated[int | None, typer.Option(min=1, help="At most so many trials (20 when no limit is given).")] = None,
    time: Annotated[str, typer.Option(help="At most so long, e.g. 90m, 12h.")] = "",
    gpu_hours: Annotated[float | None, typer.Option(help="At most so many GPU-hours.")] = None,
    least_gain: Annotated[float | None, typer.Option(help="End when more trials would gain less than this.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="At most so many trials at once (4).")] = None,
    sampler: Annotated[str, typer.Option(help="tpe, random, grid, qmc, gp, nsga2, exhaustive.")] = "",
    sampler_option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE.")] = None,
    pruner: Annotated[str, typer.Option(help="none, median, asha, hyperband, percentile, patient, threshold.")] = "",
    pruner_option: Annotated[list[str] | None, typer.Option(help="NAME=VALUE.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same search.")] = None,
    initial: Annotated[list[str] | None, typer.Option(help="A point to begin with: lr=0.01,hidden=64.")] = None,
    warm_from: Annotated[list[str] | None, typer.Option(help="An earlier study to start from.")] = None,
    engine: Annotated[str, typer.Option(help="embedded or ray.")] = "",
    trial_time_limit: Annotated[str, typer.Option(help="Stop a trial after this, e.g. 30m.")] = "",
    gpu: Annotated[float | None, typer.Option(min=0, help="GPUs of a trial (0).")] = None,
    cpu: Annotated[float | None, typer.Option(help="CPUs of a trial (1).")] = None,
    memory: Annotated[str, typer.Option(help="Memory of a trial, e.g. 4Gi.")] = "",
    flavor: Annotated[str, typer.Option(help="Kind of GPU node.")] = "",
    data: Annotated[list[str] | None, typer.Option(help="A dataset, e.g. digits@v3.")] = None,
    requirements: Annotated[Path | None, typer.Option(help="Requirements file of the trials' environment.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment the runs belong to.")] = "",
    priority: Annotated[int | None, typer.Option(min=-100, max=100, help="Inside the project (0).")] = None,
    name: Annotated[str, typer.Option(help="Name of the study.")] = "",
    project: Annotated[str, typer.Option(help="Project; NARF_PROJECT or 'default' when not given.")] = "",
    go_on: Annotated[
        bool, typer.Option("--resume", help="Go on with the study of this name (also: --resume --name N, no script).")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait for the end.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="List studies.")] = False,
    show: Annotated[str, typer.Option(metavar="STUDY", help="Show a study and its trials.")] = "",
    best: Annotated[str, typer.Option(metavar="STUDY", help="The best trial of a study and its command.")] = "",
    register: Annotated[str, typer.Option(metavar="NAME", help="With --best: register its model under this name.")] = "",
    importance: Annotated[str, typer.Option(metavar="STUDY", help="Which parameters matter.")] = "",
    board: Annotated[bool, typer.Option("--board", help="What all studies of the project tell together.")] = False,
    pause: Annotated[str, typer.Option(metavar="STUDY", help="Begin no more trials.")] = "",
    cancel: Annotated[str, typer.Option(metavar="STUDY", help="Stop a study and its trials.")] = "",
    extend: Annotated[str, typer.Option(metavar="STUDY", help="Give a study the budget of --trials, --time, --gpu-hours.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Search over the parameters of a script: found, proposed, and run as they are."""
    given = dict(locals())  # each flag by its name
    if discover:
        _discover(script, arguments or [], static=static, as_json=as_json)
    elif list_ or board or any(given[verb] for verb in _VERBS) or (go_on and not script):
        _look_or_steer(given)
    else:
        _search(given)


_VERBS = ("show", "best", "importance", "pause", "cancel", "extend")


def _look_or_steer(given: dict[str, Any]) -> None:
    """What concerns a study that is there."""
    from narf.cli import tune_studies

    limits = budget_of(
        trials=given["trials"],
        seconds=parse_time(given["time"], "time") if given["time"] else None,
        gpu_hours=given["gpu_hours"],
        least_gain=given["least_gain"],
    )
    verbs = {verb: given[verb] for verb in _VERBS}
    if given["go_on"] and not given["script"]:
        verbs["resume"] = given["name"]
        if not given["name"]:
            raise BadInput("Which study is to go on?", remedy="narf tune --resume --name train-1", field="name")
    verb, study = next(((verb, value) for verb, value in verbs.items() if value), ("list" if given["list_"] else "board", ""))
    with connect() as connection:
        tune_studies.act(
            connection,
            given["project"] or default_project(),
            verb,
            study,
            limits=limits,
            register=given["register"],
            as_json=given["as_json"],
        )


def _search(given: dict[str, Any]) -> None:
    """Begin a study and, unless it is detached, follow it to its end."""
    from narf.cli import tune_studies

    if not given["script"]:
        raise BadInput("There is no script to tune.", remedy="narf tune train.py     or see the studies: narf tune --list", field="script")
    as_json, place = given["as_json"], Path(given["script"]).expanduser()
    check_script(place)
    folder, _ = folder_of(place)
    settings = over(read_settings(folder), _asked(given))
    if given["go_on"] and not settings.get("name"):
        raise BadInput("Which study is to go on?", remedy="Name it: --resume --name train-1", field="name")
    body = study_body(settings, folder) | {"go_on": given["go_on"]}
    if find_server() is None:
        from narf.cli.platform import start

        start(quiet=True)
    with connect() as connection:
        project = settings.get("project") or default_project()
        begun = begin(connection, project, place, body, tell=None if as_json else output.say)
        if not given["detach"]:
            raise typer.Exit(tune_studies.follow_to_end(connection, begun, as_json=as_json))
        if as_json:
            output.print_json(begun)
        else:
            output.say(f"begun {begun['name']}; follow it: narf tune --show {begun['name']}")
            print(begun["id"])


def _asked(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, in the words of narf.toml.

    Raises:
        BadInput: a flag cannot be read, or two contradict each other.
    """
    if given["minimize"] and given["maximize"]:
        raise BadInput("It is either --minimize or --maximize.", field="direction")
    same = (
        "skip",
        "metric",
        "trials",
        "time",
        "gpu_hours",
        "least_gain",
        "parallel",
        "sampler",
        "pruner",
        "seed",
        "warm_from",
        "engine",
        "trial_time_limit",
    )
    more = ("gpu", "cpu", "memory", "flavor", "data", "experiment", "priority", "name", "project", "arguments")
    asked = {word: given[word] for word in (*same, *more)} | {
        "space": dict_of(given["param"] or [], "param"),
        "only": given["only"] or None,
        "direction": "minimize" if given["minimize"] else "maximize" if given["maximize"] else "",
        "value_from": "best" if given["use_best"] else "",
        "sampler_options": options_of(given["sampler_option"] or [], "sampler-option"),
        "pruner_options": options_of(given["pruner_option"] or [], "pruner-option"),
        "initial": [options_of(point.split(","), "initial") for point in given["initial"] or []],
        "requirements": str(given["requirements"].resolve()) if given["requirements"] else "",
    }  # fmt: skip
    return {word: value for word, value in asked.items() if value not in (None, "", [], {})}


def dict_of(texts: list[str], field: str, form: str = "NAME=RANGE", example: str = "lr='1e-4..0.1 log'") -> dict[str, str]:
    """NAME=TEXT by name.

    Raises:
        BadInput: there is no "=", or two have one name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"{text[:60]!r} is not {form}.", remedy=f"Write it as --{field} {example}", field=field)
        if name.strip() in found:
            raise BadInput(f"Two parameters are named {name.strip()!r}.", remedy="Name each parameter once.", field=field, code="bad_space")
        found[name.strip()] = value
    return found


def options_of(texts: list[str], field: str = "option") -> dict[str, Any]:
    """NAME=VALUE by name, values as JSON reads them, else as text."""
    import json

    found: dict[str, Any] = {}
    example = "lr=0.01,hidden=64" if field == "initial" else "n_startup_trials=5"
    for name, text in dict_of(texts, field, "NAME=VALUE", example).items():
        try:
            found[name] = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        except ValueError:
            found[name] = text
    return found


def _confirmed(script: Path, arguments: list[str]) -> Any:
    from narf.tuning.discovery.dry_run import confirm
    from narf.tuning.discovery.static import discover_statically

    return confirm(script, arguments, discover_statically(script, arguments))


def _discover(script: str, arguments: list[str], *, static: bool, as_json: bool) -> None:
    from narf.tuning.discovery.static import discover_statically

    if not script:
        raise BadInput("There is no script to look at.", remedy="narf tune train.py --discover", field="script")
    place = Path(script).expanduser()
    check_script(place)
    found = discover_statically(place, arguments) if static else _confirmed(place, arguments)
    if as_json:
        output.print_json(found.to_json())
        return
    rows = []
    for item in found.parameters:
        shown = item.proposal.to_text() if item.proposal is not None else f"- {item.left_alone}"
        rows.append((item.name, item.type, item.default, shown, item.style.value, item.help))
    output.print_table(rows, ["PARAMETER", "TYPE", "DEFAULT", "RANGE", "FROM", "HELP"], empty="No parameters were found.")
    print()
    metrics = [(metric.name, metric.direction or "?", "monitored" if metric.monitored else "") for metric in found.metrics]
    output.print_table(metrics, ["METRIC", "DIRECTION", ""], empty="No metrics were found.")
    for note in found.remarks:
        output.say(note)
