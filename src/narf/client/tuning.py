"""Studies from Python: `narf.tune("train.py", trials=30)` begins a search, waits, and gives its best trial."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from narf.client.code import send_folder
from narf.client.connection import Connection, connect, default_project, find_server
from narf.client.tune_settings import LISTS, SETTINGS, check_words, over, read_settings, study_body
from narf.domain.errors import BadInput, NarfError, Unavailable

if TYPE_CHECKING:
    from narf.tuning.discovery.found import Discovery

FINISHED = ("succeeded", "failed", "cancelled")
_LEAST_REST_SECONDS, _MOST_REST_SECONDS = 0.1, 1.0


def tune(
    script: str | Path,
    *,
    space: Mapping[str, Any] | None = None,
    only: bool | None = None,
    skip: str | Sequence[str] | None = None,
    metric: str | None = None,
    direction: str | None = None,
    trials: int | None = None,
    seconds: float | None = None,
    gpu_hours: float | None = None,
    least_gain: float | None = None,
    parallel: int | None = None,
    sampler: str | None = None,
    pruner: str | None = None,
    seed: int | None = None,
    arguments: str | Sequence[str] | None = None,
    name: str | None = None,
    project: str = "",
    engine: str | None = None,
    wait: bool = True,
    connection: Connection | None = None,
    **more: Any,
) -> Search:
    """Search over the parameters of an unchanged script. What is not said here, [tune] of the narf.toml beside the code may say.

    The platform of this machine is started if none is up or chosen, as `narf tune` does.

    Args:
        space: ranges by name, as text ("1e-4..0.1 log", "adam, sgd"), as a tuple ((1e-4, 0.1, "log")), as a list of choices or as a
            table. Without it, what is found in the script is searched.
        only: search what `space` names and nothing else (the default when it is given); False adds it to what is found.
        direction: "minimize" or "maximize"; told by the metric's name when left out.
        more: any other word of narf.toml (`time="2h"`, `memory="4Gi"`, `trial_time_limit`, ...) and any other field of a study, as in
            the HTTP API (`initial`, `warm_from`, `value_from`, `resources`, `environment`, ...).
        wait: return when the search has ended; False returns at once.

    Raises:
        NarfError: the study was refused, or failed (its sentence says why).
    """
    place = Path(script).expanduser().resolve()
    check_script(place)
    check_words(more)
    folder, _ = folder_of(place)
    asked: dict[str, Any] = {
        "space": None if space is None else {key: space_form(value, key) for key, value in space.items()},
        "only": bool(space) if only is None and space else only,
        "skip": skip,
        "arguments": shlex.split(arguments) if isinstance(arguments, str) else arguments,
        "time": seconds,
        "metric": metric,
        "direction": direction,
        "trials": trials,
        "gpu_hours": gpu_hours,
        "least_gain": least_gain,
        "parallel": parallel,
        "sampler": sampler,
        "pruner": pruner,
        "seed": seed,
        "name": name,
        "engine": engine,
    }
    asked |= {key: value for key, value in more.items() if key in SETTINGS}
    given = {key: _listed(value) if key in LISTS else value for key, value in asked.items() if value is not None}
    settings = over(read_settings(folder), given)
    body = {**study_body(settings, folder), **{key: value for key, value in more.items() if key not in SETTINGS and value is not None}}
    own = connection or connect_or_start()
    found = Search(own, begin(own, project or settings.get("project") or default_project(), place, body))
    return found.wait() if wait else found


@dataclass
class Search:
    """A study as the SDK shows it. `info` is what the server said last."""

    connection: Connection = field(repr=False)
    info: dict[str, Any]

    @property
    def name(self) -> str:
        return str(self.info["name"])

    @property
    def state(self) -> str:
        return str(self.info["state"])

    @property
    def best_value(self) -> float | None:
        value: float | None = self.info["best_value"]
        return value

    @property
    def best(self) -> dict[str, Any]:
        """The best trial: its values, value, run, and the command that runs it again."""
        answer: dict[str, Any] = self.connection.get(f"/api/v1/studies/{self.info['id']}/best")
        return {**answer["trial"], "command": answer["command"]}

    @property
    def best_values(self) -> dict[str, Any]:
        values: dict[str, Any] = self.best["values"]
        return values

    def trials(self) -> list[dict[str, Any]]:
        return list(self.connection.items(f"/api/v1/studies/{self.info['id']}/trials"))

    def importance(self) -> dict[str, float]:
        found: dict[str, float] = self.connection.get(f"/api/v1/studies/{self.info['id']}/importance")["importance"]
        return found

    def refresh(self) -> Search:
        self.info = self.connection.get(f"/api/v1/studies/{self.info['id']}")
        return self

    def wait(self) -> Search:
        """Return when it has ended.

        Raises:
            NarfError: it failed.
        """
        for info in follow(self.connection, self.info["id"]):
            self.info = info
        if self.state == "failed":
            raise NarfError(f"Study {self.name} failed. {self.info['sentence']}", code="study_failed")
        return self

    def pause(self) -> Search:
        return self._post("pause")

    def resume(self) -> Search:
        return self._post("resume")

    def cancel(self) -> Search:
        return self._post("cancel")

    def extend(
        self, *, trials: int | None = None, seconds: float | None = None, gpu_hours: float | None = None, least_gain: float | None = None
    ) -> Search:
        given = {"trials": trials, "seconds": seconds, "gpu_hours": gpu_hours, "least_gain": least_gain}
        return self._post("extend", {"budget": {name: value for name, value in given.items() if value is not None}})

    def register(self, name: str) -> dict[str, Any]:
        """The model of the best trial becomes a version of the registered model `name`."""
        answer: dict[str, Any] = self.connection.post(f"/api/v1/studies/{self.info['id']}/register", {"name": name})
        return answer

    def _post(self, verb: str, body: Any = None) -> Search:
        self.info = self.connection.post(f"/api/v1/studies/{self.info['id']}/{verb}", body)
        return self


def connect_or_start() -> Connection:
    """A connection to the platform that is up or was chosen; the one of this machine is started when there is none.

    Raises:
        Unavailable: it did not come up.
    """
    if find_server() is None:
        told = subprocess.run([sys.executable, "-m", "narf.cli", "up", "--json"], capture_output=True, text=True, check=False)
        if told.returncode != 0 or find_server() is None:
            raise _not_started(told.stdout + told.stderr)
    return connect()


def _not_started(said: str) -> Unavailable:
    for line in reversed(said.splitlines()):
        try:
            error = json.loads(line)["error"]
            return Unavailable(f"Narf could not be started. {error['detail']}", remedy=str(error.get("remedy") or "Start it: narf up"))
        except (ValueError, KeyError, TypeError):
            continue
    return Unavailable("Narf could not be started.", remedy="Start it, which says why: narf up")


def begin(
    connection: Connection,
    project: str,
    script: Path,
    body: Mapping[str, Any],
    *,
    tell: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Send the script's folder and begin the study that `body` describes.

    The folder is the current one when the script lies in it, else the script's own. Where reading the script does not tell what to
    search, it is started up to where it trains (a dry run, on this machine), which may tell more; `tell` is told so.

    Raises:
        BadInput: there is no such script, it is not Python, or the study is refused.
    """
    from narf.tuning.discovery.static import discover_statically

    check_script(script)
    read = discover_statically(script, list(body.get("arguments", [])))
    names = {item.name for item in read.parameters}
    is_all_known = bool(body.get("only_space")) and set(_named(body.get("space"))) <= names
    if read.is_open and not is_all_known:
        return _begin_confirmed(connection, project, script, body, read, None, tell)
    try:
        return _send(connection, project, script, body)
    except BadInput as error:
        if error.code not in ("no_parameters", "unknown_parameter", "no_metric"):
            raise
        if error.code != "no_metric" and read.tunable and {*_named(body.get("space")), *body.get("skip", ())} <= names:
            # What was read here lies in a file that is not sent along, as a .env with its secrets.
            return _send(connection, project, script, _settled(body, read, script))
        return _begin_confirmed(connection, project, script, body, read, error, tell)


def _begin_confirmed(
    connection: Connection,
    project: str,
    script: Path,
    body: Mapping[str, Any],
    read: Discovery,
    refused: BadInput | None,
    tell: Callable[[str], None] | None,
) -> dict[str, Any]:
    from narf.tuning.discovery.dry_run import confirm

    found = confirm(script, list(body.get("arguments", [])), read)
    if refused is not None and found.parameters == read.parameters and found.metrics == read.metrics:
        raise _with_notes(refused, found)
    if tell is not None:
        tell(f"reading {script.name} was not enough; starting it up to where it trains told more")
    try:
        return _send(connection, project, script, _settled(body, found, script))
    except BadInput as error:
        raise _with_notes(error, found) from None


def _settled(body: Mapping[str, Any], found: Discovery, script: Path) -> dict[str, Any]:
    """The body with the space, the ways of passing and the metric that were found here, so that the server need not find them."""
    from narf.tuning.discovery.static import refuse_without_arguments

    space = _named(body.get("space"))
    if not body.get("only_space"):
        proposals = {
            item.name: item.proposal.to_json() for item in found.tunable if item.proposal and item.name not in body.get("skip", ())
        }
        space = {name: {key: value for key, value in form.items() if key != "name"} for name, form in proposals.items()} | space
    refuse_without_arguments(found, list(body.get("arguments", [])), set(space), script.name)
    bindings = {item.name: item.passing.to_json() for item in found.parameters if item.name in space}
    metric = body.get("metric") or (found.metrics[0].name if found.metrics else "")
    unknown = [name for name in body.get("skip", ()) if name not in {item.name for item in found.parameters}]  # for the server to refuse
    settled = {"space": space, "only_space": True, "skip": unknown, "bindings": {**bindings, **body.get("bindings", {})}} if space else {}
    return {**body, **settled, "metric": metric}


def _named(space: Any) -> dict[str, Any]:
    """A space as a table, also where it is a list of parameters with their names."""
    if isinstance(space, Mapping):
        return dict(space)
    return {str(form.get("name", "")): {k: v for k, v in form.items() if k != "name"} for form in space or () if isinstance(form, Mapping)}


def _with_notes(error: BadInput, found: Discovery) -> BadInput:
    """The refusal, with what the dry run ran into: the script may need an argument, or say why it found nothing."""
    if not found.notes or error.code not in ("no_parameters", "unknown_parameter", "no_metric"):
        return error
    told = BadInput(f"{error.sentence} {' '.join(found.notes)}", remedy=error.remedy, field=error.field, code=error.code)
    return told


def _send(connection: Connection, project: str, script: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    folder, relative = folder_of(script)
    snapshot = send_folder(connection, project, folder)
    answer: dict[str, Any] = connection.post(f"/api/v1/projects/{project}/studies", {**body, "script": relative, "snapshot": snapshot})
    return answer


def check_script(script: Path) -> None:
    """Whether there is a Python script at all.

    Raises:
        BadInput: with what is there instead, and what to do.
    """
    shown = str(script)[:200]
    if script.is_dir():
        raise BadInput(f"{shown} is a folder.", remedy="Name the script in it.", field="script")
    if not script.is_file():
        raise BadInput(f"There is no script {shown}.", remedy=f"Paths are taken from {Path.cwd()}.", field="script")


def folder_of(script: Path) -> tuple[Path, str]:
    """(folder to send, path of the script in it)."""
    here, full = Path.cwd(), script.resolve()
    folder = here if full.is_relative_to(here.resolve()) and here != Path.home() else full.parent
    return folder, full.relative_to(folder.resolve()).as_posix()


def follow(connection: Connection, study_id: str, seen: Callable[[dict[str, Any]], None] | None = None) -> Iterator[dict[str, Any]]:
    """What the server says of a study, again and again until it has ended."""
    began = time.monotonic()
    while True:
        info: dict[str, Any] = connection.get(f"/api/v1/studies/{study_id}")
        if seen is not None:
            seen(info)
        yield info
        if info["state"] in FINISHED:
            return
        trials = info["trials"]
        done = sum(trials.get(state, 0) for state in ("succeeded", "pruned", "failed"))
        time.sleep(rest_between_looks(time.monotonic() - began, done, info["budget"].get("trials")))


def rest_between_looks(seconds: float, done: int, wanted: int | None) -> float:
    """How long to wait before the next look at a study of which `done` of `wanted` trials ended in `seconds`: half of what is left at that pace.

    A look costs the server as much as a tenth of a short trial, and nobody reads ten lines a second.
    """
    left = seconds * (wanted - done) / done if done and wanted is not None else seconds / 2
    return min(_MOST_REST_SECONDS, max(_LEAST_REST_SECONDS, left / 2))


def _listed(value: Any) -> Any:
    """One text or one table is a list of one, as it is meant."""
    return [value] if isinstance(value, str | Mapping) else list(value) if isinstance(value, Sequence | set | frozenset) else value


def space_form(value: Any, name: str = "") -> Any:
    """A range as the HTTP API has it: tuples of two numbers and words become text.

    Raises:
        BadInput: it is nothing that makes a range.
    """
    if isinstance(value, str | Mapping):
        return value
    if not isinstance(value, Sequence | set | frozenset):
        raise BadInput(
            f"The range of {name!r} is {str(value)[:60]}, which says no range.",
            remedy='Write it as "1e-4..0.1 log", (1e-4, 0.1, "log") or a list of choices.',
            field=f"space.{name}",
            code="bad_space",
        )
    items = [getattr(item, "item", lambda item=item: item)() for item in value]  # NumPy's numbers are numbers
    is_range = len(items) >= 2 and all(isinstance(end, int | float) and not isinstance(end, bool) for end in items[:2])
    if isinstance(value, tuple) and is_range and all(isinstance(word, str) for word in items[2:]):
        return " ".join([f"{items[0]!r}..{items[1]!r}", *items[2:]])
    if odd := [item for item in items if item is not None and not isinstance(item, bool | int | float | str)]:
        raise BadInput(
            f"{name!r} has the choice {str(odd[0])[:60]}, which is neither text, number, bool nor None.",
            remedy="Give each choice a name and let the script look it up.",
            field=f"space.{name}",
            code="bad_space",
        )
    return items
