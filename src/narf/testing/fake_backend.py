"""A backend in memory: jobs start at once and end when the test says so, or as true, false, echo and sleep do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from narf.backends.protocol import Job, JobPhase, JobStatus, LogChunk, Node
from narf.domain.workload import EndReason


@dataclass(slots=True)
class _Entry:
    job: Job
    status: JobStatus
    output: bytes = b""


class FakeBackend:
    """Runs nothing. A job whose command is true, false or echo has ended when it is first observed; any other
    runs until `finish`, `lose` or a cancel.

    Args:
        nodes: what `capacity` answers; assign to `nodes` to let nodes come and go.
        now: the clock for start and end.
        starts_at_once: false leaves jobs STARTING until `start`.
    """

    name = "fake"

    def __init__(
        self,
        nodes: Sequence[Node] = (Node(name="fake-0", cpu=64.0, memory_bytes=256 << 30, gpus=8),),
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        starts_at_once: bool = True,
    ) -> None:
        self.nodes = list(nodes)
        self.submitted: list[Job] = []  # each job once, in order
        self._now, self._starts_at_once = now, starts_at_once
        self._entries: dict[str, _Entry] = {}
        self.undelivered: set[str] = set()  # jobs whose reports are still on their way

    # -- the protocol

    def submit(self, job: Job) -> None:
        if job.id in self._entries:
            return
        self.submitted.append(job)
        self._entries[job.id] = _Entry(job, JobStatus(id=job.id, phase=JobPhase.STARTING))
        if self._starts_at_once:
            self.start(job.id)

    def observe(self, job_ids: Sequence[str]) -> list[JobStatus]:
        return [
            self._entries[job_id].status if job_id in self._entries else JobStatus(id=job_id, phase=JobPhase.UNKNOWN) for job_id in job_ids
        ]

    def cancel(self, job_id: str, reason: EndReason) -> None:
        if job_id in self._entries:
            self._end(job_id, reason, exit_code=-15)

    def logs(self, job_id: str, offset: int, limit: int) -> LogChunk:
        entry = self._entries.get(job_id)
        if entry is None:
            return LogChunk(offset, b"", True)
        data = entry.output[offset : offset + limit]
        return LogChunk(offset, data, entry.status.phase is JobPhase.ENDED and offset + len(data) >= len(entry.output))

    def is_delivered(self, job_id: str) -> bool:
        return job_id not in self.undelivered

    def capacity(self) -> list[Node]:
        return list(self.nodes)

    def forget(self, job_id: str) -> None:
        self._entries.pop(job_id, None)

    def close(self) -> None:
        """Nothing is held."""

    # -- what a test makes happen

    def start(self, job_id: str) -> None:
        entry = self._entries[job_id]
        entry.status = replace(entry.status, phase=JobPhase.RUNNING, started_at=self._now())
        program, *arguments = entry.job.command or ("",)
        if program == "echo":
            ranks = range(len(entry.job.replicas))
            for label in [f"[{rank}] " for rank in ranks] if len(ranks) > 1 else [""]:
                self.print(job_id, f"{label}{' '.join(arguments)}\n".encode())
        if program in {"echo", "true", "false"}:
            self.finish(job_id, exit_code=int(program == "false"))

    def print(self, job_id: str, output: bytes) -> None:
        self._entries[job_id].output += output

    def finish(self, job_id: str, *, exit_code: int = 0, reason: EndReason | None = None, detail: str = "") -> None:
        natural = EndReason.USER_ERROR if exit_code > 0 else EndReason.KILLED_BY_SIGNAL if exit_code < 0 else EndReason.COMPLETED
        self._end(job_id, reason or natural, exit_code=exit_code, detail=detail)

    def lose(self, node: str) -> None:
        """`node` is gone, and with it every job that has a replica there."""
        self.nodes = [other for other in self.nodes if other.name != node]
        for job_id, entry in self._entries.items():
            if any(replica.node == node for replica in entry.job.replicas):
                self._end(job_id, EndReason.NODE_LOST, detail=f"Node {node} was lost.")

    def _end(self, job_id: str, reason: EndReason, *, exit_code: int | None = None, detail: str = "") -> None:
        entry = self._entries[job_id]
        if entry.status.phase is not JobPhase.ENDED:
            entry.status = replace(
                entry.status, phase=JobPhase.ENDED, ended_at=self._now(), reason=reason, exit_code=exit_code, detail=detail
            )
