"""Traces: what was asked of a cluster and when, read from the formats in which they are published.

A row that cannot be read is left out and named in `Trace.problems`; the rest goes on.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from narf.domain.errors import BadInput
from narf.scheduling.requests import Node
from narf.scheduling.snapshot import WHOLE

MOST_PROBLEMS_KEPT = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """One job of a trace. Times in seconds; gpus, cpu and memory are of the whole job.

    similar: what a history of like jobs is kept by, the nearest first.
    """

    id: str
    submitted_at: float
    duration: float
    gpus: float
    cpu: float = 0.0
    memory_bytes: int = 0
    flavors: tuple[str, ...] = ()
    project: str = "all"
    priority: int = 0
    similar: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The jobs in the order of submission, and what was wrong with the rows left out."""

    jobs: Sequence[TraceJob]
    problems: Sequence[str] = field(default=())
    broken_rows: int = 0

    def between(self, start: float, end: float) -> Trace:
        """The jobs submitted in [start, end)."""
        kept = [job for job in self.jobs if start <= job.submitted_at < end]
        return Trace(jobs=kept, problems=self.problems, broken_rows=self.broken_rows)


def read_trace(path: Path, format: str = "", *, projects: bool = False) -> Trace:
    """The trace in `path` (CSV, gzipped or not). Without a format it is known by its columns.

    Args:
        projects: keep the projects (tenants, virtual clusters) of the trace apart; else all jobs are in one.
    Raises:
        BadInput: the file cannot be read, its format is not known, or it has no usable row.
    """
    if format and format not in _READERS:
        raise BadInput(f"There is no trace format {format!r}.", remedy=f"Use one of {', '.join(_READERS)}.", field="format")
    rows, header = _rows(path)
    format = format or _format_of(header)
    if not format:
        remedy = f"Name it with --format, one of {', '.join(_READERS)}."
        raise BadInput(f"The columns of {path.name} are of no trace format that is known.", remedy=remedy, field="format")
    read = _READERS[format]
    jobs: list[TraceJob] = []
    problems: list[str] = []
    broken = 0
    for line, row in rows:
        try:
            job = read(row, line)
            _check(job)
        except (KeyError, ValueError, TypeError) as error:
            broken += 1
            if len(problems) < MOST_PROBLEMS_KEPT:
                what = f"column {error} is missing" if isinstance(error, KeyError) else str(error)
                problems.append(f"Line {line} of {path.name} is left out: {what}. Correct or delete it.")
            continue
        jobs.append(job)
    if not jobs:
        first = problems[0] if problems else "It has no rows."
        raise BadInput(f"{path.name} has no job that can be replayed. {first}", remedy="Check --format.", field="file")
    if not projects:
        jobs = [_in_one_project(job) for job in jobs]
    jobs.sort(key=lambda job: job.submitted_at)  # stable: equal times stay in the order of the file
    return Trace(jobs=jobs, problems=problems, broken_rows=broken)


def shape_of(gpus: float, largest: int) -> tuple[int, int]:
    """Replicas and thousandths of GPU for each: what does not fit a node is a gang of the largest equal parts."""
    if gpus <= max(1, largest) or gpus != int(gpus):
        return 1, round(gpus * WHOLE)
    each = next(part for part in range(largest, 0, -1) if int(gpus) % part == 0)
    return int(gpus) // each, each * WHOLE


def read_nodes(path: Path) -> list[Node]:
    """The nodes in `path`, a CSV with the columns of the openb trace: sn, cpu_milli, memory_mib, gpu and model.

    Raises:
        BadInput: the file cannot be read, or one of its rows is no node.
    """
    rows, header = _rows(path)
    if missing := {"sn", "cpu_milli", "memory_mib", "gpu"} - set(header):
        remedy = "Give sn, cpu_milli, memory_mib, gpu and, for flavors, model."
        raise BadInput(f"{path.name} lacks the columns {', '.join(sorted(missing))}.", remedy=remedy, field="nodes")
    nodes = []
    for line, row in rows:
        try:
            size = int(row["cpu_milli"]) / 1000, int(row["memory_mib"]) << 20, int(row["gpu"] or 0)
            if not (0 < size[0] <= 100_000 and 0 < size[1] < 1 << 60 and 0 <= size[2] <= 64):
                raise ValueError("a size makes no sense")
        except (ValueError, TypeError) as error:
            raise BadInput(f"Line {line} of {path.name} is no node: {error}.", remedy="Correct or delete it.", field="nodes") from error
        nodes.append(Node(name=row["sn"], cpu=size[0], memory_bytes=size[1], gpus=size[2], flavor=row.get("model") or ""))
    if not nodes:
        raise BadInput(f"{path.name} has no node.", remedy="Give one a row.", field="nodes")
    return nodes


def _rows(path: Path) -> tuple[Iterator[tuple[int, dict[str, str]]], list[str]]:
    try:
        raw = path.read_bytes()
        text = (gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw).decode("utf-8-sig")
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.", remedy="Check the path.", field="file") from error
    except (EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is no CSV file: {error}.", remedy="Give a CSV file, gzipped or not.", field="file") from error
    comments = 0
    lines = text.splitlines(keepends=True)
    while comments < len(lines) and lines[comments].startswith("#"):
        comments += 1
    reader = csv.DictReader(io.StringIO("".join(lines[comments:])))
    header = list(reader.fieldnames or [])
    return ((comments + 1 + number, row) for number, row in enumerate(reader, start=1)), header


def _format_of(header: Sequence[str]) -> str:
    known: Mapping[str, set[str]] = {
        "helios": {"submit_time", "num_chips", "duration_s"},
        "muri": {"num_gpu", "iterations", "iteration_time"},
        "openb": {"cpu_milli", "num_gpu", "gpu_milli"},
        "philly": {"timestamp", "duration", "num_gpus"},
        "narf": {"submitted_at", "duration_seconds", "gpus"},
    }
    return next((name for name, columns in known.items() if columns <= set(header)), "")


def _check(job: TraceJob) -> None:
    if not 0 < job.duration < 1e10:
        raise ValueError(f"a duration of {job.duration:g} s makes no sense")
    if not 0 <= job.gpus <= 100_000:
        raise ValueError(f"{job.gpus:g} GPUs make no sense")
    if not abs(job.submitted_at) < 1e12:
        raise ValueError(f"a submission at {job.submitted_at:g} s makes no sense")


def _in_one_project(job: TraceJob) -> TraceJob:
    return replace(job, project="all")


def _helios(row: Mapping[str, str], line: int) -> TraceJob:
    user, gpus = row["user"], int(row["num_chips"])
    return TraceJob(
        id=row["job_id"], submitted_at=int(row["submit_time"]) / 1e6, duration=float(row["duration_s"]), gpus=gpus,
        project=row.get("tenant") or "all", similar=(f"{user}/{gpus}", user, f"/{gpus}"),
    )  # fmt: skip


def _philly(row: Mapping[str, str], line: int) -> TraceJob:
    gpus, cluster = int(row["num_gpus"]), row["cluster"]
    submitted = datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp()
    return TraceJob(
        id=f"philly-{line}", submitted_at=submitted, duration=float(row["duration"]), gpus=gpus,
        project=cluster, similar=(f"{cluster}/{gpus}", cluster, f"/{gpus}"),
    )  # fmt: skip


def _muri(row: Mapping[str, str], line: int) -> TraceJob:
    """Times are in milliseconds; the length is iterations times the time of one."""
    gpus, model = int(row["num_gpu"]), row["model_name"]
    seconds = int(row["iterations"]) * float(row["iteration_time"]) / 1000
    return TraceJob(
        id=row["job_id"], submitted_at=float(row["submit_time"]) / 1000, duration=seconds, gpus=gpus,
        similar=(f"{model}/{gpus}", model, f"/{gpus}"),
    )  # fmt: skip


def _openb(row: Mapping[str, str], line: int) -> TraceJob:
    count, milli = int(row["num_gpu"]), int(row["gpu_milli"] or 0)
    created = float(row.get("creation_time") or 0)
    deleted = float(row.get("deletion_time") or 0)
    return TraceJob(
        id=row["name"], submitted_at=created, duration=max(1.0, deleted - created), gpus=count if count > 1 else milli / 1000 * count,
        cpu=int(row["cpu_milli"]) / 1000, memory_bytes=int(row["memory_mib"]) << 20,
        flavors=tuple(flavor for flavor in (row.get("gpu_spec") or "").split("|") if flavor),
        project=row.get("qos") or "all", similar=(row.get("qos") or "all",),
    )  # fmt: skip


def _narf(row: Mapping[str, str], line: int) -> TraceJob:
    user, gpus = row.get("user") or "", float(row["gpus"])
    flavor = row.get("flavor") or ""
    return TraceJob(
        id=row.get("id") or f"job-{line}", submitted_at=float(row["submitted_at"]), duration=float(row["duration_seconds"]),
        gpus=gpus, cpu=float(row.get("cpu") or 0), memory_bytes=int(row.get("memory_bytes") or 0),
        flavors=(flavor,) if flavor else (), project=row.get("project") or "all", priority=int(row.get("priority") or 0),
        similar=(f"{user}/{row.get('script') or ''}/{gpus:g}", f"{user}/{gpus:g}", user, f"/{gpus:g}"),
    )  # fmt: skip


_READERS: Mapping[str, Callable[[Mapping[str, str], int], TraceJob]] = {
    "helios": _helios, "philly": _philly, "muri": _muri, "openb": _openb, "narf": _narf,
}  # fmt: skip
FORMATS = tuple(_READERS)
