"""Studies from Python: `narf.tune("train.py", trials=30)` begins a search, waits, and gives its best trial."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from narf.client.code import send_folder
from narf.client.connection import Connection, connect, default_project
from narf.domain.errors import BadInput, NarfError

FINISHED = ("succeeded", "failed", "cancelled")
_LOOK_SECONDS = 0.1


def tune(
    script: str | Path,
    *,
    space: Mapping[str, Any] | None = None,
    only: bool | None = None,
    skip: Sequence[str] = (),
    metric: str = "",
    direction: str = "",
    trials: int | None = None,
    seconds: float | None = None,
    gpu_hours: float | None = None,
    least_gain: float | None = None,
    parallel: int = 4,
    sampler: str = "tpe",
    pruner: str = "none",
    seed: int = 0,
    arguments: Sequence[str] = (),
    name: str = "",
    project: str = "",
    engine: str = "embedded",
    wait: bool = True,
    connection: Connection | None = None,
    **more: Any,
) -> Search:
    """Search over the parameters of an unchanged script.

    Args:
        space: ranges by name, as text ("1e-4..0.1 log", "adam, sgd"), as a tuple ((1e-4, 0.1, "log")), as a list of choices or as a
            table. Without it, what is found in the script is searched.
        only: search what `space` names and nothing else (the default when it is given); False adds it to what is found.
        direction: "minimize" or "maximize"; told by the metric's name when left out.
        more: any other field of a study, as in the HTTP API (`initial`, `warm_from`, `value_from`, `resources`, `sampler_options`, ...).
        wait: return when the search has ended; False returns at once.

    Raises:
        NarfError: the study was refused, or failed (its sentence says why).
    """
    place = Path(script).expanduser().resolve()
    body = study_body(
        space={key: space_form(value) for key, value in (space or {}).items()},
        only_space=bool(space) if only is None else only,
        skip=list(skip),
        metric=metric,
        direction=direction,
        budget=budget_of(trials=trials, seconds=seconds, gpu_hours=gpu_hours, least_gain=least_gain),
        parallel=parallel,
        sampler=sampler,
        pruner=pruner,
        seed=seed,
        arguments=list(arguments),
        name=name,
        engine=engine,
        **more,
    )
    own = connection or connect()
    found = Search(own, begin(own, project or default_project(), place, body))
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

    def extend(self, *, trials: int | None = None, seconds: float | None = None, gpu_hours: float | None = None) -> Search:
        return self._post("extend", {"budget": budget_of(trials=trials, seconds=seconds, gpu_hours=gpu_hours)})

    def register(self, name: str) -> dict[str, Any]:
        """The model of the best trial becomes a version of the registered model `name`."""
        answer: dict[str, Any] = self.connection.post(f"/api/v1/studies/{self.info['id']}/register", {"name": name})
        return answer

    def _post(self, verb: str, body: Any = None) -> Search:
        self.info = self.connection.post(f"/api/v1/studies/{self.info['id']}/{verb}", body)
        return self


def begin(connection: Connection, project: str, script: Path, body: Mapping[str, Any]) -> dict[str, Any]:
    """Send the script's folder and begin the study that `body` describes.

    The folder is the current one when the script lies in it, else the script's own.

    Raises:
        BadInput: there is no such script, or the study is refused.
    """
    if not script.is_file():
        raise BadInput(f"There is no script {str(script)[:200]}.", field="script")
    folder, relative = folder_of(script)
    snapshot = send_folder(connection, project, folder)
    answer: dict[str, Any] = connection.post(f"/api/v1/projects/{project}/studies", {**body, "script": relative, "snapshot": snapshot})
    return answer


def folder_of(script: Path) -> tuple[Path, str]:
    """(folder to send, path of the script in it)."""
    here, full = Path.cwd(), script.resolve()
    folder = here if full.is_relative_to(here.resolve()) and here != Path.home() else full.parent
    return folder, full.relative_to(folder.resolve()).as_posix()


def follow(connection: Connection, study_id: str, seen: Callable[[dict[str, Any]], None] | None = None) -> Iterator[dict[str, Any]]:
    """What the server says of a study, again and again until it has ended."""
    while True:
        info: dict[str, Any] = connection.get(f"/api/v1/studies/{study_id}")
        if seen is not None:
            seen(info)
        yield info
        if info["state"] in FINISHED:
            return
        time.sleep(_LOOK_SECONDS)


def study_body(**fields: Any) -> dict[str, Any]:
    """A study's body; what is None is left to its default."""
    return {name: value for name, value in fields.items() if value is not None}


def budget_of(**limits: float | None) -> dict[str, Any] | None:
    """The limits that were given; None, which is the default of 20 trials, when there are none."""
    given = {name: value for name, value in limits.items() if value is not None}
    if given and set(given) == {"least_gain"}:
        given["trials"] = 1000
    return given or None


def space_form(value: Any) -> Any:
    """A range as the HTTP API has it: tuples of two numbers and words become text."""
    if (
        isinstance(value, tuple)
        and len(value) >= 2
        and all(isinstance(end, int | float) and not isinstance(end, bool) for end in value[:2])
    ):
        return " ".join([f"{value[0]!r}..{value[1]!r}", *map(str, value[2:])])
    return list(value) if isinstance(value, tuple | set | frozenset) else value
