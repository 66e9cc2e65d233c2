"""What the driver of the Ray engine gives its actors."""

from __future__ import annotations

from narf.tuning import ray_driver

SPEC = {
    "id": "st-1",
    "project": "default",
    "script": "train.py",
    "arguments": [],
    "bindings": {},
    "metric": "loss",
    "sampler": "tpe",
    "sampler_options": {},
    "pruner": "none",
    "cpu": 1.0,
    "gpu": 0.0,
    "memory_bytes": 0,
    "trial_time_limit_seconds": None,
    "environment": {"MINE": "1"},
}


def test_actors_on_the_platforms_machine_use_its_warm_processes(tmp_path, monkeypatch):
    job = tmp_path / "home" / "jobs" / "wl-1.1"
    job.mkdir(parents=True)
    monkeypatch.setenv("NARF_JOB_DIR", str(job))
    assert ray_driver.plan_of(SPEC, "http://here", "t", job)["run"] == "", "nothing runs there"
    run = tmp_path / "home" / "run"
    run.mkdir()
    (run / "server.json").write_text("{}")
    assert ray_driver.plan_of(SPEC, "http://here", "t", job)["run"] == str(run)
    monkeypatch.delenv("NARF_JOB_DIR")
    assert ray_driver.plan_of(SPEC, "http://here", "t", job)["run"] == ""


def test_what_the_platform_gave_the_driver_is_not_passed_on_to_trials(tmp_path, monkeypatch):
    started_with = {"PATH": "/bin", "NARF_TOKEN": "t", "MLFLOW_RUN_ID": "r", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "MINE": "1"}
    monkeypatch.setattr(ray_driver, "_STARTED_WITH", started_with)
    assert ray_driver.plan_of(SPEC, "http://here", "t", tmp_path)["base_environment"] == {"PATH": "/bin"}
