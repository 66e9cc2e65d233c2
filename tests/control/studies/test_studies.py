"""Studies from their beginning to their end: the real services and reconcilers on a backend in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler

from narf.backends.protocol import Job, Node
from narf.control.access.service import AccessService
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.schema import upgrade
from narf.control.snapshots.service import SnapshotFile, SnapshotService
from narf.control.studies import store
from narf.control.studies.driver import driver_resources
from narf.control.studies.launch import has_checkpoint
from narf.control.studies.reconciler import StudyReconciler
from narf.control.studies.service import Asked, StudyService
from narf.control.workloads import store as workload_store
from narf.control.workloads.admission import AdmissionReconciler, Cluster
from narf.control.workloads.progress import ProgressReconciler
from narf.control.workloads.service import WorkloadService
from narf.data.objects import ObjectStore
from narf.domain.access import Principal
from narf.domain.errors import BadInput, Conflict, NotAllowed, NotFound
from narf.domain.workload import EndReason, Resources, WorkloadKind, WorkloadState
from narf.training.parameters import NOTHING_ARRIVED
from narf.tuning import results
from narf.tuning.planning import Wishes
from narf.tuning.study import Budget, Engine, Fault, Search, StudyEnd, StudyState, TrialState

SCRIPT = b"""
import argparse
import mlflow
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float, default=0.1)
p.add_argument("--size", type=int, default=32)
args = p.parse_args()
mlflow.log_metric("val_loss", abs(args.lr - 0.3))
"""


class Runs:
    """Runs and their metrics in memory."""

    def __init__(self) -> None:
        self.tags: dict[str, Mapping[str, str]] = {}
        self.finished: dict[str, WorkloadState] = {}
        self.values: dict[str, dict[str, list[tuple[int, float]]]] = {}
        self.notes: dict[str, tuple[dict[str, str], dict[str, float]]] = {}

    def create_run(self, *, tags: Mapping[str, str], **_: object) -> str:
        run_id = f"run{len(self.tags)}"
        self.tags[run_id], self.values[run_id] = tags, {}
        return run_id

    def finish_run(self, run_id: str, state: WorkloadState) -> None:
        self.finished[run_id] = state

    def counts(self, run_ids: list[str], key: str) -> dict[str, int]:
        return {run_id: len(self.values[run_id].get(key, [])) for run_id in run_ids}

    def points(self, run_id: str, key: str, after: int) -> list[tuple[int, float]]:
        return self.values[run_id].get(key, [])[after:]

    def names(self, run_id: str) -> list[str]:
        return list(self.values[run_id])

    def is_complete(self, run_id: str) -> bool:
        return True

    def note(self, run_id: str, *, tags: dict[str, str], metrics: dict[str, float]) -> None:
        self.notes[run_id] = (tags, metrics)


class NoData:
    def resolve(self, project: str, reference: str) -> str:
        raise NotFound("dataset", reference)

    def folder_for(self, project: str, reference: str) -> str:
        raise NotFound("dataset", reference)


class Models:
    has_model = True

    def register_run(self, project: str, user: str, run_id: str, name: str) -> str:
        if not self.has_model:
            raise BadInput(f"Run {run_id} has no model among its artifacts.", code="no_model")
        return f"{name}/{run_id}"


class Platform:
    """The control plane, moved by hand. `play` runs what was admitted as the script would."""

    def __init__(self, folder: Path, clock: Callable) -> None:
        self.clock, self.folder = clock, folder
        self.database = Database(f"sqlite:///{folder / 'narf.db'}")
        upgrade(self.database)
        access = AccessService(self.database, clock)
        access.create_user("ada", by="test")
        projects = ProjectService(self.database, access, clock)
        projects.create("vision", by=Principal(user="ada", is_admin=True))
        self.backend = FakeBackend_(clock)
        self.runs = Runs()
        backends = {"fake": self.backend}
        self.workloads = WorkloadService(self.database, self.runs, NoData(), backends, clock)
        self.admission = AdmissionReconciler(self.database, Cluster(backends), list)
        self.progress = ProgressReconciler(self.database, backends, self.runs, self.job)
        self.snapshots = SnapshotService(ObjectStore(folder / "objects"))
        self.models = Models()
        self.studies = StudyService(self.database, self.snapshots, self.workloads, self.runs, self.models, clock)
        self.reconciler = self.new_reconciler()
        self.played: set[str] = set()

    def new_reconciler(self) -> StudyReconciler:
        return StudyReconciler(self.database, self.workloads, self.runs, self.runs, self.runs)

    def job(self, workload, attempt) -> Job:
        program = workload.program
        return Job(
            id=workload.job_id, workload_id=workload.id, attempt=workload.attempt, run_id=workload.run_id, replicas=attempt.placement,
            resources=workload.resources, script=program.script, arguments=program.arguments, environment=dict(program.environment),
        )  # fmt: skip

    def snapshot(self, script: bytes = SCRIPT, path: str = "train.py") -> str:
        import hashlib
        import io

        digest = hashlib.sha256(script).hexdigest()
        self.snapshots.put(digest, io.BytesIO(script))
        return self.snapshots.create([SnapshotFile(path=path, sha256=digest, size=len(script))])

    def begin(self, code: bytes = SCRIPT, budget: Budget | None = None, wishes: dict | None = None, **fields):
        path = fields.get("script", "train.py")
        asked = {"project": "vision", "owner": "ada", "script": path, "snapshot": self.snapshot(code, path), "parallel": 2}
        return self.studies.begin(Asked(**(asked | fields), budget=budget or Budget(trials=6), wishes=Wishes(**(wishes or {}))))

    def resume(self, name: str):
        """Go on with a study, with nothing said of its budget."""
        asked = Asked(project="vision", owner="ada", script="train.py", snapshot=self.snapshot(), wishes=Wishes(), name=name, go_on=True)
        return self.studies.begin(asked)

    def settle(self) -> None:
        quiet = 0
        for _ in range(100):
            before = self.versions()
            again = self.admission.pass_once(self.clock()) | self.progress.pass_once(self.clock())
            again |= self.reconciler.pass_once(self.clock())
            quiet = 0 if again or self.versions() != before else quiet + 1
            if quiet == 2:  # a job that was told to stop is seen to have stopped by the pass after that
                return
        pytest.fail("the reconcilers do not come to rest")

    def versions(self) -> object:
        with self.database.read() as connection:
            workloads = [tuple(row) for row in workload_store.versions(connection, list(WorkloadState))]
            return workloads, [study.version for study in store.active(connection)], len(self.backend.submitted)

    def play(self, script: Callable[[dict], object], most: int = 1000) -> None:
        """Run everything that is admitted, until nothing is left to run. `script` gets the arguments and gives the metric's values
        (a list), or what `finish` of the backend takes (a dict)."""
        for _ in range(most):
            self.settle()
            waiting = [job for job in self.backend.submitted if job.id not in self.played]
            if not waiting:
                return
            job = waiting[0]
            self.played.add(job.id)
            arguments = dict(text.removeprefix("--").split("=") for text in job.arguments)
            self.clock.forward(seconds=1)
            outcome = script({name: float(value) for name, value in arguments.items()})
            if isinstance(outcome, dict):
                output = outcome.pop("output", b"")
                self.backend.print(job.id, output)
                self.backend.finish(job.id, **outcome)
            else:
                self.runs.values[job.run_id]["val_loss"] = list(enumerate(outcome))
                self.backend.finish(job.id)

    def trials(self, study):
        return self.studies.trials(study.id)


def FakeBackend_(clock):
    from narf.testing.fake_backend import FakeBackend

    return FakeBackend([Node(name="n0", cpu=8, memory_bytes=1 << 34, gpus=4)], now=clock)


@pytest.fixture
def platform(tmp_path, clock) -> Platform:
    return Platform(tmp_path, clock)


def good(arguments):
    return [abs(arguments["lr"] - 0.3)]


def test_a_study_runs_the_trials_of_its_budget_and_names_the_best(platform):
    study = platform.begin()
    platform.play(good)
    ended = platform.studies.study(study.id)
    trials = platform.trials(study)
    assert (ended.state, ended.end) == (StudyState.SUCCEEDED, StudyEnd.TRIALS)
    assert [trial.state for trial in trials] == [TrialState.SUCCEEDED] * 6
    best = platform.studies.best(study.id)
    assert best.value == min(trial.value for trial in trials)
    command = platform.studies.command_of(ended, best)
    assert command.startswith("narf run train.py -- --lr=")
    assert repr(best.values["lr"]) in command


def test_every_trial_is_a_run_under_the_run_of_the_study(platform):
    study = platform.begin()
    platform.play(good)
    assert {platform.runs.tags[trial.run_id]["mlflow.parentRunId"] for trial in platform.trials(study)} == {study.run_id}
    kinds = {platform.workloads.workload(trial.workload_id).kind for trial in platform.trials(study)}
    assert kinds == {WorkloadKind.TRIAL}
    assert platform.runs.finished[study.run_id] is WorkloadState.SUCCEEDED
    assert platform.runs.notes[study.run_id][1]["val_loss"] == platform.studies.best(study.id).value


def test_no_more_trials_at_once_than_asked_for_and_one_waits_at_most_when_there_is_no_room(platform):
    from narf.domain.workload import Resources

    study = platform.begin(parallel=8, budget=Budget(trials=20), resources=Resources(cpu=4))
    platform.settle()

    def with_room() -> int:
        states = [platform.workloads.workload(trial.workload_id).state for trial in platform.trials(study)]
        return states.count(WorkloadState.ADMITTED) + states.count(WorkloadState.RUNNING)

    assert with_room() == 2
    platform.play(good, most=6)
    assert with_room() <= 2
    platform.play(good)
    assert len(platform.trials(study)) == 20


def test_one_after_another_the_trials_are_those_of_the_sampler_alone(platform):
    import optuna

    study = platform.begin(parallel=1, budget=Budget(trials=14), wishes={"search": Search(sampler="tpe", seed=5)})
    platform.play(good)

    def objective(trial):
        lr = trial.suggest_float("lr", 0.0033, 1.0, log=True)
        trial.suggest_int("size", 3, 7)
        return abs(lr - 0.3)

    alone = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=5))
    alone.optimize(objective, n_trials=14)
    ours = [(trial.values["lr"], math.log2(trial.values["size"])) for trial in platform.trials(study)]
    assert ours == [(trial.params["lr"], trial.params["size"]) for trial in alone.trials]


def test_a_control_plane_that_dies_repeats_no_trial_and_proposes_what_it_would_have(platform, tmp_path, clock):
    whole = Platform(tmp_path_of(tmp_path, "whole"), clock)
    expected = whole.begin(parallel=1, budget=Budget(trials=15))
    whole.play(good)

    study = platform.begin(parallel=1, budget=Budget(trials=15))
    for _ in range(5):
        platform.play(good, most=3)
        platform.reconciler = platform.new_reconciler()  # nothing of the old one is left
    platform.play(good)
    trials = platform.trials(study)
    assert [trial.number for trial in trials] == list(range(15))
    assert len(platform.backend.submitted) == 15
    assert [trial.values for trial in trials] == [trial.values for trial in whole.trials(expected)]


def tmp_path_of(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def test_a_death_while_a_trial_is_submitted_leaves_nothing_of_it_and_the_same_trial_is_submitted_once(platform, monkeypatch):
    study = platform.begin(parallel=1)
    original, died = store.add_trial, []

    class Died(Exception):
        pass

    def die(_connection, trial, *_):
        died.append(trial)
        raise Died

    monkeypatch.setattr(store, "add_trial", die)
    with pytest.raises(Died):
        platform.reconciler.pass_once(platform.clock())
    monkeypatch.setattr(store, "add_trial", original)
    assert (platform.trials(study), platform.workloads.counts()) == ([], {})
    assert platform.runs.finished[died[0].run_id] is WorkloadState.CANCELLED
    platform.reconciler = platform.new_reconciler()
    platform.play(good)
    trials = platform.trials(study)
    assert len(trials) == len(platform.backend.submitted) == 6
    assert trials[0].values == died[0].values


def test_who_is_overtaken_while_submitting_begins_nothing_and_looks_again(platform, monkeypatch):
    study = platform.begin(parallel=1)
    original = platform.runs.create_run

    def meanwhile(**fields):
        monkeypatch.setattr(platform.runs, "create_run", original)
        platform.studies.pause(study.id, by="ada")
        return original(**fields)

    monkeypatch.setattr(platform.runs, "create_run", meanwhile)
    assert platform.reconciler.pass_once(platform.clock())
    assert (platform.trials(study), platform.workloads.counts()) == ([], {})
    assert not platform.reconciler.pass_once(platform.clock())  # it is paused
    platform.studies.resume(study.id, by="ada")
    platform.play(good)
    assert [trial.number for trial in platform.trials(study)] == list(range(6))
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED


def test_a_lost_node_does_not_repeat_what_has_ended(platform):
    study = platform.begin(parallel=2, budget=Budget(trials=6))
    platform.play(good, most=2)
    platform.settle()
    platform.backend.lose("n0")
    platform.backend.nodes = [Node(name="n1", cpu=8, memory_bytes=1 << 34, gpus=4)]
    platform.clock.forward(seconds=10)
    for job in platform.backend.submitted:
        platform.played.add(job.id)
    platform.play(good)
    assert [trial.state for trial in platform.trials(study)] == [TrialState.SUCCEEDED] * 6


def test_a_trial_behind_the_others_is_stopped_early(platform):
    study = platform.begin(budget=Budget(trials=7), parallel=1, wishes={"search": Search(sampler="random", pruner="median")})
    platform.play(lambda _: [0.5, 0.4, 0.3], most=5)
    platform.settle()
    last = platform.backend.submitted[-1]
    assert last.id not in platform.played
    platform.runs.values[last.run_id]["val_loss"] = [(0, 9.0), (1, 8.0)]
    platform.played.add(last.id)
    platform.settle()
    trial = next(trial for trial in platform.trials(study) if trial.run_id == last.run_id)
    assert (trial.state, trial.value) == (TrialState.PRUNED, 8.0)
    assert platform.workloads.workload(trial.workload_id).state is WorkloadState.CANCELLED


def test_pause_begins_no_trial_resume_goes_on_and_extend_adds(platform):
    study = platform.begin(parallel=1, budget=Budget(trials=3))
    platform.play(good, most=1)
    platform.settle()
    platform.studies.pause(study.id, by="ada")
    platform.play(good)
    assert len(platform.trials(study)) == 2
    assert platform.studies.study(study.id).state is StudyState.PAUSED
    platform.studies.resume(study.id, by="ada")
    platform.play(good)
    assert platform.studies.study(study.id).end is StudyEnd.TRIALS
    platform.studies.extend(study.id, {"trials": 5}, by="ada")
    platform.play(good)
    assert [trial.number for trial in platform.trials(study)] == list(range(5))
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED


def test_a_cancelled_study_stops_its_trials(platform):
    study = platform.begin(parallel=2)
    platform.settle()
    platform.studies.cancel(study.id, by="ada")
    platform.settle()
    assert {trial.state for trial in platform.trials(study)} == {TrialState.CANCELLED}
    assert {platform.workloads.workload(trial.workload_id).state for trial in platform.trials(study)} == {WorkloadState.CANCELLED}
    assert platform.studies.cancel(study.id, by="ada").state is StudyState.CANCELLED


def test_it_ends_when_its_time_is_up(platform):
    study = platform.begin(budget=Budget(seconds=20), parallel=1)
    platform.play(good)
    ended = platform.studies.study(study.id)
    assert ended.end is StudyEnd.TIME
    assert 18 <= len(platform.trials(study)) <= 22


def test_gpu_hours_are_counted_and_end_it(platform):
    from narf.domain.workload import Resources

    study = platform.begin(budget=Budget(gpu_hours=10 / 3600), parallel=1, resources=Resources(gpu=2))
    platform.play(good)
    assert platform.studies.study(study.id).end is StudyEnd.GPU_HOURS
    assert len(platform.trials(study)) == 5


def test_a_value_that_arrives_with_the_last_word_of_a_trial_counts(platform, monkeypatch):
    """It comes between the look at the metrics and the look whether all has arrived."""
    late = {}

    def is_complete(run_id: str) -> bool:
        platform.runs.values[run_id].update(late.pop(run_id, {}))
        return True

    monkeypatch.setattr(platform.runs, "is_complete", is_complete)
    study = platform.begin(budget=Budget(trials=1))
    platform.settle()
    (job,) = platform.backend.submitted
    late[job.run_id] = {"val_loss": [(0, 0.25)]}
    platform.backend.finish(job.id)
    platform.settle()
    assert [trial.value for trial in platform.trials(study)] == [0.25]


def test_what_a_trial_reported_is_waited_for_as_long_as_it_is_known_to_be_on_its_way(platform, monkeypatch):
    """The control plane was away when the trial ended; what it reported is shipped later."""
    monkeypatch.setattr(platform.runs, "is_complete", lambda run_id: bool(platform.runs.values[run_id]))
    study = platform.begin(budget=Budget(trials=2), parallel=1)
    platform.settle()
    (job,) = platform.backend.submitted
    platform.backend.undelivered.add(job.id)
    platform.backend.finish(job.id)
    platform.clock.forward(seconds=120)
    platform.settle()
    assert [trial.state for trial in platform.trials(study)] == [TrialState.RUNNING]
    platform.runs.values[job.run_id]["val_loss"] = [(0, 0.25)]
    platform.backend.undelivered.clear()
    platform.settle()
    first = platform.trials(study)[0]
    assert (first.state, first.value) == (TrialState.SUCCEEDED, 0.25)
    job = platform.backend.submitted[-1]  # nothing of this one is on its way, nor arrived: it has reported nothing
    platform.backend.finish(job.id)
    platform.settle()
    assert platform.trials(study)[1].state is TrialState.RUNNING
    platform.clock.forward(seconds=5)
    platform.settle()
    assert platform.trials(study)[1].fault is Fault.NO_METRIC


def test_an_earlier_study_is_a_start(platform):
    first = platform.begin(name="first", parallel=1, budget=Budget(trials=12))
    platform.play(good)
    second = platform.begin(name="second", parallel=1, warm_from=("first",), budget=Budget(trials=4))
    platform.play(good)
    assert platform.studies.study(second.id).warm_from == (first.id,)
    assert [trial.values for trial in platform.trials(second)] != [trial.values for trial in platform.trials(first)][:4]


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"search": Search(sampler="random")}, "sampler random does not learn"),
        ({"metric": "val_mse", "direction": "minimize"}, "was to minimize val_loss and this one is to minimize val_mse"),
        ({"direction": "maximize"}, "this one is to maximize val_loss"),
        ({"space": {"lr": "7.0..9.0"}}, "None of the 3 trials of study first lies in this space; it searched lr"),
        ({"search": Search(sampler="gp"), "space": {"lr": "1e-3..1.0 log"}}, ""),
        ({"search": Search(sampler="gp"), "space": {"size": "1000..2000", "lr": "1e-3..1.0 log"}}, "None of the 3"),
    ],
)
def test_a_study_starts_only_from_one_that_tells_it_something(platform, wishes, says):
    platform.begin(name="first", budget=Budget(trials=3))
    platform.play(good)
    if not says:
        assert platform.begin(name="second", warm_from=("first",), wishes=wishes).warm_from
        return
    with pytest.raises(BadInput, match=says) as refused:
        platform.begin(name="second", warm_from=("first",), wishes=wishes)
    assert refused.value.remedy
    assert len(platform.studies.page("vision")) == 1


def test_a_study_does_not_start_from_one_that_has_no_result(platform):
    platform.begin(name="first")
    with pytest.raises(BadInput, match="No trial of study first has succeeded"):
        platform.begin(name="second", warm_from=("first",))


def test_with_ray_as_many_at_once_are_begun_as_fit_in_one_job(platform):
    platform.workloads.check_fits = lambda _project, resources, *_: platform.backend.nodes[0].cpu >= resources.cpu or refuse()
    assert platform.begin(engine=Engine.RAY, parallel=None).parallel == 4
    assert platform.begin(engine=Engine.RAY, parallel=None, resources=Resources(cpu=3)).parallel == 2
    assert platform.begin(parallel=None, resources=Resources(cpu=3)).parallel == 4, "they wait for each other"
    limited = driver_resources(Resources(cpu=1, memory_bytes=1 << 30), 2).memory_bytes
    assert 3 << 30 < limited < 4 << 30, "theirs and Ray's own"
    assert driver_resources(Resources(cpu=1), 2).memory_bytes == 0
    with pytest.raises(BadInput, match=r"With Ray, 3 at once run in one job\. Too large") as refused:
        platform.begin(engine=Engine.RAY, parallel=3, resources=Resources(cpu=3))
    assert "--parallel" in refused.value.remedy


def refuse():
    raise BadInput("Too large.")


def test_a_driver_that_can_no_longer_be_started_ends_its_study(platform, monkeypatch):
    study = platform.begin(engine=Engine.RAY)

    def submit(*_):
        raise BadInput("No node is that large.")

    monkeypatch.setattr(platform.workloads, "submit", submit)
    platform.reconciler.pass_once(platform.clock())
    ended = platform.studies.study(study.id)
    assert (ended.state, ended.end) == (StudyState.FAILED, StudyEnd.DRIVER_FAILED)
    assert "cannot go on: No node is that large." in ended.sentence()


def test_the_best_of_a_population_tells_the_segments_that_led_to_it(platform):
    study = platform.begin(
        budget=Budget(trials=12), parallel=1, wishes={"search": Search(sampler="pbt", sampler_options=(("population", 3),))}
    )
    platform.play(good)
    best = platform.studies.best(study.id)
    way = platform.studies.segments_to(best)
    assert way[-1] == best and way[0].source is None and len(way) > 1
    assert [segment.source for segment in way[1:]] == [segment.number for segment in way[:-1]]


def test_a_population_whose_script_leaves_no_checkpoint_is_told_so(platform, tmp_path):
    platform.reconciler = StudyReconciler(
        platform.database, platform.workloads, platform.runs, platform.runs, platform.runs, has_checkpoint=has_checkpoint(tmp_path)
    )
    study = platform.begin(wishes={"search": Search(sampler="pbt", sampler_options=(("population", 2),))})
    platform.settle()
    left, bare = (tmp_path / trial.workload_id for trial in platform.trials(study))
    for folder in (left, bare):
        folder.mkdir()
        (folder / "marks.1.0.steps").write_bytes(b"")
    (left / "fit-1.ckpt").write_bytes(b"weights")
    platform.play(good, most=1)
    platform.settle()
    assert [trial.source for trial in platform.trials(study)] == [None, None, 0]
    platform.play(good)
    ended = platform.studies.study(study.id)
    assert (ended.state, ended.end) == (StudyState.FAILED, StudyEnd.SEARCH_FAILED)
    assert "trial 1 left no checkpoint to go on from. A population needs a script that Narf resumes" in ended.sentence()


def test_initial_points_are_tried_first(platform):
    study = platform.begin(wishes={"initial": ({"lr": 0.3, "size": 64},)})
    platform.play(good)
    assert platform.trials(study)[0].values == {"lr": 0.3, "size": 64}
    assert platform.studies.best(study.id).number == 0


def test_the_results_of_a_study(platform):
    study = platform.begin(budget=Budget(trials=12), parallel=1, wishes={"search": Search(sampler="random")})
    platform.play(good)
    known, trials = platform.studies.study(study.id), platform.trials(study)
    history = results.history(trials[::-1], known.direction)
    assert history.numbers == list(range(12))
    assert history.best == sorted(history.best, reverse=True)
    assert history.best[-1] == min(history.values)
    parallel = results.parallel_coordinates(known, trials)
    assert len(parallel.lines) == 12
    assert all(len(line) == 2 for line in parallel.lines)
    shares = results.importance(known, trials)
    assert max(shares, key=shares.__getitem__) == "lr"
    (group,) = results.board([(known, trials)])
    assert group.best_study == known.name
    assert group.regions["lr"].low <= platform.studies.best(study.id).values["lr"] <= group.regions["lr"].high
    assert platform.studies.register_best(study.id, "digits", by="ada")[0] == f"digits/{platform.studies.best(study.id).run_id}"


# -- what bad input gets


def test_a_study_whose_script_saves_no_model_says_so_when_it_is_to_be_registered(platform):
    study = platform.begin(budget=Budget(trials=1))
    platform.play(good)
    platform.models.has_model = False
    with pytest.raises(BadInput, match="Trial 0, the best of train-1, kept no model") as refused:
        platform.studies.register_best(study.id, "digits", by="ada")
    assert "Let it save one" in refused.value.remedy


def test_a_script_without_parameters_is_refused(platform):
    with pytest.raises(BadInput, match="No parameter was found"):
        platform.begin(b"import mlflow\nmlflow.log_metric('val_loss', 1)\n")


def test_a_script_without_a_metric_is_refused(platform):
    with pytest.raises(BadInput, match="No metric was found"):
        platform.begin(SCRIPT.split(b"mlflow.log")[0])


def test_a_metric_whose_name_does_not_tell_the_direction_is_asked_about(platform):
    with pytest.raises(BadInput, match="less or more is better"):
        platform.begin(wishes={"metric": "quux"})


def test_an_unknown_parameter_is_refused_with_the_one_that_was_meant(platform):
    with pytest.raises(BadInput, match="Did you mean 'size'"):
        platform.begin(wishes={"space": {"sise": "1..3"}})


@pytest.mark.parametrize("space", [{"size": "0.5..3.5"}, {"size": "1..2 if lr=7"}, {"lr": "5..1"}])
def test_a_range_that_the_script_cannot_accept_is_refused(platform, space):
    with pytest.raises(BadInput):
        platform.begin(wishes={"space": space})
    assert platform.studies.page("vision") == []


def test_two_parameters_of_one_name_are_refused(platform):
    with pytest.raises(BadInput, match="Two parameters"):
        platform.begin(wishes={"space": [{"name": "lr", "low": 0.1, "high": 1.0}, {"name": "lr", "low": 0.2, "high": 1.0}]})


def test_a_study_is_not_resumed_with_another_space(platform):
    platform.begin(name="one")
    with pytest.raises(Conflict, match="already"):
        platform.begin(name="one")
    with pytest.raises(Conflict, match="another space; what differs: lr"):
        platform.begin(name="one", go_on=True, wishes={"space": {"lr": "0.1..0.2"}, "only_space": False})
    assert platform.begin(name="one", go_on=True, budget=Budget(trials=9)).budget.trials == 9


@pytest.mark.parametrize(
    ("script", "wishes", "says"),
    [
        (SCRIPT, {"arguments": ("--size", "8"), "skip": ("size",), "space": {}}, "what differs: size, the arguments of the script"),
        (SCRIPT, {"direction": "maximize"}, "what differs: the direction"),
        (SCRIPT.replace(b"0.3", b"0.4"), {}, "train.py has changed since"),
    ],
)
def test_a_study_is_not_resumed_with_another_program_or_direction(platform, script, wishes, says):
    platform.begin(name="one", budget=Budget(trials=2))
    with pytest.raises(Conflict, match=says) as refused:
        platform.begin(script, name="one", go_on=True, budget=Budget(trials=9), wishes=wishes)
    assert "--warm-from one" in refused.value.remedy
    assert platform.studies.find("vision", "one").budget.trials == 2


def test_who_goes_on_without_a_budget_keeps_the_one_of_the_study(platform):
    study = platform.begin(name="one", budget=Budget(trials=30), parallel=1)
    platform.play(good, most=22)
    platform.studies.pause(study.id, by="ada")
    resumed = platform.resume("one")
    assert (resumed.state, resumed.budget.trials) == (StudyState.RUNNING, 30)
    platform.play(good)
    assert len(platform.trials(study)) == 30
    with pytest.raises(BadInput, match="has 30 trials already, so with a limit of 30 it would end at once"):
        platform.resume("one")


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ({"trials": 2}, "has 4 trials already"),
        ({"trials": 4}, "has 4 trials already"),
        ({"seconds": 7200.0}, "has 4 trials already, so with a limit of 4"),
        ({"seconds": 1.0, "trials": 9}, "has run for"),
        ({"least_gain": 5.0, "trials": 40}, "is expected to gain less"),
    ],
)
@pytest.mark.parametrize("paused", [True, False])
def test_a_budget_of_which_nothing_is_left_extends_nothing(platform, budget, says, paused):
    study = platform.begin(parallel=1, budget=Budget(trials=25 if "least_gain" in budget else 4))
    platform.play(good, most=24 if "least_gain" in budget else 3)
    platform.settle()
    if paused:
        platform.studies.pause(study.id, by="ada")
    platform.play(good)
    before = platform.studies.study(study.id)
    with pytest.raises(BadInput, match=says) as refused:
        platform.studies.extend(study.id, budget, by="ada")
    assert "narf tune --extend train-1 --" in refused.value.remedy
    assert platform.studies.study(study.id) == before


def test_a_study_without_a_name_is_called_after_its_script_in_plain_letters(platform):
    assert platform.begin(script="größe 2.py").name == "groe-2-1"


def test_a_metric_that_never_appears_ends_the_study_and_says_what_did(platform):
    study = platform.begin(wishes={"metric": "val_auc"})
    platform.play(good)
    ended = platform.studies.study(study.id)
    assert (ended.state, ended.end) == (StudyState.FAILED, StudyEnd.ALL_FAIL)
    assert "without reporting val_auc" in ended.sentence()
    assert "It reported val_loss" in ended.sentence()
    assert len(platform.trials(study)) < 6


@pytest.mark.parametrize(
    ("outcome", "fault", "says"),
    [
        ({"exit_code": 1, "output": b"Traceback ...\nValueError: boom"}, Fault.CRASHED, "ValueError: boom"),
        ({"exit_code": 2, "output": b"usage: ...\ntrain.py: error: argument --lr: too large"}, Fault.REJECTED, "argument --lr: too large"),
        (
            {"exit_code": 1, "output": f"ran\n{NOTHING_ARRIVED}lr. See\n".encode()},
            Fault.UNUSED,
            "reached the script, so all trials would be the same: lr. See",
        ),
        ({"exit_code": -9, "reason": EndReason.OUT_OF_MEMORY}, Fault.OUT_OF_MEMORY, "memory"),
        ({"exit_code": -15, "reason": EndReason.TIME_LIMIT}, Fault.TIME_LIMIT, "time limit"),
    ],
)
def test_a_trial_that_fails_is_marked_and_the_study_lives(platform, outcome, fault, says):
    count = 0

    def second_fails(arguments):
        nonlocal count
        count += 1
        return dict(outcome) if count == 2 else good(arguments)

    study = platform.begin(parallel=1)
    platform.play(second_fails)
    trials = platform.trials(study)
    assert [trial.state for trial in trials].count(TrialState.FAILED) == 1
    assert trials[1].fault is fault
    assert says in fault.sentence(metric="val_loss", detail=trials[1].detail)
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED


def test_a_trial_that_diverges_is_stopped_and_marked(platform):
    study = platform.begin(parallel=1, budget=Budget(trials=2))
    platform.settle()
    job = platform.backend.submitted[0]
    platform.runs.values[job.run_id]["val_loss"] = [(0, 0.5), (1, math.nan), (2, math.nan)]
    platform.played.add(job.id)
    platform.play(good)
    trials = platform.trials(study)
    assert (trials[0].state, trials[0].fault) == (TrialState.FAILED, Fault.DIVERGED)
    assert trials[1].state is TrialState.SUCCEEDED
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED


def test_a_trial_that_ends_in_nan_has_diverged(platform):
    study = platform.begin(parallel=1, budget=Budget(trials=2))
    values = iter([[0.5, math.inf], [0.2]])
    platform.play(lambda _: next(values))
    assert [trial.fault for trial in platform.trials(study)] == [Fault.DIVERGED, None]


def test_a_trial_that_hangs_is_stopped_and_the_study_ends(platform):
    study = platform.begin(parallel=1, budget=Budget(trials=6))
    platform.play(good, most=5)
    platform.settle()
    hung = platform.backend.submitted[-1]
    platform.played.add(hung.id)
    platform.clock.forward(seconds=120)
    platform.settle()
    assert [trial.fault for trial in platform.trials(study)] == [None] * 5 + [Fault.HUNG]
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED


def test_when_all_trials_fail_alike_it_stops_early_and_says_how(platform):
    study = platform.begin(budget=Budget(trials=50), parallel=2)
    platform.play(lambda a: {"exit_code": 1, "output": f"RuntimeError: bad lr {a['lr']}".encode()})
    ended = platform.studies.study(study.id)
    assert (ended.state, ended.end) == (StudyState.FAILED, StudyEnd.ALL_FAIL)
    assert "RuntimeError: bad lr" in ended.sentence()
    assert len(platform.trials(study)) <= 5
    assert platform.runs.finished[study.run_id] is WorkloadState.FAILED


def test_what_does_not_exist_is_said(platform):
    with pytest.raises(NotFound):
        platform.studies.study("st-nothing")
    with pytest.raises(NotFound):
        platform.studies.best(platform.begin().id)
    with pytest.raises(NotFound):
        platform.begin(name="x", warm_from=("nothing",))
    with pytest.raises(NotAllowed):
        platform.studies.discover(platform.snapshot(), "train.py", confirm=True)
    with pytest.raises(BadInput, match="no file"):
        platform.studies.discover(platform.snapshot(), "other.py")
    with pytest.raises(BadInput, match="cannot name"):
        platform.begin(name="Bad Name!")


class Stumbles(RandomSampler):
    """A sampler that meets numbers it cannot do with, from the third trial on."""

    def sample_independent(self, study, trial, name, distribution):
        if trial.number >= 2:
            raise ArithmeticError("singular matrix")
        return super().sample_independent(study, trial, name, distribution)


def test_a_sampler_that_stumbles_ends_its_study_with_a_sentence_and_loses_no_trial(platform, monkeypatch):
    monkeypatch.setattr("optuna.samplers.RandomSampler", Stumbles)
    study = platform.begin(wishes={"search": Search(sampler="random")})
    platform.settle()
    assert [trial.state for trial in platform.trials(study)] == [TrialState.RUNNING] * 2
    platform.play(good, most=1)
    platform.settle()
    ended = platform.studies.study(study.id)
    assert (ended.state, ended.end) == (StudyState.FAILED, StudyEnd.SEARCH_FAILED)
    assert "the sampler random stumbled (ArithmeticError: singular matrix)" in ended.sentence()
    assert [trial.state for trial in platform.trials(study)] == [TrialState.SUCCEEDED, TrialState.CANCELLED]
    assert platform.runs.finished[study.run_id] is WorkloadState.FAILED
    assert platform.studies.best(study.id).number == 0
    monkeypatch.undo()
    platform.studies.extend(study.id, {"trials": 4}, by="ada")
    platform.play(good)
    assert platform.studies.study(study.id).state is StudyState.SUCCEEDED
    assert len(platform.trials(study)) == 4


def test_what_one_study_stumbles_over_holds_up_no_other(platform, monkeypatch):
    poisoned, sound = platform.begin(name="poisoned"), platform.begin(name="sound")
    move = StudyReconciler._move

    def stumble(self, held, now):
        if held.study.id == poisoned.id:
            raise ZeroDivisionError
        move(self, held, now)

    monkeypatch.setattr(StudyReconciler, "_move", stumble)
    with pytest.raises(ZeroDivisionError):  # the loop logs it
        platform.reconciler.pass_once(platform.clock())
    assert len(platform.trials(sound)) == 2
    platform.reconciler.pass_once(platform.clock())  # it rests a while
    monkeypatch.undo()
    platform.clock.forward(seconds=2)
    platform.play(good)
    assert {platform.studies.study(study.id).state for study in (poisoned, sound)} == {StudyState.SUCCEEDED}
