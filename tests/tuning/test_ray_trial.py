"""A trial of the Ray engine without Ray: what its actor does with the script, the record and the checkpoints."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from narf.backends.local.backend import LocalBackend
from narf.domain.errors import Unavailable
from narf.testing.backend_contract import is_running

pytest.importorskip("ray")
from narf.tuning import ray_trial

HANGS = "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(600)\n"


class Record:
    """The platform as an actor sees it. `longest` is what it says a trial may take."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.told: list[dict[str, Any]] = []
        self.longest: float | None = None
        self.away = 0  # for so many calls

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        if self.away:
            self.away -= 1
            raise Unavailable("Nobody answers.")
        if path.endswith("/results"):
            self.told.append(body)
            return {"fault": "hung" if body["state"] == "hung" else None, "detail": ""}
        self.asked.append(body)
        return {"number": 0, "run_id": "a" * 32, "longest_seconds": self.longest}


@pytest.fixture
def trial_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ray_trial.WarmTrial]]:
    backend = LocalBackend(tmp_path / "home", preload=(), pins_cores=False)

    class Trial(ray_trial.WarmTrial):
        trial_id = "t1"

    def make(script: str, **plan: Any) -> ray_trial.WarmTrial:
        body = io.BytesIO()
        with tarfile.open(fileobj=body, mode="w") as archive:
            entry = tarfile.TarInfo("train.py")
            entry.size = len(script.encode())
            archive.addfile(entry, io.BytesIO(script.encode()))
        trial: Any = Trial.__new__(Trial)
        trial.plan = {
            "study": "st-1", "project": "p", "url": "", "token": "", "script": "train.py", "arguments": [], "bindings": {}, "environment": {},
            "metric": "loss", "cpu": 1.0, "gpu": 0.0, "memory_bytes": 0, "trial_time_limit_seconds": None, "segment": "", "stepwise": False,
            "code": body.getvalue(),
        } | plan  # fmt: skip
        trial.connection, trial.backend, trial.folder = Record(), backend, tmp_path / "trial"
        trial.folder.mkdir()
        trial.began, trial.values, trial.reports = False, {}, []
        return trial

    monkeypatch.setattr(ray_trial, "HUNG_LEAST_SECONDS", 0.3)
    monkeypatch.setattr(ray_trial, "_ASK_AGAIN_SECONDS", 0.2)
    monkeypatch.setattr(ray_trial, "_SEGMENTS", [])
    yield make
    backend.close()


def pid_of(trial: Any) -> int:
    return int(trial.backend.logs(trial.job_id, 0, 100).data)


def test_one_that_takes_longer_than_the_others_of_its_study_is_stopped_as_hanging(trial_of: Callable[..., Any]) -> None:
    trial = trial_of(HANGS)
    trial.connection.longest = 0.5
    result = trial.step()
    assert result["done"] and result["narf_fault"] == "hung"
    (told,) = trial.connection.told
    assert (told["state"], told["number"]) == ("hung", 0)
    assert not is_running(pid_of(trial)), "the next trial gets its place"
    assert {body["key"] for body in trial.connection.asked} == {"t1"}, "the same trial is asked for again, no other is made"


def test_while_too_few_have_ended_nobody_hangs(trial_of: Callable[..., Any]) -> None:
    trial = trial_of("import time\ntime.sleep(1.2)\n")
    assert "narf_fault" not in trial.step()
    assert trial.connection.told[0]["state"] == "succeeded"
    assert len(trial.connection.asked) > 1


def test_a_segment_that_takes_longer_than_the_others_is_stopped_as_hanging(
    trial_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trial, "longest_seconds", lambda times: 0.5 if len(times) >= 5 else float("inf"))
    ray_trial._SEGMENTS.extend([0.1] * 5)
    trial = trial_of(HANGS, segment='{"metric": "loss", "reports": 1}')
    result = trial.step()
    assert result["done"] and trial.connection.told[0]["state"] == "hung"
    assert not is_running(pid_of(trial))


def test_another_trial_in_the_same_actor_does_not_go_on_from_the_checkpoint_of_the_one_before(
    trial_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_trial, "HUNG_LEAST_SECONDS", 60.0)  # on a busy machine it would ask whether it hangs
    keep = "import os\nfrom pathlib import Path\nplace = Path(os.environ['NARF_CHECKPOINTS'])\nprint(sorted(p.name for p in place.glob('*')))\n"
    trial = trial_of(keep + "(place / 'last.ckpt').touch()\n")
    trial.step()
    first = trial.job_id
    assert trial.reset_config({})
    trial.step()
    assert trial.job_id != first and trial.backend.logs(trial.job_id, 0, 100).data == b"[]\n"
    assert len(trial.connection.asked) == 2


def test_a_member_that_is_given_a_checkpoint_goes_on_from_it(trial_of: Callable[..., Any], tmp_path: Path) -> None:
    trial = trial_of("")
    (tmp_path / "given" / "narf").mkdir(parents=True)
    (tmp_path / "given" / "narf" / "good.ckpt").touch()
    trial.checkpoints.mkdir()
    (trial.checkpoints / "mine.ckpt").touch()
    trial.load_checkpoint(tmp_path / "given")
    assert [path.name for path in trial.checkpoints.iterdir()] == ["good.ckpt"]


def test_a_trial_sees_the_gpus_that_ray_gave_its_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_trial.ray, "get_gpu_ids", lambda: ["2", "5"])
    assert (ray_trial._place(2.0).gpu_indices, ray_trial._place(2.0).gpu_fraction) == ((2, 5), 0.0)
    monkeypatch.setattr(ray_trial.ray, "get_gpu_ids", lambda: [1])
    assert (ray_trial._place(0.5).gpu_indices, ray_trial._place(0.5).gpu_fraction) == ((1,), 0.5)
    assert ray_trial._place(0.0).gpu_indices == ()


def test_what_came_of_a_trial_is_told_when_the_platform_is_back(trial_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    trial = trial_of("")
    trial.connection.away = 1
    trial._begin()
    trial.connection.away = 2
    assert trial.step()["done"]
    assert [told["state"] for told in trial.connection.told] == ["succeeded"]
    monkeypatch.setattr(ray_trial, "_AWAY_SECONDS", 0.1)
    trial.connection.away = 100
    with pytest.raises(Unavailable):
        trial.step()
