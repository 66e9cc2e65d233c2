"""The workload: what is asked of the scheduler, and its life from queue to end.

QUEUED -> ADMITTED -> STARTING -> RUNNING -> SUCCEEDED | FAILED | CANCELLED
and, when capacity is taken back, RUNNING -> PREEMPTING -> QUEUED with the next attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum

from narf.domain.errors import BadInput, IllegalTransition


class WorkloadKind(StrEnum):
    TRAINING = "training"
    TRIAL = "trial"
    STUDY = "study"  # a driver that asks for trials of its own (Ray Tune)
    REPLICA = "replica"  # one replica of an endpoint
    BATCH_PREDICTION = "batch_prediction"
    DATA = "data"
    NOTEBOOK = "notebook"


class WorkloadState(StrEnum):
    QUEUED = "queued"
    ADMITTED = "admitted"
    STARTING = "starting"
    RUNNING = "running"
    PREEMPTING = "preempting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        return self in FINISHED

    @property
    def holds_capacity(self) -> bool:
        return self in _HOLDING


FINISHED = frozenset({WorkloadState.SUCCEEDED, WorkloadState.FAILED, WorkloadState.CANCELLED})
_HOLDING = frozenset({WorkloadState.ADMITTED, WorkloadState.STARTING, WorkloadState.RUNNING, WorkloadState.PREEMPTING})

_S = WorkloadState
NEXT: dict[WorkloadState, frozenset[WorkloadState]] = {
    _S.QUEUED: frozenset({_S.ADMITTED, _S.FAILED, _S.CANCELLED}),
    _S.ADMITTED: frozenset({_S.STARTING, _S.RUNNING, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.STARTING: frozenset({_S.RUNNING, _S.PREEMPTING, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.RUNNING: frozenset({_S.PREEMPTING, _S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.PREEMPTING: frozenset({_S.QUEUED, _S.SUCCEEDED, _S.FAILED, _S.CANCELLED}),
    _S.SUCCEEDED: frozenset(),
    _S.FAILED: frozenset(),
    _S.CANCELLED: frozenset(),
}


class EndReason(StrEnum):
    """Why an attempt ended. Each knows its sentence, and whether trying again can help."""

    COMPLETED = "completed"
    USER_ERROR = "user_error"  # the program exited non-zero
    KILLED_BY_SIGNAL = "killed_by_signal"  # by a signal nobody here sent
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"
    NODE_LOST = "node_lost"  # the node, its supervisor or its boot is gone
    START_FAILED = "start_failed"  # the platform could not start it
    ENVIRONMENT_FAILED = "environment_failed"  # its packages could not be installed

    @property
    def may_retry(self) -> bool:
        """A preemption is no failure and always goes on; these are failures that are not the user's."""
        return self in {EndReason.NODE_LOST, EndReason.START_FAILED}

    def sentence(self, *, exit_code: int | None = None, detail: str = "") -> str:
        text = {
            EndReason.COMPLETED: "It ended by itself, successfully.",
            EndReason.USER_ERROR: f"The program ended with exit code {exit_code}; its last output says why.",
            EndReason.KILLED_BY_SIGNAL: f"A signal ended the program (exit code {exit_code}).",
            EndReason.OUT_OF_MEMORY: "It used more memory than it asked for and was stopped. Ask for more with --memory.",
            EndReason.TIME_LIMIT: "It reached its time limit and was stopped. Ask for more with --time-limit.",
            EndReason.CANCELLED: "It was cancelled.",
            EndReason.PREEMPTED: "Its capacity was taken back; it goes on by itself when there is room.",
            EndReason.NODE_LOST: "The machine it ran on was lost.",
            EndReason.START_FAILED: "It could not be started.",
            EndReason.ENVIRONMENT_FAILED: "Its Python environment could not be built.",
        }[self]
        return f"{text} {detail}".strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What each replica of a workload needs.

    gpu: whole GPUs, or a fraction below 1 of one. flavor: kind of GPU node, "" for any.
    """

    cpu: float = 1.0
    memory_bytes: int = 0  # 0: no limit asked
    gpu: float = 0.0
    gpu_memory_bytes: int = 0
    flavor: str = ""
    node_selector: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        def refuse(name: str, sentence: str, remedy: str = "Ask for an amount in that range.") -> None:
            raise BadInput(sentence, remedy=remedy, field=f"resources.{name}", code="bad_resources")

        if not 0 < self.cpu <= 4096:
            refuse("cpu", f"cpu must be more than 0 and at most 4096, not {self.cpu:g}.")
        if not 0 <= self.memory_bytes <= 1 << 50:
            refuse("memory_bytes", f"memory must be between 0 and 1 PiB, not {self.memory_bytes} bytes.")
        if not 0 <= self.gpu <= 4096:
            refuse("gpu", f"gpu must be between 0 and 4096, not {self.gpu:g}.")
        if 0 < self.gpu < 0.01:
            refuse("gpu", f"The smallest part of a GPU is 0.01, not {self.gpu:g}.", "Ask for more.")
        if not 0 <= self.gpu_memory_bytes <= 1 << 50:
            refuse("gpu_memory_bytes", f"GPU memory must be between 0 and 1 PiB, not {self.gpu_memory_bytes} bytes.")
        if self.gpu_memory_bytes and not self.gpu:
            refuse("gpu_memory_bytes", "It asks for GPU memory and for no GPU.", "Ask for a GPU too, or leave the memory out.")
        if self.gpu > 1 and self.gpu != int(self.gpu):
            refuse("gpu", f"More than one GPU is asked for in whole numbers, not {self.gpu:g}.", "Ask for a whole number.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What a workload executes: `python SCRIPT ARGUMENTS` when `script` is set, else `command`.

    snapshot: id of the code snapshot it runs in; None with `working_directory` None is an empty folder.
    secrets: (variable, secret name). data: references such as "digits@v3", fixed to a version at submission.
    requirements: the text of a requirements file its Python environment is built from, "" for the platform's own.
    """

    script: str | None = None
    arguments: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    snapshot: str | None = None
    working_directory: str | None = None
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()
    requirements: str = ""
    python: str | None = None
    hooks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One thing that runs. `version` guards writes: a change made from an older version is dropped.

    parent: what it belongs to, "study:<id>" or "endpoint:<name>"; "" when it stands alone.
    """

    id: str
    project: str
    owner: str
    name: str
    kind: WorkloadKind
    created_at: datetime
    resources: Resources
    program: Program = field(default_factory=Program)
    replicas: int = 1
    priority: int = 0  # -100..100 inside the project
    preemptible: bool = True
    parent: str = ""
    state: WorkloadState = WorkloadState.QUEUED
    attempt: int = 1
    failures: int = 0  # attempts that failed for no fault of the user's
    run_id: str | None = None
    time_limit_seconds: float | None = None
    max_retries: int = 3
    webhook: str = ""
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    exit_code: int | None = None
    detail: str = ""
    cancel_requested: bool = False
    used_seconds: float = 0.0  # run time of all attempts that have ended
    version: int = 0
    labels: tuple[tuple[str, str], ...] = ()

    @property
    def job_id(self) -> str:
        """The job of the current attempt."""
        return f"{self.id}.{self.attempt}"

    def to(self, state: WorkloadState) -> Workload:
        """This workload in `state`.

        Raises:
            IllegalTransition: `state` does not follow the current one.
        """
        if state not in NEXT[self.state]:
            raise IllegalTransition(f"Workload {self.id}", self.state, state)
        attempt = self.attempt + 1 if state is WorkloadState.QUEUED else self.attempt
        return replace(self, state=state, attempt=attempt)

    def sentence(self) -> str:
        """The state, and the reason for it, as a person reads it."""
        if self.end_reason is not None and self.state is not WorkloadState.RUNNING:
            return self.end_reason.sentence(exit_code=self.exit_code, detail=self.detail)
        return _SENTENCES[self.state]


_SENTENCES = {
    WorkloadState.QUEUED: "It waits for capacity.",
    WorkloadState.ADMITTED: "It has its capacity and is about to start.",
    WorkloadState.STARTING: "It is starting.",
    WorkloadState.RUNNING: "It runs.",
    WorkloadState.PREEMPTING: "Its capacity is being taken back; it saves its state and will go on.",
    WorkloadState.SUCCEEDED: "It ended successfully.",
    WorkloadState.FAILED: "It failed.",
    WorkloadState.CANCELLED: "It was cancelled.",
}
