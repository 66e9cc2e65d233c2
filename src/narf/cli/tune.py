"""`narf tune`: find the parameters of a script and search over them; look at studies and steer them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any

import typer

from narf.cli import output
from narf.cli.run import parse_size, parse_time
from narf.client.connection import Connection, connect, default_project, find_server
from narf.client.tuning import begin, budget_of, folder_of
from narf.domain.errors import BadInput

tune = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None, add_completion=False)

_SETTINGS = {
    *("project", "name", "metric", "direction", "value_from", "trials", "time", "gpu_hours", "least_gain", "parallel", "sampler", "pruner"),
    *(
        "sampler_options",
        "pruner_options",
        "seed",
        "engine",
        "space",
        "only",
        "skip",
        "initial",
        "warm_from",
        "trial_time_limit",
        "experiment",
    ),
    *("gpu", "cpu", "memory", "flavor", "data", "requirements", "priority", "arguments"),
}


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
    gpu: Annotated[float, typer.Option(min=0, help="GPUs of a trial.")] = 0.0,
    cpu: Annotated[float, typer.Option(help="CPUs of a trial.")] = 1.0,
    memory: Annotated[str, typer.Option(help="Memory of a trial, e.g. 4Gi.")] = "",
    flavor: Annotated[str, typer.Option(help="Kind of GPU node.")] = "",
    data: Annotated[list[str] | None, typer.Option(help="A dataset, e.g. digits@v3.")] = None,
    requirements: Annotated[Path | None, typer.Option(help="Requirements file of the trials' environment.")] = None,
    experiment: Annotated[str, typer.Option(help="Experiment the runs belong to.")] = "",
    priority: Annotated[int, typer.Option(min=-100, max=100, help="Inside the project.")] = 0,
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
    from narf.cli import tune_studies

    if discover:
        _discover(script, arguments or [], static=static, as_json=as_json)
        return
    chosen_project = project or default_project()
    limits = budget_of(trials=trials, seconds=parse_time(time) if time else None, gpu_hours=gpu_hours, least_gain=least_gain)
    verbs = {"show": show, "best": best, "importance": importance, "pause": pause, "cancel": cancel, "extend": extend}
    if list_ or board or any(verbs.values()) or (go_on and not script):
        if go_on and not script:
            verbs["resume"] = name
        verb, study = next(((verb, value) for verb, value in verbs.items() if value), ("list" if list_ else "board", ""))
        with connect() as connection:
            tune_studies.act(connection, chosen_project, verb, study, limits=limits, register=register, as_json=as_json)
        return
    if not script:
        raise BadInput("There is no script to tune.", remedy="narf tune train.py     or see the studies: narf tune --list", field="script")
    if minimize and maximize:
        raise BadInput("It is either --minimize or --maximize.", field="direction")
    place = Path(script).expanduser()
    if not place.is_file():
        raise BadInput(f"There is no script {script[:200]}.", remedy=f"Paths are taken from {Path.cwd()}.", field="script")
    asked: dict[str, Any] = {
        "space": dict_of(param or [], "param"),
        "only": only or None,
        "skip": skip,
        "metric": metric,
        "direction": "minimize" if minimize else "maximize" if maximize else "",
        "value_from": "best" if use_best else "",
        "trials": trials,
        "time": time,
        "gpu_hours": gpu_hours,
        "least_gain": least_gain,
        "parallel": parallel,
        "sampler": sampler,
        "sampler_options": options_of(sampler_option or []),
        "pruner": pruner,
        "pruner_options": options_of(pruner_option or []),
        "seed": seed,
        "initial": [options_of(point.split(",")) for point in initial or []],
        "warm_from": warm_from,
        "engine": engine,
        "trial_time_limit": trial_time_limit,
        "gpu": gpu,
        "cpu": None if cpu == 1.0 else cpu,
        "memory": memory,
        "flavor": flavor,
        "data": data,
        "requirements": str(requirements.resolve()) if requirements else "",
        "experiment": experiment,
        "priority": priority,
        "name": name,
        "project": project,
        "arguments": arguments,
    }
    folder, _ = folder_of(place)
    settings = read_settings(folder)
    settings |= {key: value for key, value in asked.items() if value not in (None, "", [], {}, 0, 0.0) or (key == "seed" and value == 0)}
    if asked["space"] and settings.get("space"):
        settings["space"] = {**read_settings(folder).get("space", {}), **asked["space"]}
    body = body_of(settings, folder) | {"go_on": go_on}
    if find_server() is None:
        from narf.cli.platform import start

        start(quiet=True)
    with connect() as connection:
        begun = _begin(connection, settings.get("project") or chosen_project, place, body, quiet=as_json)
        if detach:
            if as_json:
                output.print_json(begun)
            else:
                output.say(f"begun {begun['name']}; follow it: narf tune --show {begun['name']}")
                print(begun["id"])
            return
        raise typer.Exit(tune_studies.follow_to_end(connection, begun, as_json=as_json))


def body_of(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The HTTP body of a study, from the words of the command line and narf.toml, which are the same."""
    budget = budget_of(
        trials=settings.get("trials"),
        seconds=parse_time(str(settings["time"])) if settings.get("time") else None,
        gpu_hours=settings.get("gpu_hours"),
        least_gain=settings.get("least_gain"),
    )
    resources: dict[str, Any] = {name: settings[name] for name in ("gpu", "cpu", "flavor") if name in settings}
    if settings.get("memory"):
        resources["memory_bytes"] = parse_size(str(settings["memory"]))
    body = {
        "space": settings.get("space", {}),
        "only_space": bool(settings.get("only", False)),
        "budget": budget,
        "resources": resources,
        "trial_time_limit_seconds": parse_time(str(settings["trial_time_limit"])) if settings.get("trial_time_limit") else None,
        "requirements": _read(folder / settings["requirements"]) if settings.get("requirements") else "",
    }
    same = ("name", "metric", "direction", "value_from", "parallel", "sampler", "sampler_options", "pruner", "pruner_options", "seed")
    more = ("engine", "skip", "initial", "warm_from", "experiment", "data", "priority", "arguments")
    body |= {key: settings[key] for key in (*same, *more) if key in settings}
    return {key: value for key, value in body.items() if value is not None}


def read_settings(folder: Path) -> dict[str, Any]:
    """[tune] of the narf.toml beside the code."""
    try:
        with (folder / "narf.toml").open("rb") as file:
            table: dict[str, Any] = tomllib.load(file).get("tune", {})
    except FileNotFoundError:
        return {}
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"narf.toml cannot be read: {error}.", remedy="Correct it.", field="narf.toml") from error
    if unknown := sorted(set(table) - _SETTINGS):
        raise BadInput(
            f"narf.toml has unknown settings under [tune]: {', '.join(unknown)}.", remedy=f"Known: {', '.join(sorted(_SETTINGS))}."
        )
    return table


def dict_of(texts: list[str], field: str) -> dict[str, str]:
    """NAME=TEXT by name.

    Raises:
        BadInput: there is no "=", or two have one name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise BadInput(f"{text[:60]!r} is not NAME=RANGE.", remedy="Write it as lr='1e-4..0.1 log'.", field=field)
        if name.strip() in found:
            raise BadInput(f"Two parameters are named {name.strip()!r}.", remedy="Name each parameter once.", field=field, code="bad_space")
        found[name.strip()] = value
    return found


def options_of(texts: list[str]) -> dict[str, Any]:
    """NAME=VALUE by name, values as JSON reads them, else as text."""
    import json

    found: dict[str, Any] = {}
    for name, text in dict_of(texts, "option").items():
        try:
            found[name] = json.loads(text.lower() if text.lower() in ("true", "false") else text)
        except ValueError:
            found[name] = text
    return found


def _begin(connection: Connection, project: str, script: Path, body: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Begin it. Where reading the script tells nothing to search, it is started up to where it trains, which may tell more."""
    try:
        return begin(connection, project, script, body)
    except BadInput as error:
        if error.code not in ("no_parameters", "unknown_parameter"):
            raise
        found = _confirmed(script, list(body.get("arguments", [])))
        if not found.tunable and not body["space"]:
            raise
        if not quiet:
            output.say(f"reading {script.name} was not enough; starting it up to where it trains told more")
        proposals = {} if body["only_space"] else {item.name: item.proposal.to_json() for item in found.tunable if item.proposal}
        space = {name: {k: v for k, v in form.items() if k != "name"} for name, form in proposals.items()} | body["space"]
        bindings = {item.name: item.passing.to_json() for item in found.parameters if item.name in space}
        metric = body.get("metric") or (found.metrics[0].name if found.metrics else "")
        return begin(connection, project, script, body | {"space": space, "only_space": True, "bindings": bindings, "metric": metric})


def _confirmed(script: Path, arguments: list[str]) -> Any:
    from narf.tuning.discovery.dry_run import confirm
    from narf.tuning.discovery.static import discover_statically

    return confirm(script, arguments, discover_statically(script, arguments))


def _discover(script: str, arguments: list[str], *, static: bool, as_json: bool) -> None:
    from narf.tuning.discovery.static import discover_statically

    if not script:
        raise BadInput("There is no script to look at.", remedy="narf tune train.py --discover", field="script")
    place = Path(script).expanduser()
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
    for note in found.notes:
        output.say(note)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise BadInput(f"The requirements file {path} cannot be read: {error.strerror}.", field="requirements") from error
