"""Drives a study with Ray Tune: `python -m narf.tuning.ray_driver STUDY`, itself a workload of the platform.

Ray places the trials, in actors that are used again; its schedulers stop and perturb them. Our own proposer chooses the points and
the platform keeps the record, so that a study of this engine looks like any other.
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

_STARTED_WITH = dict(os.environ)
# Ray Tune writes every result in three formats and its whole state every few seconds; the record is ours.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
os.environ.setdefault("TUNE_RESULT_BUFFER_LENGTH", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Tune's actors have variables of their own, so workers that are started ahead are never theirs: two imports of Ray for nothing.
os.environ.setdefault("RAY_prestart_worker_first_driver", "0")

from narf.backends.local.program import THREAD_VARIABLES  # noqa: E402 - the variables come first

_PLATFORM = ("NARF_", "MLFLOW_")


def main(study_id: str) -> int:
    from narf.client.connection import connect

    with connect() as connection:
        spec = connection.post(f"/api/v1/studies/{study_id}/driver/begin")
        plan = plan_of(spec, connection.url, connection.token, Path.cwd())
        run(spec, plan)
    return 0


def home_of(study_id: str) -> Path:
    """Where actors of a study keep their jobs on a node."""
    return Path(tempfile.gettempdir()) / f"narf-ray-{os.getuid()}-{study_id}"


def plan_of(spec: dict[str, Any], url: str, token: str, code: Path) -> dict[str, Any]:
    """What every actor is given."""
    population = dict(spec["sampler_options"])
    is_pbt = spec["sampler"] == "pbt"
    segment = json.dumps({"metric": spec["metric"], "reports": int(population.get("reports", 1))}) if is_pbt else ""
    given = {*spec["environment"], *THREAD_VARIABLES, "PYTHONUNBUFFERED"}  # by the platform, to this job
    own = {name: value for name, value in _STARTED_WITH.items() if not name.startswith(_PLATFORM) and name not in given}
    return {
        **{name: spec[name] for name in ("project", "script", "arguments", "bindings", "metric", "trial_time_limit_seconds")},
        "study": spec["id"],
        "url": url,
        "token": token,
        "cpu": spec["cpu"],
        "gpu": spec["gpu"],
        "memory_bytes": spec["memory_bytes"],
        "environment": spec["environment"],
        "base_environment": own,
        "run": _zygotes(),
        "segment": segment,
        "stepwise": spec["pruner"] != "none",
        "code": _packed(code),
    }


def _zygotes() -> str:
    """Where the platform of this machine has its warm processes, for actors on the same machine; "" when it has none here."""
    job = os.environ.get("NARF_JOB_DIR", "")
    run = Path(job).parents[1] / "run" if job else Path()
    return str(run) if (run / "server.json").exists() else ""


def run(spec: dict[str, Any], plan: dict[str, Any]) -> None:
    """The whole search."""
    import ray
    from ray import tune

    from narf.tuning.ray_search import RecordedSearch, mutations, scheduler_of
    from narf.tuning.ray_trial import WarmTrial

    left = _trials_left(spec)
    if left == 0:
        return
    address = os.environ.get("RAY_ADDRESS")
    local: dict[str, Any] = {} if address else {"num_cpus": max(1, round(spec["cpu"] * spec["parallel"])), "include_dashboard": False}
    ray.init(address=address, log_to_driver=True, logging_level="WARNING", configure_logging=False, **local)
    is_pbt = spec["sampler"] == "pbt"
    mode = "min" if spec["direction"] == "minimize" else "max"
    search = None if is_pbt else RecordedSearch(spec, metric=spec["metric"], mode=mode)
    population = int(dict(spec["sampler_options"]).get("population", 8))
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(WarmTrial, plan=plan), {"cpu": spec["cpu"], "gpu": spec["gpu"]}),
        param_space=mutations(spec["space"]) if is_pbt else {},
        tune_config=tune.TuneConfig(
            metric=spec["metric"],
            mode=mode,
            search_alg=search,
            scheduler=scheduler_of(spec),
            num_samples=min(left, population) if is_pbt else left,
            max_concurrent_trials=spec["parallel"],
            time_budget_s=spec["seconds_left"],
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name=spec["id"],
            storage_path=tempfile.mkdtemp(prefix="narf-tune-"),
            stop={"training_iteration": max(1, left // population)} if is_pbt else None,
            failure_config=tune.FailureConfig(max_failures=0),
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
            verbose=0,
        ),
    )
    # It looks for the files of the loggers that are off, and warns of each trial that it finds none.
    logging.getLogger("ray.tune.analysis.experiment_analysis").setLevel(logging.ERROR)
    began = time.monotonic()
    try:
        tuner.fit()
        print(f"narf: the search took {time.monotonic() - began:.2f} s", flush=True)  # noqa: T201 - the driver's output
    finally:
        ray.shutdown()
        shutil.rmtree(home_of(spec["id"]), ignore_errors=True)


def _trials_left(spec: dict[str, Any]) -> int:
    done = sum(trial["state"] != "cancelled" for trial in spec["trials"])
    return -1 if spec["budget"]["trials"] is None else max(0, spec["budget"]["trials"] - done)


def _packed(folder: Path) -> bytes:
    """The code as a tar file, for nodes that do not see this folder."""
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.add(folder, arcname=".")
    return body.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
