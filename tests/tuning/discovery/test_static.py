"""Static discovery on the examples, one for each style, and on scripts that are hard to read."""

import json
import textwrap
from pathlib import Path

import pytest

from narf.domain.errors import BadInput
from narf.tuning.binding import bind
from narf.tuning.discovery.static import discover_statically, refuse_without_arguments
from narf.tuning.planning import Wishes, settle

EXAMPLES = Path(__file__).parents[3] / "examples" / "tuning"

# What a person who reads each script would list: parameters to search over, in order of the file.
EXPECTED = {
    "argparse_style": ["lr", "momentum", "hidden", "activation", "nesterov"],
    "click_style": ["alpha", "penalty", "eta0", "average"],
    "typer_style": ["neighbors", "weights", "power", "scale"],
    "hydra_style": ["model.hidden", "optimizer.lr", "optimizer.weight_decay"],
    "omegaconf_style": ["boosting.learning_rate", "boosting.rounds", "boosting.max_leaf_nodes", "boosting.l2"],
    "dataclass_style": ["bootstrap", "trees", "max_depth", "criterion"],
    "jsonargparse_style": ["C", "gamma", "kernel", "shrinking"],
    "lightning_module": ["lr", "hidden", "dropout", "batch_norm"],
    "lightning_cli": ["model.lr", "model.hidden", "model.dropout", "data.batch_size"],
    "constants": ["LEARNING_RATE", "WEIGHT_DECAY", "BATCH_SIZE"],
}


@pytest.fixture
def discover(tmp_path):
    def run(text, *arguments, **files):
        for name, body in files.items():
            (tmp_path / f"{name}.py").write_text(textwrap.dedent(body))
        (tmp_path / "train.py").write_text(textwrap.dedent(text))
        return discover_statically(tmp_path / "train.py", arguments)

    return run


@pytest.mark.parametrize("style", sorted(EXPECTED))
def test_each_style_gives_the_parameters_that_a_reader_would_list(style):
    found = discover_statically(EXAMPLES / style / "train.py")
    assert [parameter.name for parameter in found.tunable] == EXPECTED[style]
    assert found.metrics[0].direction
    assert found.notes == ()


def test_rates_are_searched_on_a_log_scale_sizes_in_powers_of_two_and_dropout_between_0_and_1():
    found = {parameter.name: parameter.proposal for parameter in discover_statically(EXAMPLES / "lightning_module" / "train.py").tunable}
    assert found["lr"].scale == "log"
    assert found["hidden"].scale == "pow2"
    assert 0 <= found["dropout"].low < found["dropout"].high <= 1


def test_what_argparse_hands_over_as_text_is_put_in_place_instead(discover):
    found = discover("import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', default=0.1)\np.parse_args()")
    bindings = {parameter.name: parameter.passing for parameter in found.tunable}
    assert bind(bindings, {"lr": 0.5}) == ([], {"lr": 0.5})


def test_each_kind_of_flag_is_given_as_the_script_reads_it(discover):
    found = discover("""
        import argparse
        p = argparse.ArgumentParser()
        p.add_argument("--nesterov", action="store_true")
        p.add_argument("--no-bias", dest="bias", action="store_false")
        p.add_argument("--amsgrad", action=argparse.BooleanOptionalAction, default=False)
        p.add_argument("--centered", type=bool, default=False)
        p.add_argument("-w", "--weight-decay", type=float, default=0.0)
        p.add_argument("-m", type=float, default=0.9)
        p.parse_args()
    """)
    bindings = {parameter.name: parameter.passing for parameter in found.parameters}

    def arguments(**values):
        return bind(bindings, values)[0]

    assert arguments(nesterov=True) == ["--nesterov"]
    assert arguments(nesterov=False) == []
    assert arguments(bias=False) == ["--no-bias"]
    assert arguments(bias=True) == []
    assert arguments(amsgrad=False) == ["--no-amsgrad"]
    assert arguments(centered=False) == ["--centered="]
    assert arguments(weight_decay=1e-5) == ["--weight-decay=1e-05"]
    assert arguments(m=0.5) == ["-m", "0.5"]


def test_arguments_declared_in_a_module_beside_the_script_are_found(discover):
    found = discover(
        "from options import read\nread().parse_args()",
        options="import argparse\ndef read():\n  p = argparse.ArgumentParser()\n  p.add_argument('--lr', type=float, default=0.1)\n  return p",
    )
    assert [parameter.name for parameter in found.tunable] == ["lr"]


def test_what_the_user_gives_is_left_to_the_user(discover):
    text = "import argparse\np = argparse.ArgumentParser()\np.add_argument('--lr', type=float)\np.add_argument('--wd', type=float)\np.parse_args()"
    found = discover(text, "--lr", "0.1")
    assert [parameter.name for parameter in found.tunable] == ["wd"]


def test_a_constructor_parameter_that_an_argument_feeds_is_listed_once(discover):
    found = discover("""
        import argparse
        import lightning as L
        class Lit(L.LightningModule):
            def __init__(self, lr=1e-3, hidden=64, dropout=0.1): ...
        p = argparse.ArgumentParser()
        p.add_argument("--lr", type=float, default=1e-3)
        p.add_argument("--size", type=int, default=64)
        a = p.parse_args()
        Lit(a.lr, hidden=a.size)
    """)
    assert sorted(parameter.name for parameter in found.tunable) == ["dropout", "lr", "size"]


def test_constants_that_change_are_no_parameters(discover):
    found = discover("lr = 0.1\nbest = 0.0\ntotal = 0\nfor i in range(3):\n    best = i\n    total += 1\n")
    assert [parameter.name for parameter in found.tunable] == ["lr"]


def test_names_of_metrics_follow_the_stage_that_is_passed(discover):
    found = discover_statically(EXAMPLES / "lightning_module" / "train.py")
    assert [metric.name for metric in found.metrics] == ["val_loss", "val_accuracy", "train_loss", "train_accuracy"]


def test_the_monitored_metric_comes_first_with_its_mode(discover):
    found = discover("""
        from lightning.pytorch.callbacks import ModelCheckpoint
        ModelCheckpoint(monitor="val_quality", mode="max")
        class M:
            def f(self): self.log("val_loss", 1)
    """)
    assert (found.metrics[0].name, found.metrics[0].direction) == ("val_quality", "maximize")


def test_a_typer_application_of_several_commands_names_the_one_that_trains(discover):
    found = discover("""
        import typer
        app = typer.Typer()
        @app.command()
        def train(lr: float = 0.1, fast: bool = False): ...
        @app.command()
        def export(level: int = 3): ...
        app()
    """)
    assert found.prefix == ("train",)
    assert [parameter.name for parameter in found.tunable] == ["lr"]


def test_a_script_without_parameters_gives_an_empty_list(discover):
    assert discover("print('hello')").parameters == ()


@pytest.mark.parametrize(("text", "says"), [("def (:\n", "not a Python script, line 1"), ("\0", "not a Python script")])
def test_what_is_not_python_is_refused(discover, text, says):
    with pytest.raises(BadInput, match=says):
        discover(text)


def test_a_missing_script_is_refused(tmp_path):
    with pytest.raises(BadInput, match="There is no file"):
        discover_statically(tmp_path / "nothing.py")


def test_the_width_of_a_transformer_stays_a_multiple_of_its_heads(discover):
    small = {item.name: item for item in discover("n_head = 2\nd_model = 16\nn_layer = 3\nuse(n_head, d_model, n_layer)\n").tunable}
    assert small["n_head"].proposal.to_text() == "1..8 pow2" and small["d_model"].proposal.to_text() == "8..64 pow2"
    large = {item.name: item for item in discover("num_heads = 12\nhidden_size = 768\nuse(num_heads, hidden_size)\n").parameters}
    assert large["hidden_size"].proposal.to_text() == "192..3072 step 24" and large["num_heads"].proposal.choices == (
        1,
        2,
        3,
        4,
        6,
        8,
        12,
        24,
    )


def test_shares_begin_above_nothing(discover):
    found = {
        item.name: item.proposal
        for item in discover(
            "max_features = 0.5\ncontamination = 0.05\nsubsample = 0.8\nuse(max_features, contamination, subsample)\n"
        ).tunable
    }
    assert (found["max_features"].low, found["max_features"].high) == (0.05, 1.0)
    assert (found["contamination"].low, found["contamination"].high) == (0.001, 0.5)
    assert found["subsample"].low > 0


@pytest.mark.parametrize(
    ("name", "content", "says", "remedy"),
    [
        ("train.py", b"def f(:\n  pass\n", "line 1: invalid syntax.", "py_compile"),
        ("train.py", b'LR = 0.1\nname = "caf\xe9"\n', "it is not UTF-8", "coding: latin-1"),
        ("train.py", b"\x00\x01", "it is not text", "the script"),
        ("train.ipynb", b'{"cells": []}', "is a notebook", "nbconvert --to script train.ipynb"),
    ],
)
def test_what_is_no_script_is_refused_with_a_remedy(tmp_path, name, content, says, remedy):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput) as refused:
        discover_statically(tmp_path / name)
    assert says in refused.value.sentence and remedy in refused.value.remedy


def test_a_folder_and_nothing_are_refused(tmp_path):
    for place in (tmp_path, tmp_path / "gone.py"):
        with pytest.raises(BadInput) as refused:
            discover_statically(place)
        assert refused.value.remedy


def test_a_script_in_another_encoding_that_says_so_is_read(tmp_path):
    (tmp_path / "train.py").write_bytes(b'# -*- coding: latin-1 -*-\nLR = 0.1\nname = "caf\xe9"\n')
    assert [item.name for item in discover_statically(tmp_path / "train.py").tunable] == ["LR"]


def test_what_the_command_line_cannot_do_without_is_named(discover):
    found = discover("""
        import argparse
        p = argparse.ArgumentParser()
        p.add_argument("data")
        p.add_argument("extra", nargs="?")
        p.add_argument("--out", required=True)
        p.add_argument("--lr", type=float, required=True)
        p.parse_args()
    """)
    with pytest.raises(BadInput) as refused:
        refuse_without_arguments(found, [], ["lr"], "train.py")
    assert refused.value.sentence == "train.py cannot do without data, --out."
    refuse_without_arguments(found, ["file.csv"], ["lr"], "train.py")  # whoever gives arguments knows which


def test_a_study_is_refused_where_an_argument_is_missing(discover):
    found = discover("""
        import argparse
        p = argparse.ArgumentParser()
        p.add_argument("data")
        p.add_argument("--lr", type=float, default=0.1)
        p.parse_args()
        log(loss=1)
    """)
    with pytest.raises(BadInput) as refused:
        settle(Wishes(metric="loss"), lambda: found, "train.py")
    assert "cannot do without data" in refused.value.sentence and refused.value.remedy.endswith("narf tune train.py -- DATA")
    assert settle(Wishes(metric="loss", arguments=("x.csv",)), lambda: found, "train.py").space.names == ("lr",)


def test_ranges_keep_to_the_ends_that_pydantic_enforces(discover):
    found = discover("""
        from typing import Annotated
        from pydantic import BaseModel, Field
        class Settings(BaseModel):
            clusters: int = Field(4, ge=2, le=6)
            share: Annotated[float, Field(gt=0, lt=0.5)] = 0.3
        Settings()
    """)
    ranges = {item.name: (item.proposal.low, item.proposal.high) for item in found.tunable}
    assert ranges["clusters"] == (2, 6) and ranges["share"][0] > 0 and ranges["share"][1] < 0.5


def test_an_infinite_default_can_be_told_in_json(discover):
    found = discover("clip_norm = 1e400\nuse(clip_norm)\n")
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["parameters"][0]["default"] is None


def test_declarations_in_loops_are_written_out(discover):
    found = discover("""
        import argparse
        RATES = {"encoder": 0.1, "decoder": 0.2}
        p = argparse.ArgumentParser()
        for i in range(2):
            p.add_argument(f"--width{i}", type=int, default=8)
        for index, (name, rate) in enumerate(RATES.items()):
            options = dict(default=rate, help="rate of %s" % name)
            options["type"] = float if isinstance(rate, float) else int
            p.add_argument("--lr-" + name, **options)
        for name, kind in zip(("bias", "depth"), (bool, int)):
            if kind is bool:
                p.add_argument("--" + name, action="store_true")
            else:
                p.add_argument("--" + name, type=kind, default=3)
        p.parse_args()
    """)
    assert {item.name: (item.type, item.default) for item in found.tunable} == {
        "width0": ("int", 8), "width1": ("int", 8), "lr_encoder": ("float", 0.1), "lr_decoder": ("float", 0.2), "bias": ("bool", False), "depth": ("int", 3),
    }  # fmt: skip
    assert next(item for item in found.parameters if item.name == "lr_decoder").help == "rate of decoder" and not found.is_open


def test_what_reading_cannot_follow_is_known(discover):
    assert discover("""
        import argparse, json
        p = argparse.ArgumentParser()
        for name in json.load(open("names.json")):
            p.add_argument("--" + name, type=float)
        p.parse_args()
    """).is_open
    assert not discover("""
        import argparse
        def add(p, name, default):
            p.add_argument("--" + name, type=type(default), default=default)
        p = argparse.ArgumentParser()
        add(p, "lr", 0.1)
        add(p, "hidden", 8)
        p.parse_args()
    """).is_open


def test_what_stands_in_the_chosen_file_of_a_config_group_is_searched_with_that_choice_only(tmp_path):
    for name, text in {
        "config": "defaults: [{model: gcn}, _self_]\nlr: 0.1\n",
        "model/gcn": "hidden: 32\n",
        "model/gat": "heads: 4\n",
    }.items():
        (tmp_path / "conf" / name).with_suffix(".yaml").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / f"{name}.yaml").write_text(text)
    (tmp_path / "train.py").write_text(
        "import hydra\n@hydra.main(config_path='conf', config_name='config', version_base=None)\ndef main(cfg): ...\nmain()\n"
    )
    found = discover_statically(tmp_path / "train.py")
    assert {item.name: item.proposal.to_text() for item in found.tunable} == {
        "model.hidden": "8..128 pow2 if model=gcn",
        "lr": "0.0033..1.0 log",
        "model": "gat, gcn",
    }


def test_what_only_makes_the_data_is_left_alone(tmp_path):
    (tmp_path / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('--n-clients', type=int, default=500)\np.add_argument('--noise', type=float, default=0.1)\n"
        "p.add_argument('--n-bins', type=int, default=5)\na = p.parse_args()\nx = simulate(a.n_clients, a.noise)\nmodel = Model(a.n_bins)\n"
    )
    found = discover_statically(tmp_path / "train.py")
    assert [item.name for item in found.tunable] == ["n_bins"]
    assert {item.name: item.left_alone for item in found.parameters}["noise"] == "It sets the data, not the model."


def test_a_variable_that_a_function_of_the_scripts_own_reads_is_one_of_the_environment(tmp_path):
    (tmp_path / "train.py").write_text(
        "import os\ndef flag(name, default):\n    return os.getenv(name, str(default)).lower() in ('1', 'true')\n"
        "def number(name, default, kind=float):\n    return kind(os.environ.get(name, default))\n"
        "USE = flag('NESTEROV', False)\nLR = number('LR', 0.1)\nN = number('LAYERS', 2, int)\n"
    )
    found = {item.name: (item.type, item.default, item.passing.flag) for item in discover_statically(tmp_path / "train.py").tunable}
    assert found == {
        "NESTEROV": ("bool", False, "environment:NESTEROV"),
        "LR": ("float", 0.1, "environment:LR"),
        "LAYERS": ("int", 2, "environment:LAYERS"),
    }


def test_entries_of_a_yaml_file_that_are_kept_to_be_merged_are_no_parameters_of_their_own(tmp_path):
    (tmp_path / "config.yaml").write_text("defaults: &defaults\n  lr: 0.1\n  layers: 2\ntrain:\n  <<: *defaults\n  layers: 3\n")
    (tmp_path / "train.py").write_text("import yaml\ncfg = yaml.safe_load(open('config.yaml'))['train']\n")
    assert {item.name: item.default for item in discover_statically(tmp_path / "train.py").tunable} == {"train.lr": 0.1, "train.layers": 3}


def test_what_a_class_overrides_is_the_classes_own_to_say_and_what_holds_without_arguments_is_a_default(tmp_path):
    (tmp_path / "train.py").write_text(
        "import sys\nclass BaseConfig:\n    lr = 0.1\n    hidden = 32\nclass Config(BaseConfig):\n    lr = 0.3\ncfg = Config()\ncfg.update(dropout=0.2)\n"
    )
    found = {item.name: item.default for item in discover_statically(tmp_path / "train.py").tunable}
    assert found == {"BaseConfig.hidden": 32, "Config.lr": 0.3, "cfg.dropout": 0.2}
    (tmp_path / "train.py").write_text(
        "import sys, os\nLR = float(sys.argv[1]) if len(sys.argv) > 1 else 0.01\nDEPTH = os.environ.get('DEPTH') or 3\nfit(LR, DEPTH)\n"
    )
    assert {item.name: item.default for item in discover_statically(tmp_path / "train.py").tunable} == {"LR": 0.01, "DEPTH": 3}


def test_positional_arguments_that_need_not_be_given_are_put_in_place(tmp_path):
    (tmp_path / "train.py").write_text(
        "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.add_argument('alpha', nargs='?', type=float, default=0.5)\n"
        "p.add_argument('more', nargs=argparse.REMAINDER)\np.parse_args()\n"
    )
    found = discover_statically(tmp_path / "train.py")
    assert [item.name for item in found.parameters if item.required] == ["data"]
    assert [(item.name, item.passing.how.value) for item in found.tunable] == [("alpha", "inject")]


@pytest.mark.parametrize(
    ("name", "value", "is_searched"),
    [
        ("gradient_clip_val", 1.0, True), ("samples_per_gpu", 64, True), ("workers_per_gpu", 2, False), ("warmup_iters", 100, True), ("max_iters", 100, False),
        ("learn_every", 4, True), ("log_every", 4, False), ("log_amount", True, True), ("log_model", True, False), ("min_samples", 5, True), ("n_samples", 500, False),
        ("label_smooth_val", 0.1, True), ("val_batch_size", 64, False), ("train_frac", 0.8, False), ("balance_classes", True, True), ("k_shot", 5, False), ("eps", 1e-8, False),
        ("eps", 0.5, True), ("horizon", 5, False), ("es_patience", 5, False), ("block_size", 32, True), ("out_activation_scale", 0.5, True), ("min_frequency", 3, True),
    ],
)  # fmt: skip
def test_a_name_tells_whether_a_parameter_sets_the_model(tmp_path, name, value, is_searched):
    (tmp_path / "train.py").write_text(
        f"import argparse\np = argparse.ArgumentParser()\np.add_argument('--{name}', type={type(value).__name__}, default={value})\n"
    )
    assert bool(discover_statically(tmp_path / "train.py").tunable) == is_searched


@pytest.mark.parametrize(
    ("text", "is_open"),
    [
        ("import importlib, sys\ncfg = importlib.import_module(sys.argv[1]).cfg\n", True),
        ("import os\nLR = float(os.environ[PREFIX + 'LR'] if 0 else os.getenv(PREFIX + 'LR'))\n", True),
        ("import os\ndef number(name, default):\n    return float(os.getenv(name, default))\nLR = number('LR', 0.1)\n", False),
        (
            "import argparse\nfrom models import REGISTRY\np = argparse.ArgumentParser()\np.add_argument('--model', choices=sorted(REGISTRY))\n",
            True,
        ),
        (
            "import click\nfrom models import REGISTRY\n@click.command()\n@click.option('--model', type=click.Choice(list(REGISTRY)))\ndef main(model): ...\n",
            True,
        ),
        ("import argparse\np = argparse.ArgumentParser()\np.add_argument('--model', choices=['a', 'b'])\n", False),
    ],
)
def test_what_reading_leaves_open_is_known(tmp_path, text, is_open):
    (tmp_path / "train.py").write_text(text)
    assert discover_statically(tmp_path / "train.py").is_open == is_open


def test_methods_of_a_parser_of_the_scripts_own_may_be_called_on_what_they_return(tmp_path):
    (tmp_path / "train.py").write_text(
        "import argparse\nclass Parser(argparse.ArgumentParser):\n    def number(self, name, value):\n"
        "        self.add_argument('--' + name, type=type(value), default=value)\n        return self\n"
        "p = Parser()\np.number('lr', 0.1).number('momentum', 0.9).number('layers', 2)\np.parse_args()\n"
    )
    found = discover_statically(tmp_path / "train.py")
    assert {item.name: item.default for item in found.tunable} == {"lr": 0.1, "momentum": 0.9, "layers": 2} and not found.is_open


def test_how_much_data_a_script_makes_is_no_parameter_of_the_model(discover):
    found = discover(
        """
        import argparse, numpy as np, torch
        p = argparse.ArgumentParser()
        p.add_argument("--n-loans", type=int, default=500)
        p.add_argument("--n-bins", type=int, default=8)
        p.add_argument("--batch-size", type=int, default=32)
        p.add_argument("--k", type=int, default=5, help="neighbours of the probe, keep at 5 for comparisons")
        p.add_argument("--number", type=int, default=3)
        p.add_argument("--rng", dest="start", type=int, default=3)
        p.add_argument("--random-seed", dest="start2", type=int, default=3)
        args = p.parse_args()
        def loans():
            rng = np.random.default_rng(0)
            n = args.n_loans
            return torch.utils.data.DataLoader(rng.normal(size=(n, 3)), batch_size=args.batch_size)
        tree(loans(), args.n_bins, args.number)
        """
    )
    assert [item.name for item in found.tunable] == ["n_bins", "batch_size", "number", "start"]


def test_what_a_section_says_of_the_world_is_left_alone_but_for_what_is_learnt_with(discover, tmp_path):
    (tmp_path / "conf.yaml").write_text("env:\n  capacity: 20\n  gamma: 0.99\nagent:\n  lr: 0.01\n")
    found = discover("import yaml\nconf = yaml.safe_load(open('conf.yaml'))\ntrain(conf)")
    assert {item.name for item in found.tunable} == {"env.gamma", "agent.lr"}
    (gamma,) = (item.proposal for item in found.tunable if item.name == "env.gamma")
    assert (gamma.low, gamma.high) == (0.8, 0.9999)


@pytest.mark.parametrize(
    "given",
    [
        'args = sys.argv[1:] or ["fit", "--config", "conf/config.yaml"]',
        'if len(sys.argv) == 1:\n    sys.argv += ["fit", "--config", os.path.join(HERE, "conf", "config.yaml")]',
        'if not sys.argv[1:]:\n    sys.argv.extend(["fit", "--config", str(HERE / "conf" / "config.yaml")])',
        'args = sys.argv[1:] if len(sys.argv) > 1 else ["fit", "--config", str(FILE)]',
    ],
)
def test_what_a_script_gives_itself_without_arguments_a_trial_gives_it_too(discover, tmp_path, given):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text("model:\n  lr: 0.1\n")
    text = "import argparse, os, sys\nfrom pathlib import Path\nHERE = Path(__file__).parent\nFILE = HERE / 'conf' / 'config.yaml'\n"
    text += "p = argparse.ArgumentParser()\np.add_argument('command')\np.add_argument('--config')\np.add_argument('--lr', type=float)\n"
    assert discover(f"{text}{given}\np.parse_args()").prefix == ("fit", "--config", "conf/config.yaml")
    assert discover(f"{text}{given}\np.parse_args()", "fit", "--config", "other.yaml").prefix == ()
    assert discover(f"{text}sys.argv += ['--quiet']\np.parse_args()").prefix == ()
