"""The dry run: the script is started in a copy of its folder, with a time limit, and stopped before it trains.

It confirms what was read, and finds what only running shows: arguments declared in a loop or by an installed package.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from narf.training.metric_names import direction_of
from narf.tuning.discovery import probe
from narf.tuning.discovery.arguments import excluded_by, link_targets
from narf.tuning.discovery.found import Discovery, FoundMetric, FoundParameter, How, Style, read_passing
from narf.tuning.discovery.live import in_effect, with_conditions, with_environment, with_held, with_options, with_words, without_unmade
from narf.tuning.discovery.names import last_of
from narf.tuning.discovery.propose import propose, propose_all
from narf.tuning.discovery.source import Source, read_source
from narf.tuning.discovery.static import COMMAND_LINE, COMPOSED, beside, discover_statically, from_files, is_fixed, names_of
from narf.tuning.discovery.texts import with_choices
from narf.tuning.discovery.uses import without_data

TIME_LIMIT_SECONDS = 60.0
_LEFT_OUT = (
    ".git",
    "__pycache__",
    ".venv",
    "venv",
    "node_modules",
    "mlruns",
    "lightning_logs",
    "wandb",
    "outputs",
    "multirun",
    ".mypy_cache",
    ".ruff_cache",
)
_LARGE = 50_000_000
_TRAINS = ("backward", "fit", "Trainer.fit", "log_metric", "printed", "end")  # where a dry run stops that came to the training
_NOTHING: dict[str, Any] = {
    "prefix": [], "later": [], "parameters": [], "metrics": [], "modules": {}, "files": [], "excluded": {}, "limits": [], "held": [], "words": [], "options": [], "made": [], "imported": [], "environment": {}, "stopped": "", "problem": "",
}  # fmt: skip
_PROBED = {"jsonargparse": {Style.JSONARGPARSE, Style.LIGHTNING_CLI}}


def confirm(
    script: Path,
    arguments: Sequence[str],
    found: Discovery,
    *,
    python: str = sys.executable,
    time_limit_seconds: float = TIME_LIMIT_SECONDS,
) -> Discovery:
    """`found`, with what a dry run of the script adds, drops and confirms. What goes wrong in it becomes a note, never an error."""

    def look(*more: str) -> tuple[dict[str, Any], str]:
        return _look(script, [*found.prefix, *arguments, *more], python, time_limit_seconds)

    seen, problem = look()
    source = read_source(script)
    known = {module.file for module in source.modules}
    if also := [file for file in seen["imported"] if file not in known and (script.parent / file).is_file()]:
        found, source = discover_statically(script, arguments, also), read_source(script, also)
    merged = _merge(found, seen, arguments, source)
    if seen["later"]:
        parameters = with_conditions(merged.parameters, seen["later"], lambda word: {item["name"] for item in look(word)[0]["parameters"]})
        merged = replace(merged, parameters=parameters)
    problem = problem if not seen["stopped"] else seen["problem"]
    return merged.with_notes(_told(problem)) if problem else replace(merged, is_open=False)


def _look(script: Path, words: Sequence[str], python: str, limit: float) -> tuple[dict[str, Any], str]:
    """What the probe saw in a copy of the script's folder, and what went wrong if it did not come to an end."""
    with tempfile.TemporaryDirectory(prefix="narf-dry-run-") as room:
        copy, result = Path(room) / "code", Path(room) / "found.json"
        _copy(script.parent, copy)
        problem = _run(copy / script.name, script.parent, result, words, python, Path(room), limit)
        try:
            return json.loads(result.read_text()), problem
        except (OSError, ValueError):
            return _NOTHING, problem


def _copy(folder: Path, copy: Path) -> None:
    def leave_out(current: str, names: list[str]) -> list[str]:
        left = [name for name in names if name in _LEFT_OUT]
        for name in names:
            path = Path(current) / name
            if path.is_symlink() or not (path.is_file() or path.is_dir()) or (path.is_file() and path.stat().st_size > _LARGE):
                left.append(name)
        return left

    shutil.copytree(folder, copy, ignore=leave_out)


def _run(script: Path, original: Path, result: Path, arguments: Sequence[str], python: str, room: Path, limit: float) -> str:
    """Run the probe; what went wrong, as the last line it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_", "WANDB_"))}
    environment |= {
        "MLFLOW_TRACKING_URI": f"sqlite:///{room / 'mlflow.db'}",
        "WANDB_MODE": "disabled",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NARF_DRY_RUN": "1",
    }
    command = [
        python,
        str(Path(str(probe.__file__)).with_name("__main__.py")),
        str(result),
        str(original.resolve()),
        str(limit * 0.6),
        str(script),
        *arguments,
    ]
    process = subprocess.Popen(
        command,
        cwd=script.parent,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    last = _Last(process.stdout)
    is_late = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        is_late = True
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # also what the script left behind
    process.wait()
    if is_late:
        return f"it was stopped after {limit:g} seconds."
    lines = [line.strip() for line in last.text().splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with exit code {process.returncode}."


class _Last:
    """Reads what a program prints to its end, however much that is, and keeps the last of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._kept = b""
        self._thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self._thread.start()

    def _read(self, stream: IO[bytes]) -> None:
        with stream:
            while block := stream.read1(65_536):  # type: ignore[attr-defined] # a pipe's reader has it
                self._kept = (self._kept + block)[-20_000:]

    def text(self) -> str:
        self._thread.join(5)
        return self._kept.decode(errors="replace")


def _told(problem: str) -> str:
    """What went wrong in a dry run, and what to do about it."""
    remedy = ""
    if problem.startswith("EOFError") or "reading a line" in problem:
        problem, remedy = "it asks for input on the keyboard, which a trial does not have.", "Let it take an argument or a file instead."
    elif "stopped after" in problem:
        remedy = "What was read stands; a trial has its own limit, --trial-time-limit."
    elif problem.startswith(("ModuleNotFoundError", "ImportError")):
        remedy = "Install it where narf runs, or name it in a file: --requirements requirements.txt"
    elif "required" in problem or "were not enough" in problem:
        remedy = "Give what it needs after --."
    return " ".join(f"The dry run did not get to where the script trains: {problem} {remedy}".split())


def _merge(found: Discovery, seen: dict[str, Any], arguments: Sequence[str], source: Source) -> Discovery:
    declared = {item["name"]: item for item in seen["parameters"]}
    styles = {style for item in declared.values() for style in _PROBED.get(item["style"], {Style(item["style"])})}
    constructed = {name for names in seen["modules"].values() for name in names}
    parameters = []
    for parameter in found.parameters:
        item = declared.pop(parameter.name, None)
        if item is not None:
            parameters.append(replace(_with_facts(parameter, item), confirmed=True))
        elif parameter.style in styles and not parameter.left_alone.startswith("A positional") and parameter.type != "choice":
            continue  # read in the text, but the script that ran does not declare it
        else:
            is_seen = parameter.style is Style.LIGHTNING_MODULE and parameter.name in constructed
            parameters.append(replace(parameter, confirmed=is_seen))
    linked = link_targets(source)
    for item in declared.values():
        if item["name"] in linked:  # it has its value from another, and the parser refuses one of its own
            continue
        parameter = _read(item, found)
        if _is_worth_listing(parameter, found):
            parameters.append(is_fixed(parameter, arguments))
    parameters = [
        replace(p, left_alone=excluded_by(seen["excluded"][p.name]), proposal=None) if p.name in seen["excluded"] else p for p in parameters
    ]
    parameters = _with_files(parameters, seen, source.folder)
    parameters = with_held(source, in_effect(parameters, seen["held"]), seen["held"])
    if seen["stopped"] in _TRAINS:
        parameters = without_unmade(parameters, source, seen["made"])
    parameters = with_environment(source, parameters, seen["environment"])
    explicit = {parameter.name for parameter in parameters if parameter.style in COMMAND_LINE}
    parameters = [p for p in parameters if p.style in COMMAND_LINE or p.name not in explicit]
    weaker = [p for p in parameters if p.style in (Style.TABLE, Style.CONSTANT)]
    parameters = [p for p in parameters if p not in weaker]
    parameters += beside(parameters, weaker)
    proposed = propose_all(
        _with_limits(with_options(with_words(with_choices(source, parameters), seen["words"]), seen["options"]), seen["limits"])
    )
    prefix = found.prefix or tuple(dict.fromkeys(seen["prefix"]))
    return replace(found, parameters=without_data(source, proposed), metrics=_metrics(found, seen), prefix=prefix)


def _with_limits(parameters: list[FoundParameter], limits: list[list[Any]]) -> list[FoundParameter]:
    """Parameters within the ends that the model states for those of their name, where one has it."""
    known: dict[tuple[str, str], set[tuple[float | None, float | None]]] = {}
    for name, kind, least, most in limits:
        known.setdefault((name, kind), set()).add((least, most))
    lasts = [last_of(item.name) for item in parameters]
    result = []
    for item in parameters:
        ends = known.get((last_of(item.name), item.type), set())
        if len(ends) == 1 and lasts.count(last_of(item.name)) == 1 and item.least is None and item.most is None:
            least, most = next(iter(ends))
            item = replace(item, least=least, most=most, proposal=None)
        result.append(item)
    return result


def _with_files(parameters: list[FoundParameter], seen: dict[str, Any], folder: Path) -> list[FoundParameter]:
    """Configuration files that the script opened; those that it only names go, if it came to where it trains without them."""
    if any(item.style in COMPOSED for item in parameters):
        return parameters
    opened = list(seen["files"])
    read = [item for item in parameters if item.style is Style.CONFIG_FILE]
    if not (seen["stopped"] in _TRAINS and not seen["problem"]):  # it did not come to where it would open the others
        opened += sorted({item.file for item in read} - set(opened))
    parameters = [item for item in parameters if item.style is not Style.CONFIG_FILE]
    outweighed = COMMAND_LINE
    known = names_of([item for item in parameters if item.style in outweighed])
    added = [replace(item, confirmed=item.file in seen["files"]) for item in from_files(folder, opened, known)]
    names = {name for item in added for name in (item.name, item.name.rpartition(".")[2])}
    kept = [item for item in parameters if item.style in outweighed or item.name not in names]  # what a file says, no default says
    return [*kept, *added]


def _is_worth_listing(parameter: FoundParameter, found: Discovery) -> bool:
    """LightningCLI declares some hundred arguments of the Trainer, and all that an optimiser takes; what none sets is not the model's."""
    is_cli = any(known.style is Style.LIGHTNING_CLI for known in found.parameters) or bool(found.prefix)
    if not is_cli or parameter.style not in (Style.JSONARGPARSE, Style.LIGHTNING_CLI):
        return True
    root, last = parameter.name.partition(".")[0], last_of(parameter.name)
    if root == "trainer":
        return last == "gradient_clip_val" and parameter.default is not None
    return root not in ("seed_everything", "ckpt_path", "verbose", "weights_only") and not (
        root == "optimizer" and last in ("eps", "amsgrad")
    )


def _read(item: dict[str, Any], found: Discovery) -> FoundParameter:
    is_cli = any(known.style is Style.LIGHTNING_CLI for known in found.parameters)
    style = Style.LIGHTNING_CLI if item["style"] == "jsonargparse" and is_cli else Style(item["style"])
    return FoundParameter(
        name=item["name"],
        type=item["type"],
        style=style,
        passing=read_passing(item["passing"]),
        default=item["default"],
        choices=tuple(item["choices"]),
        help=item["help"],
        least=item["least"],
        most=item["most"],
        required=item["required"],
        confirmed=True,
    )


def _with_facts(parameter: FoundParameter, item: dict[str, Any]) -> FoundParameter:
    """What the text left open is filled in from the run; where both speak, the text's reading of values stays but for numbers, which
    configuration files and code may have changed."""
    passing = read_passing(item["passing"])
    if passing.how is How.OPTION and parameter.passing.how is not How.OPTION:
        passing = parameter.passing  # jsonargparse and typer say `option` for what the text knows better
    is_number = isinstance(item["default"], int | float) and type(item["default"]) is type(parameter.default)
    changed = replace(
        parameter,
        default=item["default"] if parameter.default is None or is_number else parameter.default,
        type=parameter.type if parameter.type not in ("str", "") else item["type"],
        choices=parameter.choices or tuple(item["choices"]),
        help=parameter.help or item["help"],
        passing=passing,
    )
    if changed.proposal is None and (changed.type, changed.choices) != (parameter.type, parameter.choices):
        changed = propose(replace(changed, left_alone=""))
    return changed


def _metrics(found: Discovery, seen: dict[str, Any]) -> tuple[FoundMetric, ...]:
    known = {metric.name: metric for metric in found.metrics}
    for item in seen["metrics"]:
        name = item["name"]
        metric = known.get(name, FoundMetric(name=name, direction=direction_of(name)))
        direction = {"min": "minimize", "max": "maximize"}.get(item["mode"], metric.direction)
        known[name] = replace(metric, monitored=metric.monitored or item["monitored"], confirmed=True, direction=direction)
    return tuple(sorted(known.values(), key=lambda metric: not metric.monitored))
