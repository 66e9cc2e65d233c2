"""A workload's life from queue to end, through the reconcilers, on a backend in memory and real databases."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from narf.backends.protocol import Job, Node
from narf.control.access.service import AccessService
from narf.control.database import Database
from narf.control.projects.service import ProjectService
from narf.control.workloads import store
from narf.control.workloads.admission import AdmissionReconciler, Cluster
from narf.control.workloads.progress import ProgressReconciler
from narf.control.workloads.service import Submission, WorkloadService
from narf.domain.access import Principal
from narf.domain.errors import BadInput, NotFound
from narf.domain.workload import EndReason, Program, Resources, Workload, WorkloadKind, WorkloadState
from narf.testing.fake_backend import FakeBackend

S = WorkloadState


class Runs:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.finished: dict[str, WorkloadState] = {}
        self.created: list[str] = []

    def create_run(self, **_: object) -> str:
        self.created.append(f"run{len(self.created)}")
        return self.created[-1]

    def finish_run(self, run_id: str, state: WorkloadState) -> None:
        self.finished[run_id] = state


class Data:
    def resolve(self, project: str, reference: str) -> str:
        if reference.startswith("digits"):
            return "digits@v3"
        raise NotFound("dataset", reference)

    def folder_for(self, project: str, reference: str) -> str:
        return f"/data/{reference}"


class Control:
    """The control plane's middle: service and reconcilers, moved by hand."""

    def __init__(self, database: Database, clock: Callable, gpus: int = 2) -> None:
        self.database, self.clock = database, clock
        access = AccessService(database, clock)
        access.create_user("ada", by="test")
        projects = ProjectService(database, access, clock)
        projects.create("vision", by=Principal(user="ada", is_admin=True))
        self.backend = FakeBackend([Node(name="n0", cpu=8, memory_bytes=1 << 34, gpus=gpus)], now=clock)
        self.runs, self.data = Runs(), Data()
        backends = {"fake": self.backend}
        self.service = WorkloadService(database, self.runs, self.data, backends, clock)
        self.ended: list[Workload] = []
        self.admission = AdmissionReconciler(database, Cluster(backends), list)
        self.progress = ProgressReconciler(database, backends, self.runs, self.job, ended=self.ended.append)

    def job(self, workload, attempt) -> Job:
        return Job(
            id=workload.job_id, workload_id=workload.id, attempt=workload.attempt, run_id=workload.run_id,
            replicas=attempt.placement, resources=workload.resources, script=workload.program.script,
        )  # fmt: skip

    def submit(self, **fields: object) -> Workload:
        given = {"project": "vision", "owner": "ada", "name": "w", "kind": WorkloadKind.TRAINING}
        given |= {"program": Program(script="train.py"), "resources": Resources(gpu=1)}
        return self.service.submit(Submission(**(given | fields)))

    def settle(self) -> None:
        for _ in range(20):
            before = self.versions()
            again = self.admission.pass_once(self.clock()) | self.progress.pass_once(self.clock())
            if not again and self.versions() == before:
                return
        pytest.fail("the reconcilers do not come to rest")

    def versions(self) -> object:
        with self.database.read() as connection:
            return [tuple(row) for row in store.versions(connection, list(WorkloadState))], len(self.backend.submitted)

    def state(self, workload: Workload) -> WorkloadState:
        return self.service.workload(workload.id).state


@pytest.fixture
def control(database: Database, clock) -> Control:
    return Control(database, clock)


def test_a_workload_runs_and_succeeds(control: Control):
    workload = control.submit()
    assert workload.state is S.QUEUED
    control.settle()
    assert control.state(workload) is S.RUNNING
    control.backend.finish(workload.job_id)
    control.settle()
    ended = control.service.workload(workload.id)
    assert (ended.state, ended.end_reason) == (S.SUCCEEDED, EndReason.COMPLETED)
    assert control.runs.finished == {workload.run_id: S.SUCCEEDED}
    assert [w.id for w in control.ended] == [workload.id]
    history = [event.state for event in control.service.events(workload.id)]
    assert history == [S.QUEUED, S.ADMITTED, S.RUNNING, S.SUCCEEDED]


def test_a_job_that_takes_a_while_to_start_is_seen_to_start_also_after_the_control_plane_died(control: Control):
    control.backend._starts_at_once = False
    workload = control.submit()
    control.admission.pass_once(control.clock())
    control.progress.pass_once(control.clock())
    assert (control.state(workload), [job.id for job in control.backend.submitted]) == (S.ADMITTED, [workload.job_id])
    control.progress = ProgressReconciler(control.database, {"fake": control.backend}, control.runs, control.job)
    control.settle()
    assert (control.state(workload), len(control.backend.submitted)) == (S.STARTING, 1)
    control.backend.start(workload.job_id)
    control.settle()
    assert control.state(workload) is S.RUNNING


def test_a_short_trial_is_written_down_when_it_ends_and_a_long_one_also_when_it_runs(control: Control, clock):
    short, long = control.submit(kind=WorkloadKind.TRIAL), control.submit(kind=WorkloadKind.TRIAL)
    control.settle()
    assert [control.state(workload) for workload in (short, long)] == [S.ADMITTED, S.ADMITTED]
    began = clock()
    control.backend.finish(short.job_id)
    control.settle()
    ended = control.service.workload(short.id)
    assert (ended.state, ended.started_at) == (S.SUCCEEDED, began)
    assert [event.state for event in control.service.events(short.id)] == [S.QUEUED, S.ADMITTED, S.SUCCEEDED]
    assert control.state(long) is S.ADMITTED
    clock.forward(seconds=1)
    control.settle()
    assert (control.state(long), control.service.workload(long.id).started_at) == (S.RUNNING, began)


def test_what_does_not_fit_waits_until_there_is_room(control: Control):
    first = control.submit(resources=Resources(gpu=2))
    control.settle()
    second = control.submit(resources=Resources(gpu=1))
    control.settle()
    assert (control.state(first), control.state(second)) == (S.RUNNING, S.QUEUED)
    control.backend.finish(first.job_id)
    control.settle()
    assert control.state(second) is S.RUNNING


def test_a_users_error_is_not_tried_again(control: Control):
    workload = control.submit()
    control.settle()
    control.backend.finish(workload.job_id, exit_code=3)
    control.settle()
    ended = control.service.workload(workload.id)
    assert (ended.state, ended.attempt, ended.exit_code) == (S.FAILED, 1, 3)
    assert "exit code 3" in ended.sentence()


def test_a_lost_node_is_tried_again_until_the_retries_are_used_up(control: Control):
    workload = control.submit(max_retries=2)
    for attempt in (1, 2, 3):
        control.settle()
        assert control.service.workload(workload.id).attempt == attempt
        control.backend.finish(f"{workload.id}.{attempt}", exit_code=-9, reason=EndReason.NODE_LOST)
    control.settle()
    ended = control.service.workload(workload.id)
    assert (ended.state, ended.end_reason, ended.attempt) == (S.FAILED, EndReason.NODE_LOST, 3)


def test_a_waiting_workload_is_cancelled_at_once(control: Control):
    workload = control.submit(resources=Resources(gpu=2))
    control.service.cancel(workload.id, by="ada")
    assert control.state(workload) is S.CANCELLED
    control.settle()
    assert control.backend.submitted == []


def test_a_running_workload_is_cancelled_through_its_backend(control: Control):
    workload = control.submit()
    control.settle()
    control.service.cancel(workload.id, by="ada")
    control.settle()  # asks the backend to stop it
    control.settle()  # and sees that it has
    ended = control.service.workload(workload.id)
    assert (ended.state, ended.end_reason) == (S.CANCELLED, EndReason.CANCELLED)


def test_cancelling_twice_or_after_the_end_changes_nothing(control: Control):
    workload = control.submit()
    control.settle()
    control.backend.finish(workload.job_id)
    control.settle()
    before = control.service.workload(workload.id)
    assert control.service.cancel(workload.id, by="ada") == before


def test_one_idempotency_key_submits_once(control: Control):
    first = control.submit(idempotency_key="k1")
    again = control.submit(idempotency_key="k1")
    assert again.id == first.id
    assert len(control.runs.created) == 1


def test_data_is_fixed_to_a_version_at_submission(control: Control):
    workload = control.submit(program=Program(script="train.py", data=("digits@latest",)))
    assert control.service.workload(workload.id).program.data == ("digits@v3",)


def test_unknown_data_is_refused_and_nothing_is_queued(control: Control):
    with pytest.raises(NotFound):
        control.submit(program=Program(script="train.py", data=("nothing@v1",)))
    assert control.service.page("vision") == []
    assert control.runs.created == []


@pytest.mark.parametrize(
    "program",
    [
        Program(),
        Program(script="a.py", command=("ls",)),
        Program(script="../a.py", snapshot="0" * 64),
        Program(script="/etc/a.py", snapshot="0" * 64),
        Program(script="a.py", arguments=("a\0b",)),
        Program(script="a.py", environment=(("A=B", "x"),)),
    ],
)
def test_a_program_that_cannot_run_is_refused(control: Control, program: Program):
    with pytest.raises(BadInput):
        control.submit(program=program)


def test_two_hundred_at_once_each_run_once(control: Control):
    control.backend.nodes = [dataclasses.replace(control.backend.nodes[0], cpu=16, gpus=0)]
    made = [control.submit(program=Program(command=("true",)), resources=Resources(cpu=1)) for _ in range(200)]
    for _ in range(60):
        control.settle()
        for workload in made:
            if control.state(workload) is S.RUNNING:
                control.backend.finish(workload.job_id)
        control.clock.forward(seconds=3)
        if not control.service.counts().get(S.QUEUED) and not control.service.counts().get(S.RUNNING):
            break
    assert control.service.counts() == {S.SUCCEEDED: 200}
    assert sorted(job.workload_id for job in control.backend.submitted) == sorted(workload.id for workload in made)


def test_a_page_of_workloads_is_newest_first_and_goes_on_from_its_end(control: Control):
    made = []
    for _ in range(5):
        made.append(control.submit(name=f"w{len(made)}"))
        control.clock.forward(seconds=1)
    first = control.service.page("vision", limit=3)
    rest = control.service.page("vision", limit=3, before=(first[-1].created_at, first[-1].id))
    assert [w.name for w in first + rest] == ["w4", "w3", "w2", "w1", "w0"]


def test_a_write_from_an_older_version_is_dropped(control: Control):
    from narf.control.workloads import store

    workload = control.submit()
    with control.database.write() as connection:
        assert store.save(connection, workload.to(S.ADMITTED), control.clock())
        assert store.save(connection, workload.to(S.CANCELLED), control.clock()) is None
    assert control.state(workload) is S.ADMITTED


def test_the_scheduler_knows_when_a_run_last_wrote_a_checkpoint(control: Control, clock):
    workload = control.submit(resources=Resources(gpu=2))
    control.settle()
    began = clock().timestamp()
    for written, seen in ((began + 60, [began + 60]), (began - 60, [])):  # one of an earlier attempt says nothing of this one
        control.admission.checkpointed = lambda runs, written=written: dict.fromkeys(runs, written)
        found = control.admission.load(idle=True)
        assert found is not None
        told = found[1].checkpointed_W.tolist()
        assert [at for at in told if at == at and at > 0] == seen
    assert control.state(workload) is S.RUNNING


def test_one_goes_on_elsewhere_so_that_another_finds_its_room_together(control: Control, clock):
    control.backend.nodes = [Node(name=name, cpu=8, memory_bytes=1 << 34, gpus=2) for name in ("n0", "n1")]
    small = [control.submit() for _ in range(4)]
    control.settle()
    where = {w.id: control.service.attempts(w.id)[-1].placement[0].node for w in small}
    stay = [next(w for w in small if where[w.id] == node) for node in ("n0", "n1")]
    for workload in small:
        if workload not in stay:
            control.backend.finish(workload.job_id)
    control.settle()
    pair = control.submit(resources=Resources(gpu=2))
    control.settle()
    assert control.state(pair) is S.QUEUED  # a GPU is free on each node
    clock.forward(seconds=4000)
    control.settle()
    (moved,) = [w for w in stay if len(control.service.attempts(w.id)) == 2]
    assert [control.state(w) for w in (*stay, pair)] == [S.RUNNING] * 3
    first, second = (attempt.placement[0].node for attempt in control.service.attempts(moved.id))
    assert first != second and control.service.attempts(pair.id)[-1].placement[0].node == first
    assert S.PREEMPTING in [event.state for event in control.service.events(moved.id)]
