"""What a run needs to be understood and repeated: code version, packages, machine, seeds, allowed environment; and its load over time."""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
from types import ModuleType
from typing import Any

from narf.training import parameters
from narf.training import recorder as recorders
from narf.training.hooks import guarded
from narf.training.imports import when_imported

_ALLOWED = ("CUDA_VISIBLE_DEVICES", "PYTHONHASHSEED", "PYTHONPATH", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "PL_GLOBAL_SEED", "WORLD_SIZE")
_ALLOWED_PREFIXES = ("OMP_", "MKL_", "NCCL_", "TORCH_", "PYTORCH_", "SLURM_JOB_", "NARF_DATA_")
_LONGEST_DIFF = 5_000_000
_SAMPLE_SECONDS = 10.0


def install() -> None:
    recorder = recorders.current()
    if recorder is None or os.environ.get("RANK", "0") != "0" or os.environ.get("LOCAL_RANK", "0") != "0":
        return
    recorder.phase("starting")
    thread = threading.Thread(target=_gather, args=(recorder, os.getcwd()), name="narf-facts", daemon=True)
    thread.start()
    stop = threading.Event()
    threading.Thread(target=_watch, args=(recorder, stop), name="narf-vitals", daemon=True).start()
    recorder.before_end.append(functools.partial(_finish, recorder, thread, stop))
    _watch_seeds(recorder)


def prepare() -> None:
    """Look up, before a fork, what is the same in every fork."""
    import platform

    from narf.training import vitals  # noqa: F401 - loaded for the forks

    platform.platform()  # keeps what it found
    _cpu_name()
    _listed(_places())


@guarded("facts")
def _finish(recorder: recorders.Recorder, thread: threading.Thread, stop: threading.Event) -> None:
    stop.set()
    thread.join(2.0)
    if unused := parameters.unused():
        recorder.tag("narf.unused_parameters", json.dumps(unused))  # the study says it
    for name in unused if not parameters.nothing_arrived() else ():  # else the launcher says it once for all, as the last line
        recorder.report(f"parameter {name}", f"narf: the parameter {name!r} found no place in the script and changed nothing")


@guarded("facts")
def _gather(recorder: recorders.Recorder, folder: str) -> None:
    """In a thread: nothing of this may hold up the script."""
    import platform

    from narf.training.vitals import gpus

    tags = {
        "python.version": platform.python_version(),
        "os": platform.platform(),
        "machine.name": platform.node(),
        "machine.cpu": _cpu_name(),
        "machine.cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "command": " ".join(sys.argv[:1]),
    }
    found = gpus()
    if found is not None:
        tags["gpu.driver"] = found.driver
        tags["gpu.names"] = ", ".join(found.names)
    for name, value in tags.items():
        recorder.tag(name, value)
    environment = {name: value for name, value in sorted(os.environ.items()) if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)}
    recorder.artifact_bytes(json.dumps(environment, indent=1).encode(), "environment/variables.json")
    recorder.artifact_bytes(_listed(_places()), "environment/packages.txt")
    _git(recorder, folder)


def _places() -> tuple[tuple[str, int], ...]:
    """The folders of the path that hold distributions, each with when it was changed."""
    found = []
    for folder in sys.path:
        try:
            place = (os.path.abspath(folder), os.stat(folder or ".").st_mtime_ns)
            if _installed_in(*place):
                found.append(place)
        except OSError:
            continue
    return tuple(found)


@functools.lru_cache(maxsize=8)
def _listed(places: tuple[tuple[str, int], ...]) -> bytes:
    """A line for each distribution (`name==version`), from the names of their folders: reading them all takes a tenth of a second.

    In a fork it is there already: to sort the names anew is to copy the pages they stand on.
    """
    names = frozenset[str]().union(*(_installed_in(*place) for place in places))
    return "".join(f"{name}\n" for name in sorted(names, key=str.lower)).encode()


@functools.lru_cache(maxsize=64)
def _installed_in(folder: str, _changed: int) -> frozenset[str]:
    found = set()
    for name in os.listdir(folder):
        if name.endswith(".dist-info"):
            project, _, version = name[: -len(".dist-info")].partition("-")
            found.add(f"{project.replace('_', '-')}=={version}")
    return frozenset(found)


def _is_in_repository(folder: str) -> bool:
    """Whether `folder` lies in a checkout. A job's folder is its own world, though its platform may live inside of a repository."""
    top = os.environ.get("NARF_JOB_DIR", "")
    while True:
        if os.path.exists(os.path.join(folder, ".git")):
            return True
        above = os.path.dirname(folder)
        if above == folder or folder == top:
            return False
        folder = above


def _git(recorder: recorders.Recorder, folder: str) -> None:
    if not _is_in_repository(folder):
        return  # without starting a process
    commit = _output(folder, "rev-parse", "HEAD")
    if commit is None:
        return
    recorder.tag("mlflow.source.git.commit", commit.decode().strip())
    branch = _output(folder, "rev-parse", "--abbrev-ref", "HEAD")
    if branch:
        recorder.tag("git.branch", branch.decode().strip())
    remote = _output(folder, "config", "--get", "remote.origin.url")
    if remote:
        recorder.tag("mlflow.source.git.repoURL", _without_password(remote.decode().strip()))
    diff = _output(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or b""
    recorder.tag("git.dirty", "true" if diff else "false")
    if diff:
        recorder.artifact_bytes(diff[:_LONGEST_DIFF], "code/uncommitted.diff")


def _output(folder: str, *arguments: str) -> bytes | None:
    import subprocess

    try:
        done = subprocess.run(
            ["git", "-C", folder, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout if done.returncode == 0 else None


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}" if separator else url


@functools.lru_cache(maxsize=1)
def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return ""
    return ""


@guarded("facts")
def _watch(recorder: recorders.Recorder, stop: threading.Event) -> None:
    """Load over time, as metrics `system/...` whose step is the seconds since the start."""
    from narf.training.vitals import Vitals

    vitals = Vitals(os.getpid())
    wait = 1.0
    while not stop.wait(wait):
        values = vitals.sample()
        before = recorder.step
        recorder.log(values, int(vitals.seconds()))
        recorder.step = before
        wait = _SAMPLE_SECONDS


def _watch_seeds(recorder: recorders.Recorder) -> None:
    """The first seed that each generator is given."""

    def watch(owner: Any, name: str, tag: str) -> None:
        original = getattr(owner, name)
        process = os.getpid()

        @functools.wraps(original)
        def seed(*arguments: Any, **named: Any) -> Any:
            # Loaders seed their workers, which are forks: those are no seeds of the run.
            if os.getpid() == process and tag not in recorder.tags and (arguments or named):
                recorder.tag(tag, next(iter((*arguments, *named.values()))))
            return original(*arguments, **named)

        setattr(owner, name, seed)

    def patch(tag: str, name: str, module: ModuleType) -> None:
        watch(module, name, tag)

    when_imported("random", functools.partial(patch, "seed.python", "seed"))
    when_imported("numpy.random", functools.partial(patch, "seed.numpy", "seed"))
    when_imported("torch", functools.partial(patch, "seed.torch", "manual_seed"))
