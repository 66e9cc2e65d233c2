"""Values of a study find their place in an unchanged script."""

from __future__ import annotations

import json

import pytest

from narf.training.parameters import NOTHING_ARRIVED

SCRIPTS = {
    "argparse": (
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float, default=0.1)\n"
        "p.add_argument('--width', type=int, required=True)\np.add_argument('--fast', action='store_true')\na = p.parse_args()\n"
        "print([a.lr, a.width, a.fast])",
        {"lr": 1, "width": 64.0, "fast": True},
        [1.0, 64, True],
    ),
    "argparse with subcommands": (
        "import argparse, sys\nsys.argv = ['x', 'train']\np = argparse.ArgumentParser()\nc = p.add_subparsers()\n"
        "t = c.add_parser('train')\nt.add_argument('--lr', type=float, default=0.1)\na = p.parse_args()\nprint([a.lr])",
        {"lr": 0.5},
        [0.5],
    ),
    "constants": (
        "LR = 1e-3\nLAYERS: int = 2\nNAME = 'adam'\nOTHER = LR * 2\nif __name__ == '__main__':\n    EPOCHS = 3\n"
        "    print([LR, LAYERS, NAME, OTHER, EPOCHS])",
        {"LR": 0.25, "LAYERS": 4.0, "NAME": "sgd", "EPOCHS": 7},
        [0.25, 4, "sgd", 0.5, 7],
    ),
    "a dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass Config:\n    lr: float = 0.1\n    depth: int = 3\nc = Config()\nprint([c.lr, c.depth])",
        {"lr": 0.01},
        [0.01, 3],
    ),
    "a constructor": (
        "class Module:\n    pass\nclass Net(Module):\n    def __init__(self, width, *, lr=0.1):\n        'doc'\n        self.w, self.lr = width, lr\n"
        "n = Net(32, lr=0.3)\nprint([n.w, n.lr])",
        {"width": 128, "lr": 0.7},
        [128, 0.7],
    ),
    "arguments of its own functions and classes": (
        "class Net:\n    def __init__(self, width, depth=2):\n        self.all = [width, depth]\n"
        "def train(net, lr, decay=0.1):\n    print([*net.all, lr, decay])\ntrain(Net(32), 0.5)",
        {"Net.width": 64, "Net.depth": 3, "train.lr": 0.25, "train.decay": 0.75},
        [64, 3, 0.25, 0.75],
    ),
    "what holds if nobody says otherwise": (
        "import sys, os\nLR = float(sys.argv[1]) if len(sys.argv) > 1 else 0.1\nDEPTH = os.environ.get('DEPTH') or 3\nHALF = 1 / 16\n"
        "c = {}\nc.update(clip=1.0)\nc['w'] = 2\nprint([LR, DEPTH, HALF, c['clip'], c['w'], c.get('z', 5)])",
        {"LR": 0.5, "DEPTH": 4, "HALF": 0.25, "c.clip": 2.0, "c.w": 3, "c.z": 6},
        [0.5, 4, 0.25, 2.0, 3, 6],
    ),
    "a module beside it": ("import settings\nprint([settings.LR])", {"LR": 0.125}, [0.125]),
    "click": (
        "import click\n@click.command()\n@click.option('--lr', default=0.1)\n@click.option('--n', type=int, default=1)\n"
        "def main(lr, n):\n    print([lr, n])\nmain()",
        {"lr": 0.5, "n": 4},
        [0.5, 4],
    ),
    "typer": ("import typer\ndef main(lr: float = 0.1, n: int = 1):\n    print([lr, n])\ntyper.run(main)", {"lr": 0.5, "n": 4}, [0.5, 4]),
    "narf.params": (
        "import narf\nprint([narf.params.get('lr', 0.1), narf.params.get('depth', 2)])",
        {"lr": 1},
        [1.0, 2],
    ),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_value_finds_its_place(cold, tmp_path, read_spool, name):
    source, values, printed = SCRIPTS[name]
    (tmp_path / "train.py").write_text(source + "\n")
    (tmp_path / "settings.py").write_text("LR = 0.5\n")
    code, output = cold("train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", NARF_PARAMS=json.dumps(values))
    assert code == 0, output
    assert json.loads(output.splitlines()[0].replace("'", '"').replace("True", "true")) == printed
    assert set(values) <= set(read_spool(tmp_path / "spool").named("param"))


def test_hydra_parameters_are_recorded_and_take_values(cold, tmp_path, read_spool):
    pytest.importorskip("hydra")
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("lr: 0.1\nmodel:\n  width: 8\n")
    (tmp_path / "train.py").write_text(
        "import hydra\n@hydra.main(config_path='conf', config_name='config', version_base=None)\n"
        "def main(cfg):\n    print('GOT', cfg.lr, cfg.model.width)\nmain()\n"
    )
    code, output = cold("train.py", "lr=0.3", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", NARF_PARAMS='{"model.width": 16}')
    assert code == 0, output
    assert "GOT 0.3 16" in output
    assert read_spool(tmp_path / "spool").named("param") == {"model.width": "16", "lr": "0.3"}


def test_a_parameter_without_a_place_is_said(cold, tmp_path, read_spool):
    (tmp_path / "train.py").write_text("print('ran')\n")
    code, output = cold("train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", NARF_PARAMS='{"ghost": 1}')
    assert code == 0
    assert "'ghost' found no place" in output
    assert read_spool(tmp_path / "spool").named("param") == {}


def test_a_trial_of_which_nothing_arrives_fails_for_all_would_be_the_same(cold, tmp_path):
    (tmp_path / "train.py").write_text("LR = 1\nprint('ran')\n")
    code, output = cold("train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", NARF_PARAMS='{"ghost": 1}', NARF_PARAMS_ARE_ALL="1")
    assert code == 1 and output.splitlines()[-1].startswith(f"{NOTHING_ARRIVED}ghost. See what can be searched")
    values = '{"ghost": 1, "LR": 2}'
    code, output = cold("train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / "again", NARF_PARAMS=values, NARF_PARAMS_ARE_ALL="1")
    assert code == 0 and "'ghost' found no place" in output


def test_line_numbers_stay_when_values_are_put_in(cold, tmp_path):
    (tmp_path / "train.py").write_text("LR = 1\n\n\nclass Net(Module if 0 else object):\n    pass\n1 / 0\n")
    _, output = cold("train.py", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", NARF_PARAMS='{"LR": 2}')
    assert 'train.py", line 6, in <module>' in output


def test_secrets_on_the_command_line_are_not_recorded(cold, tmp_path, read_spool):
    (tmp_path / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--api-key')\np.add_argument('--lr', type=float)\np.parse_args()\n"
    )
    code, output = cold("train.py", "--api-key=hunter2", "--lr", "1", cwd=tmp_path, NARF_SPOOL=tmp_path / "spool", SECRET_TOKEN="hunter2")
    assert code == 0, output
    content = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert b"hunter2" not in content
    assert read_spool(tmp_path / "spool").named("param") == {"api_key": "***", "lr": "1.0"}
