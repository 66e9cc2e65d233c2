"""Scripts as people write them, with modules and configuration files beside: what is found by reading, and that the values of a trial get there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from narf.tuning.binding import bind
from narf.tuning.discovery.dry_run import confirm
from narf.tuning.discovery.static import discover_statically

PROJECTS = Path(__file__).parent / "projects"
EXPECTED = json.loads((PROJECTS / "expected.json").read_text())


def leaves(body, prefix=""):
    for key, value in body.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def run_trial(folder, found, given, tmp_path):
    arguments, injected = bind({item.name: item.passing for item in found.tunable}, given)
    launcher = Path(sys.modules["narf"].__path__[0]) / "training" / "launcher.py"
    environment = {
        "PATH": os.environ["PATH"],
        "NARF_SPOOL": str(tmp_path / "spool"),
        "NARF_PARAMS": json.dumps(injected),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    (tmp_path / "spool").mkdir()
    command = [sys.executable, str(launcher), str(folder / "train.py"), *found.prefix, *arguments]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.mark.parametrize("project", sorted(EXPECTED))
def test_what_a_reader_would_list_is_found(project):
    found = discover_statically(PROJECTS / project / "train.py")
    defaults = {item.name: item.default for item in found.tunable}
    assert defaults == EXPECTED[project]["defaults"]
    assert EXPECTED[project]["metric"] in [metric.name for metric in found.metrics]


@pytest.mark.parametrize("project", sorted(EXPECTED))
def test_the_values_of_a_trial_get_there_and_the_folder_stays_as_it_is(project, tmp_path):
    folder = tmp_path / "code"
    shutil.copytree(PROJECTS / project, folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    found = discover_statically(folder / "train.py")
    given = EXPECTED[project]["given"]
    ended = run_trial(folder, found, given, tmp_path)
    printed = dict(leaves(json.loads(ended.stdout.splitlines()[0])))
    for name, value in given.items():
        last = name.rpartition(".")[2]
        shown = [printed[name]] if name in printed else [seen for key, seen in printed.items() if key.rpartition(".")[2] == last]
        assert shown == [value], f"{name}: the script has {shown}"
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "project", ["config_yaml", "dataclass_parser", "json_defaults", "omegaconf_dotlist", "optparse_options", "sub_commands"]
)
def test_a_dry_run_confirms_what_was_read(project):
    script = PROJECTS / project / "train.py"
    found = confirm(script, (), discover_statically(script), time_limit_seconds=60)
    assert {item.name: item.default for item in found.tunable} == EXPECTED[project]["defaults"]
    assert all(item.confirmed for item in found.tunable) and found.notes == ()


def test_settings_in_files_of_python_that_are_run_are_found_by_a_dry_run_and_changed_where_they_stand(tmp_path):
    folder = tmp_path / "code"
    shutil.copytree(PROJECTS / "config_python", folder, ignore=shutil.ignore_patterns("__pycache__"))
    found = confirm(folder / "train.py", (), discover_statically(folder / "train.py"), time_limit_seconds=60)
    flags = {item.name: item.passing.flag for item in found.tunable}
    assert flags == {
        "model.channels": "configs/tiny.py:model.channels",
        "model.head.dropout_ratio": "configs/tiny.py:model.head.dropout_ratio",
        "model.head.label_smooth_val": "configs/tiny.py:model.head.label_smooth_val",
        "data.samples_per_gpu": "configs/tiny.py:data.samples_per_gpu",
        "optimizer.lr": "configs/tiny.py:optimizer.lr",  # and not the one that it replaces
        "optimizer.momentum": "configs/base/schedule.py:optimizer.momentum",
    }
    given = {"model.channels": 8, "model.head.dropout_ratio": 0.5, "optimizer.lr": 0.25, "optimizer.momentum": 0.5}
    ended = run_trial(folder, found, given, tmp_path)
    printed = dict(leaves(json.loads(ended.stdout.splitlines()[0])))
    assert {name: printed[name] for name in given} == given
