"""A configuration file that is opened shows the values of the trial; the file itself, and every other one, stays as it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest


@pytest.fixture
def run(tmp_path):
    def start(script, values, **files):
        folder = tmp_path / "code"
        folder.mkdir(exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(textwrap.dedent(text))
        (folder / "train.py").write_text(textwrap.dedent(script))
        launcher = Path(sys.modules["narf"].__path__[0]) / "training" / "launcher.py"
        environment = {"PATH": os.environ["PATH"], "NARF_PARAMS": json.dumps(values), "NARF_SPOOL": str(tmp_path / "spool")}
        (tmp_path / "spool").mkdir(exist_ok=True)
        ended = subprocess.run(
            [sys.executable, str(launcher), "train.py"], env=environment, cwd=folder, capture_output=True, text=True, timeout=60
        )
        for name, text in files.items():
            assert (folder / name.replace("__", ".")).read_text() == textwrap.dedent(text)
        return ended.stdout.splitlines(), ended.stderr

    return start


def test_a_truth_in_an_ini_file_is_written_in_its_own_words(run):
    lines, _ = run(
        "print(open('a.ini').read())",
        {"a.ini:model.shuffle": False, "a.ini:model.Bias": True, "a.ini:model.lr": 1e-05},
        a__ini="[other]\nlr = 3\n[model]\nshuffle = Yes\nBias: off\nlr = 0.1  \n",
    )
    assert lines[:6] == ["[other]", "lr = 3", "[model]", "shuffle = No", "Bias: on", "lr = 1e-05"]


def test_toml_keeps_its_comments_and_tables(run):
    lines, _ = run(
        "import tomllib, json; print(json.dumps(tomllib.load(open('a.toml', 'rb'))))",
        {"a.toml:model.lr": 0.5, "a.toml:model.deep.name": "b", "a.toml:top": 2},
        a__toml='top = 1  # first\n[model]\nlr = 0.1\nnames = ["lr"]\n[model.deep]\nname = "a"  # says lr = 3\n',
    )
    assert json.loads(lines[0]) == {"top": 2, "model": {"lr": 0.5, "names": ["lr"], "deep": {"name": "b"}}}


def test_what_is_written_and_other_files_are_left_alone(run):
    lines, _ = run(
        """
        import json, os, pathlib
        pathlib.Path("other").mkdir(exist_ok=True)
        pathlib.Path("other/a.json").write_text('{"lr": 7}')
        print(json.load(open("a.json"))["lr"], json.loads(pathlib.Path("a.json").read_bytes())["lr"], json.load(open("other/a.json"))["lr"])
        with open("b.json", "w") as file:
            json.dump({"lr": 3}, file)
        print(json.load(open("b.json"))["lr"])
        """,
        {"a.json:lr": 0.5},
        a__json='{"lr": 0.1}',
    )
    assert lines == ["0.5 0.5 7", "3"]


def test_a_value_whose_place_is_not_there_is_said(run):
    lines, told = run("print(open('a.json').read())", {"a.json:gone": 0.5}, a__json='{"lr": 0.1}')
    assert json.loads("".join(lines)) == {"lr": 0.1}
    assert "a.json:gone" in told
