"""Static discovery on ways of writing a script that are not those of the examples: what a reader would list, and how a value gets there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from narf.training.spool import read_events, unpack_points
from narf.tuning.binding import bind
from narf.tuning.discovery.static import discover_statically

IDIOMS = Path(__file__).parent / "idioms"
EXPECTED = {name: set(expected) for name, expected in json.loads((IDIOMS / "expected.json").read_text()).items()}
PREFIX = {"argparse_parents": ("train",), "click_nested": ("model", "train"), "lightning_subclass": ("fit",)}


@pytest.mark.parametrize("idiom", sorted(EXPECTED))
def test_what_a_reader_would_list_is_found(idiom):
    found = discover_statically(IDIOMS / f"{idiom}.py")
    assert {parameter.name for parameter in found.tunable} == EXPECTED[idiom]
    assert found.prefix == PREFIX.get(idiom, ()) and found.metrics[0].direction and found.notes == ()


def test_the_options_of_another_sub_command_are_not_those_of_the_one_that_runs():
    script = IDIOMS / "argparse_parents.py"
    named = discover_statically(script, ["evaluate"])
    assert "threshold" in {p.name for p in named.parameters} and "dropout" not in {p.name for p in named.parameters}


@pytest.mark.parametrize(
    ("idiom", "values", "reports"),
    [
        ("config_dict", {"config.lr": 0.5, "config.model.hidden": 8}, ("val_loss", 4.0)),
        ("absl_flags", {"learning_rate": 0.25, "use_bn": False}, ("loss", 0.25)),
        ("click_nested", {"lr": 0.125, "augment": False}, ("accuracy", 0.125)),
        ("function_defaults", {"train.lr": 0.5, "train.batch_size": 8}, ("loss", 0.5)),
        ("namespace", {"args.lr": 0.5}, ("episode_return", 0.5)),
        ("plain_class", {"Config.lr": 0.5}, ("val_loss", 0.5)),
        ("pydantic_settings", {"lr": 0.5, "layers": 2}, ("val_loss", 0.5)),
        ("typer_annotated", {"learning_rate": 0.5, "activation": "gelu"}, ("val_accuracy", 0.5)),
        ("argparse_parents", {"lr": 0.75, "nesterov": True}, ("val_loss", 0.75)),
    ],
)
def test_the_values_of_a_trial_get_there(idiom, values, reports, tmp_path):
    found = discover_statically(IDIOMS / f"{idiom}.py")
    arguments, injected = bind({parameter.name: parameter.passing for parameter in found.tunable}, values)
    launcher = Path(sys.modules["narf"].__path__[0]) / "training" / "launcher.py"
    environment = {"PATH": os.environ["PATH"], "NARF_SPOOL": str(tmp_path), "NARF_PARAMS": json.dumps(injected)}
    command = [sys.executable, str(launcher), str(IDIOMS / f"{idiom}.py"), *found.prefix, *arguments]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    events = next(tmp_path.glob("*.events"))
    (key,) = {event["id"] for event in read_events(events.read_bytes())[0] if event["type"] == "key" and event["name"] == reports[0]}
    points = [point.value for point in unpack_points(events.with_suffix(".points").read_bytes()) if point.key == key]
    assert points[-1] == reports[1]


def test_of_options_that_exclude_each_other_one_is_searched():
    found = {item.name: item for item in discover_statically(IDIOMS / "argparse_parents.py").parameters}
    assert found["nesterov"].proposal is not None and found["amsgrad"].proposal is None
    assert found["amsgrad"].left_alone == "It cannot be given together with nesterov."


def test_what_no_search_should_touch_is_left_alone(tmp_path):
    (tmp_path / "train.py").write_text(
        'LABELS = {"cat": 0, "dog": 1}\nVERSION = "1.0"\n\ndef load(size=3): ...\n\ndef train(lr=0.1): ...\n\ntrain(len(LABELS) / 10)\nx = [load() for _ in range(3)]\n'
    )
    assert discover_statically(tmp_path / "train.py").tunable == ()
