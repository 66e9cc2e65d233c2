"""A trial of the Ray engine: an actor, used for one trial after another, that runs the unchanged script in a fork of a warm process.

The actor holds a local backend of its own, whose zygote has imported the heavy libraries once; a trial costs a fork, not an import.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ray
from ray import tune

from narf.backends.local.backend import LocalBackend
from narf.backends.protocol import Job, JobPhase, JobStatus, Replica
from narf.client.connection import Connection
from narf.domain.errors import NarfError, Unavailable
from narf.domain.workload import EndReason, Resources
from narf.training.spool import read_events, unpack_points, verified_length
from narf.tuning.binding import bind, read_bindings
from narf.tuning.decisions import HUNG_LEAST_SECONDS, longest_seconds
from narf.tuning.ray_driver import home_of

_STOP_SECONDS = 15.0  # its grace, and what it takes to be seen
_LOOK_SECONDS = 0.01
_AWAY_SECONDS = 120.0  # how long the platform may be away before a trial is given up
_ASK_AGAIN_SECONDS = 30.0  # how long a trial may take changes as others end
_SEGMENTS: list[float] = []  # seconds of the segments of this actor that worked
_WARM: dict[str, LocalBackend] = {}  # by folder: an actor that serves several trials keeps its zygote


class WarmTrial(tune.Trainable):  # type: ignore[misc]
    """One `step` is one report of the metric; with `segment` in the plan, one segment of training that ends in a checkpoint."""

    given: int  # reports handed to Ray so far
    reports: list[tuple[int, float]]

    def setup(self, config: dict[str, Any], plan: dict[str, Any]) -> None:
        self.plan = plan
        self.connection = Connection(plan["url"], plan["token"])
        self.backend = _backend(plan)
        self.folder = Path(tempfile.mkdtemp(prefix="narf-trial-"))
        self.began = False
        self.values = config

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """The same actor, another trial; or the same trial with other values, to go on from a checkpoint that is loaded next."""
        if self.began and self.plan["segment"] and self.key == self.trial_id:
            self.values = new_config
            return True
        self._leave()
        shutil.rmtree(self.checkpoints, ignore_errors=True)  # another trial begins; one that goes on is given its own by Ray after this
        self.values, self.began = new_config, False
        return True

    def step(self) -> dict[str, Any]:
        metric = self.plan["metric"]
        if not self.began:
            self._begin()
        if self.plan["segment"]:
            return self._segment(metric)
        while True:
            reports = self._reports()
            if len(reports) > self.given:
                self.given = len(reports) if not self.plan["stepwise"] else self.given + 1
                is_last = self.given == len(reports) and self._status().phase is JobPhase.ENDED and self.given == len(self._reports())
                if is_last:
                    return {metric: reports[self.given - 1][1], "done": True} | self._end()
                return {metric: reports[self.given - 1][1], "done": False}
            if self._status().phase is JobPhase.ENDED and len(self._reports()) == self.given:
                return {metric: self.reports[-1][1] if self.reports else float("nan"), "done": True} | self._end()
            if self._is_hanging():
                return self._give_up(metric)
            time.sleep(_LOOK_SECONDS)

    def save_checkpoint(self, checkpoint_dir: str) -> str:
        if self.checkpoints.exists():
            shutil.copytree(self.checkpoints, Path(checkpoint_dir) / "narf", dirs_exist_ok=True)
        return checkpoint_dir

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        source = Path(str(checkpoint_dir)) / "narf"
        if source.exists():
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            shutil.copytree(source, self.checkpoints)

    def cleanup(self) -> None:
        self._leave()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- inside

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def _begin(self) -> None:
        """Have the trial written down, and start the script."""
        answer = self._written_down()
        self.key, self.number, self.run_id = self.trial_id, answer["number"], answer["run_id"]
        self.ask_again_at = 0.0
        self.began, self.given, self.segments = True, 0, 0
        self.reports = []
        self.started_at = datetime.now(UTC)
        if not self.plan["segment"]:
            self._start()

    def _written_down(self) -> dict[str, Any]:
        """The trial on record; it is made when this is asked for the first time."""
        return self._post("trials", {"key": f"{self.trial_id}", "values": self.values})

    def _post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask or tell the platform; both may be repeated. While it is away, for as long as it takes to start it again."""
        latest, rest = time.monotonic() + _AWAY_SECONDS, 0.25
        while True:
            try:
                answer: dict[str, Any] = self.connection.post(f"/api/v1/studies/{self.plan['study']}/driver/{what}", body)
                return answer
            except Unavailable:
                if time.monotonic() + rest > latest:
                    raise
            time.sleep(rest)
            rest = min(2 * rest, 5.0)

    def _is_hanging(self) -> bool:
        """Whether it takes ten times as long as the others of its study: who knows them is asked, now and then, once it has taken a while."""
        seconds = (datetime.now(UTC) - self.started_at).total_seconds()
        if seconds < HUNG_LEAST_SECONDS or time.monotonic() < self.ask_again_at:
            return False
        self.ask_again_at = time.monotonic() + _ASK_AGAIN_SECONDS
        try:
            longest = self._written_down()["longest_seconds"]
        except NarfError:
            return False  # the platform is away, or the study over: then Ray hears of it
        return longest is not None and seconds > longest

    def _give_up(self, metric: str) -> dict[str, Any]:
        self._stop_script()
        self.began = False
        return {metric: float("nan"), "done": True} | self._tell("hung", "", None)

    def _start(self) -> None:
        self.job_id = f"{self.run_id[:20]}-{self.number}-{os.urandom(2).hex()}.1"
        work = self.folder / "work"
        shutil.rmtree(work, ignore_errors=True)
        with tarfile.open(fileobj=io.BytesIO(self.plan["code"])) as archive:
            archive.extractall(work, filter="data")
        arguments, injected = bind(read_bindings(self.plan["bindings"]), self.values)
        environment = dict(self.plan["environment"]) | {
            "NARF_URL": self.plan["url"],
            "NARF_TOKEN": self.plan["token"],
            "NARF_RUN_ID": self.run_id,
            "NARF_PROJECT": self.plan["project"],
            "NARF_CHECKPOINTS": str(self.checkpoints),
            "MLFLOW_TRACKING_URI": self.plan["url"],
            "MLFLOW_TRACKING_TOKEN": self.plan["token"],
            "MLFLOW_RUN_ID": self.run_id,
        }
        if injected:
            import json

            environment["NARF_PARAMS"] = json.dumps(injected)
            if not arguments:
                environment["NARF_PARAMS_ARE_ALL"] = "1"
        if self.plan["segment"]:
            environment |= {"NARF_SEGMENT": self.plan["segment"], "NARF_RESUME_OVERRIDES": "1"}
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        self.spool = self.backend.jobs / self.job_id / "spool"
        self.backend.submit(
            Job(
                id=self.job_id,
                workload_id=self.job_id.rpartition(".")[0],
                attempt=1,
                run_id=self.run_id,
                replicas=(_place(self.plan["gpu"]),),
                resources=Resources(cpu=self.plan["cpu"], gpu=self.plan["gpu"], memory_bytes=self.plan["memory_bytes"]),
                script=self.plan["script"],
                arguments=(*self.plan["arguments"], *arguments),
                working_directory=str(work),
                environment=environment,
                time_limit_seconds=self.plan["trial_time_limit_seconds"],
                series=f"ray:{self.plan['study']}",
            )
        )

    def _segment(self, metric: str) -> dict[str, Any]:
        """Train until the segment's reports are in and a checkpoint is kept; the next step goes on from it."""
        self._start()
        began = time.monotonic()
        while self._status().phase is not JobPhase.ENDED:
            if time.monotonic() - began > longest_seconds(_SEGMENTS):
                return self._give_up(metric)
            time.sleep(_LOOK_SECONDS)
        own = self._reports()
        self.reports += own
        self.segments += 1
        failed = self._status().reason is not EndReason.COMPLETED
        if not failed:
            _SEGMENTS.append(time.monotonic() - began)
        self.backend.forget(self.job_id)
        if failed or not own:
            return {metric: self.reports[-1][1] if self.reports else float("nan"), "done": True} | self._end()
        return {metric: own[-1][1], "done": False}

    def _stop_script(self) -> None:
        """Stop it, and wait until it has: the next trial gets its folders and its GPU."""
        self.backend.cancel(self.job_id, EndReason.CANCELLED)
        latest = time.monotonic() + _STOP_SECONDS
        while self._status().phase is not JobPhase.ENDED and time.monotonic() < latest:
            time.sleep(_LOOK_SECONDS)

    def _status(self) -> JobStatus:
        return self.backend.observe([self.job_id])[0]

    def _reports(self) -> list[tuple[int, float]]:
        """All values of the metric in the spool, in the order in which they were written."""
        found = read_spool(self.spool, self.plan["metric"])
        if not self.plan["segment"]:
            self.reports = found
        return found

    def _end(self) -> dict[str, Any]:
        """The script has ended: write down what came of it; what is wrong with it, for the searcher."""
        status = self._status()
        state, detail = "succeeded", ""
        if status.reason is not None and status.reason is not EndReason.COMPLETED and status.phase is JobPhase.ENDED:
            log = self.backend.logs(self.job_id, 0, 1 << 20).data[-16_384:].decode(errors="replace")
            state, detail = "failed", log
        self.began = False
        return self._tell(state, detail, status)

    def _leave(self) -> None:
        """The scheduler has stopped the trial, or the actor ends, while the script may still run."""
        if not self.began:
            return
        if self.plan["segment"]:
            # Paused, stopped or over: Ray does not say. It may go on in another actor, which then tells of what comes; when the driver
            # has ended, what was paused has succeeded.
            if self.reports:
                self._tell("paused", "", None)
        else:
            self._stop_script()
            self._tell("pruned", "", None)
        self.began = False

    def _tell(self, state: str, output: str, status: JobStatus | None) -> dict[str, Any]:
        body = {
            "number": self.number,
            "values": self.values,
            "state": state,
            "reports": [[step, value if value == value and abs(value) != float("inf") else None] for step, value in self.reports],
            "output": output[-4000:],
            "reason": status.reason.value if status is not None and status.reason is not None else None,
            "exit_code": status.exit_code if status is not None else None,
            "started_at": self.started_at.isoformat(),
            "ended_at": datetime.now(UTC).isoformat(),
        }
        try:
            answer = self._post("results", body)
        except NarfError as error:
            print(f"the result of trial {self.number} could not be written down: {error}", flush=True)  # noqa: T201 - the actor's log
            return {}
        return {"narf_fault": answer["fault"], "narf_detail": answer["detail"]} if answer.get("fault") else {}


def read_spool(spool: Path, metric: str) -> list[tuple[int, float]]:
    """(step, value) of one metric in all spool files of a folder."""
    found: list[tuple[float, int, float]] = []
    for events_file in sorted(spool.glob("*.events")):
        events, _ = read_events(events_file.read_bytes())
        keys = {event["id"] for event in events if event.get("type") == "key" and event.get("name") == metric}
        points_file = events_file.with_suffix(".points")
        if keys and points_file.exists():
            data = points_file.read_bytes()
            found += [(point.time, point.step, point.value) for point in unpack_points(data[: verified_length(data)]) if point.key in keys]
    return [(step, value) for _, step, value in sorted(found, key=lambda item: item[0])]


def _place(gpus: float) -> Replica:
    """This machine, with the GPUs that Ray has given to the actor."""
    indices = tuple(int(index) for index in ray.get_gpu_ids()) if gpus else ()
    return Replica(node="local", gpu_indices=indices, gpu_fraction=gpus if 0 < gpus < 1 else 0.0)


def _backend(plan: dict[str, Any]) -> LocalBackend:
    """One for all actors of a node in turn: they share the folder, and the zygote, which is the platform's own where it runs here."""
    home = home_of(plan["study"])
    if str(home) not in _WARM:
        home.mkdir(mode=0o700, exist_ok=True)
        shared = Path(plan["run"]) if plan["run"] and os.path.isdir(plan["run"]) else None
        _WARM[str(home)] = LocalBackend(home, base_environment=plan["base_environment"], run=shared)
        _WARM[str(home)].warm()
    return _WARM[str(home)]
