"""The dry run finds what only running shows, stops before the training, and leaves the user's folder alone."""

import hashlib
import textwrap

import pytest

from narf.tuning.discovery.dry_run import confirm
from narf.tuning.discovery.static import discover_statically


@pytest.fixture
def discover(tmp_path):
    folder = tmp_path / "code"
    folder.mkdir()

    def run(text, *arguments, limit=60.0):
        script = folder / "train.py"
        script.write_text(textwrap.dedent(text))
        return confirm(script, arguments, discover_statically(script, arguments), time_limit_seconds=limit)

    run.folder = folder
    return run


def test_arguments_declared_in_a_loop_are_found(discover):
    found = discover("""
        import argparse
        p = argparse.ArgumentParser()
        for name, default in [("lr", 0.1), ("momentum", 0.9)]:
            p.add_argument(f"--{name}", type=float, default=default)
        p.add_argument("--hidden", type=int, default=64)
        args = p.parse_args()
        raise SystemExit("it trained")
    """)
    assert sorted(parameter.name for parameter in found.tunable) == ["hidden", "lr", "momentum"]
    assert all(parameter.confirmed for parameter in found.tunable)
    assert found.notes == ()


def test_a_parser_that_the_script_never_uses_is_dropped(discover):
    found = discover("""
        import argparse
        def old():
            p = argparse.ArgumentParser()
            p.add_argument("--gone", type=float, default=0.1)
            return p
        p = argparse.ArgumentParser()
        p.add_argument("--lr", type=float, default=0.1)
        p.parse_args()
    """)
    assert [parameter.name for parameter in found.tunable] == ["lr"]


def test_click_options_are_confirmed_with_their_limits(discover):
    found = discover("""
        import click
        @click.command()
        @click.option("--rate", type=click.FloatRange(0.1, 0.4), default=0.2)
        @click.option("--average/--last", default=False)
        def main(rate, average):
            raise SystemExit("it trained")
        main()
    """)
    rate, average = found.tunable
    assert (rate.name, rate.confirmed, rate.proposal.low, rate.proposal.high) == ("rate", True, 0.1, 0.4)
    assert (average.passing.flag, average.passing.off_flag) == ("--average", "--last")


def test_the_users_folder_stays_as_it_is(discover):
    (discover.folder / "data.csv").write_text("1,2\n")
    before = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in discover.folder.iterdir()}
    found = discover(f"""
        import argparse, os, pathlib
        pathlib.Path("output.txt").write_text("here")
        os.mkdir("runs")
        for action in (lambda: open({str(discover.folder / "data.csv")!r}, "a"), lambda: os.remove({str(discover.folder / "data.csv")!r})):
            try:
                action()
            except PermissionError:
                print("refused")
        p = argparse.ArgumentParser()
        p.add_argument("--lr", type=float, default=0.1)
        p.parse_args()
    """)
    after = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in discover.folder.iterdir() if path.name != "train.py"}
    assert after == before
    assert found.tunable[0].confirmed


def test_a_script_that_hangs_is_stopped_and_what_was_read_stands(discover):
    found = discover(
        """
        import argparse, time
        time.sleep(600)
        p = argparse.ArgumentParser()
        p.add_argument("--lr", type=float, default=0.1)
        p.parse_args()
        """,
        limit=1.0,
    )
    assert [parameter.name for parameter in found.tunable] == ["lr"]
    assert not found.tunable[0].confirmed
    assert "stopped after 1 seconds" in found.notes[0]


def test_a_script_that_crashes_says_how(discover):
    found = discover("LR = 0.1\nraise RuntimeError('no data here')\n")
    assert [parameter.name for parameter in found.tunable] == ["LR"]
    assert "no data here" in found.notes[0]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("x = input('which? ')", "asks for input on the keyboard"),
        ("import sys; sys.exit('no licence')", "and said: no licence"),
        ("import os; os._exit(3)", "it ended with exit code 3"),
        ("import gone_package", "No module named 'gone_package' Install it"),
        (
            "import argparse; p = argparse.ArgumentParser(); p.add_argument('--data', required=True); p.parse_args()",
            "required: --data. Give what it needs",
        ),
    ],
)
def test_what_stopped_it_is_said_with_a_remedy(discover, body, says):
    found = discover(f"LR = 0.1\n{body}\n")
    assert [parameter.name for parameter in found.tunable] == ["LR"]
    assert says in found.notes[0]


def test_what_was_found_before_it_broke_or_hung_stands(discover):
    text = """
        import argparse
        p = argparse.ArgumentParser()
        for name in "lr momentum".split():
            p.add_argument("--" + name, type=float, default=0.1)
        p.add_argument("--config", default="a.json")
        p.parse_args()
        {}
    """
    broken = discover(text.format("open('gone.csv')"))
    assert [parameter.name for parameter in broken.tunable] == ["lr", "momentum"] and "gone.csv" in broken.notes[0]
    hung = discover(text.format("while True: pass"), limit=2.0)
    assert [parameter.name for parameter in hung.tunable] == ["lr", "momentum"] and "stopped after 2 seconds" in hung.notes[0]


def test_what_reading_left_open_is_remarked_until_a_dry_run_told_it(discover):
    text = "import argparse\np = argparse.ArgumentParser()\nfor name in 'lr momentum'.split():\n    p.add_argument('--' + name, type=float, default=0.1)\np.parse_args()\n"
    found = discover(text)
    assert found.to_json()["notes"] == [] and len(found.tunable) == 2
    read = discover_statically(discover.folder / "train.py")
    assert read.notes == () and "narf tune SCRIPT --discover" in read.to_json()["notes"][0]


def test_a_model_states_the_ends_of_its_parameters(discover):
    found = discover("""
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
        from sklearn.svm import NuSVC
        table = dict(nu=0.7, coef0=0.5)
        make_pipeline(StandardScaler(), NuSVC(**table)).fit([[0.0], [1.0]], [0, 1])
        raise RuntimeError("it trained")
    """)
    ranges = {item.name: item.proposal for item in found.tunable}
    assert 0 < ranges["table.nu"].low < ranges["table.nu"].high == 1.0
    assert found.notes == ()


def test_a_flood_of_output_is_not_kept(discover):
    found = discover("LR = 0.1\nfor _ in range(30_000): print('x' * 1000)\nraise RuntimeError('at last')\n")
    assert "RuntimeError: at last" in found.notes[0]


def test_only_the_configuration_file_that_is_opened_counts(discover):
    (discover.folder / "old.json").write_text('{"lr": 0.5, "momentum": 0.9}')
    (discover.folder / "new.json").write_text('{"lr": 0.1, "hidden": 8}')
    found = discover("""
        import json
        NAMES = ["old.json", "new.json"]
        settings = json.load(open(sorted(NAMES)[0]))
        print(settings)
    """)
    assert [(item.name, item.default, item.passing.flag) for item in found.tunable] == [
        ("lr", 0.1, "new.json:lr"),
        ("hidden", 8, "new.json:hidden"),
    ]
    assert found.notes == ()


def test_what_objects_hold_where_training_begins_confirms_and_fills_in(discover):
    found = discover("""
        import argparse, json
        from dataclasses import dataclass
        @dataclass
        class TrainConfig:
            lr: float = 0.1
            hidden: int = 16
        @dataclass
        class OldConfig:
            gone: float = 0.5
        KINDS = {"train": TrainConfig, "old": OldConfig}
        def main():
            config = KINDS["train"](hidden=8)
            for epoch in range(10**9):
                print("epoch", epoch, "loss:", 0.5, sep=" ")
        main()
    """, limit=20.0)  # fmt: skip
    assert {item.name: (item.default, item.confirmed) for item in found.tunable} == {"TrainConfig.lr": (0.1, True)}
    assert found.notes == ()


def test_a_text_is_chosen_from_the_keys_of_a_table_that_decorators_fill(discover):
    found = discover("""
        LOSSES = {}
        def loss(name):
            return lambda function: LOSSES.setdefault(name, function)
        @loss("huber")
        def one(): ...
        @loss("squared")
        def two(): ...
        class Config:
            lr = 0.1
            criterion = "huber"
        print(LOSSES[Config.criterion])
    """)
    chosen = next(item for item in found.tunable if item.name == "Config.criterion")
    assert chosen.choices == ("huber", "squared")


def test_a_class_that_the_script_does_not_make_has_no_say(discover):
    text = """
        from dataclasses import dataclass
        @dataclass
        class Small:
            lr: float = 0.1
        @dataclass
        class Large:
            width: int = 512
        config = {} or Small()
        unused = Large if config else Large()
    """
    found = discover(text)
    assert [item.name for item in discover_statically(discover.folder / "train.py").tunable] == ["lr", "width"]
    assert [item.name for item in found.tunable] == ["lr"]


def test_a_module_that_was_imported_by_a_name_put_together_is_read_too(discover):
    (discover.folder / "configs").mkdir()
    (discover.folder / "configs" / "cfg_base.py").write_text(
        "from types import SimpleNamespace\ncfg = SimpleNamespace()\ncfg.lr = 0.1\ncfg.pool = 'gem'\n"
    )
    (discover.folder / "configs" / "cfg_3.py").write_text("from cfg_base import cfg\ncfg.lr = 0.3\ncfg.width = 16  # channels\n")
    found = discover("""
        import argparse, importlib, os, sys
        sys.path.append(os.path.join(os.path.dirname(__file__), "configs"))
        p = argparse.ArgumentParser()
        p.add_argument("--config", default="cfg_3")
        cfg = importlib.import_module(p.parse_known_args(sys.argv)[0].config).cfg
        POOLS = {"gem": max, "avg": min}
        print(POOLS[cfg.pool])
    """)
    assert {item.name for item in found.tunable} == {"cfg.lr", "cfg.pool", "cfg.width"}


def test_a_variable_whose_name_is_put_together_outweighs_the_field_it_fills(discover):
    (discover.folder / ".env").write_text("RISK_MAX_DEPTH=3\n")
    found = discover("""
        import os
        from dataclasses import dataclass, fields
        from pathlib import Path
        from typing import Literal
        for line in Path(".env").read_text().splitlines():
            os.environ.setdefault(*line.split("="))
        @dataclass
        class Settings:
            max_depth: int = 6
            min_gain: float = 0.0
            kind: Literal["gbm", "logit"] = "gbm"
            seed: int = 1
        given = {item.name: os.environ.get("RISK_" + item.name.upper()) for item in fields(Settings)}
        print(Settings(**{name: value for name, value in given.items() if value is not None}))
    """)
    assert {item.name: (item.default, item.passing.flag) for item in found.tunable} == {
        "RISK_MAX_DEPTH": (3, "environment:RISK_MAX_DEPTH"),
        "RISK_MIN_GAIN": (0.0, "environment:RISK_MIN_GAIN"),
        "RISK_KIND": ("gbm", "environment:RISK_KIND"),
    }


def test_of_presets_the_entries_count_that_some_object_holds(discover):
    found = discover("""
        BASE = {"model": {"width": 32, "dropout": 0.1}, "optim": {"lr": 1e-3, "wd": 0.01}}
        PRESETS = {"tiny": {"model": {"width": 16}, "optim": {"lr": 3e-3}}, "regularised": {"model": {"dropout": 0.3}}}
        def resolve(name):
            return {key: {**BASE[key], **PRESETS[name].get(key, {})} for key in BASE}
        cfg = resolve(["tiny", "regularised"][0])
    """)
    assert {item.name: item.default for item in found.tunable} == {
        "PRESETS.tiny.model.width": 16,
        "BASE.model.dropout": 0.1,
        "PRESETS.tiny.optim.lr": 3e-3,
        "BASE.optim.wd": 0.01,
    }


def test_a_text_that_a_model_takes_has_the_words_that_the_model_states(discover):
    found = discover("""
        from sklearn.neighbors import KNeighborsClassifier
        knn = dict(n_neighbors=3, weights="distance", algorithm="brute")
        KNeighborsClassifier(**knn).fit([[0.0], [1.0], [2.0]], [0, 1, 1])
    """)
    assert {item.name: item.choices for item in found.tunable} == {"knn.n_neighbors": (), "knn.weights": ("distance", "uniform", None)}


def test_the_sub_command_that_declares_what_only_running_shows_is_given_to_trials(discover):
    found = discover("""
        import argparse
        p = argparse.ArgumentParser()
        commands = p.add_subparsers(required=True)
        for name, options in {"evaluate": ["--threshold"], "train": ["--lr", "--momentum"]}.items():
            command = commands.add_parser(name)
            [command.add_argument(option, type=float, default=0.1) for option in options]
        p.parse_args()
    """)
    assert found.prefix == ("train",)
    assert [item.name for item in found.tunable] == ["lr", "momentum"]


def test_options_that_a_choice_brings_are_searched_with_that_choice_only(discover):
    found = discover("""
        import argparse
        OPTIONS = {"gan": ["--penalty"], "vae": ["--beta"]}
        p = argparse.ArgumentParser()
        p.add_argument("--model", choices=sorted(OPTIONS), default="gan")
        p.add_argument("--lr", type=float, default=0.1)
        for option in OPTIONS[p.parse_known_args()[0].model]:
            p.add_argument(option, type=float, default=0.5)
        p.parse_args()
    """)
    assert {item.name: item.proposal.to_text() for item in found.tunable} == {
        "model": "gan, vae",
        "lr": "0.0033..1.0 log",
        "penalty": "0.0..1.0 if model=gan",
    }


def test_settings_of_objects_that_a_table_of_classes_made_are_found(discover):
    found = discover("""
        from collections import namedtuple
        Limits = namedtuple("Limits", ["clip", "margin"])
        class Agent:
            def __init__(self, states, alpha=0.1, visits=7):
                self.states, self.alpha, self.visits, self.best_score = states, alpha, visits, 0.0
        AGENTS = {"q": Agent}
        def main():
            limits = Limits(clip=5.0, margin=0.25)
            agent = AGENTS["q"](5)
            for episode in range(10**9):
                print(f"episode {episode} reward: {1.5}")
        main()
    """, limit=30.0)  # fmt: skip
    assert {item.name: item.default for item in found.tunable} == {
        "Agent.alpha": 0.1, "Agent.visits": 7, "Limits.clip": 5.0, "Limits.margin": 0.25,
    }  # fmt: skip


@pytest.mark.slow
def test_a_lightning_script_is_stopped_where_it_would_fit(discover):
    found = discover("""
        import lightning, torch
        from lightning.pytorch.callbacks import ModelCheckpoint
        class Model(lightning.LightningModule):
            def __init__(self, lr=0.1):
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)
        trainer = lightning.Trainer(callbacks=[ModelCheckpoint(monitor="quality", mode="max")], logger=False, accelerator="cpu")
        trainer.fit(Model())
        raise RuntimeError("it trained")
    """, limit=200.0)  # fmt: skip
    assert [(parameter.name, parameter.confirmed) for parameter in found.tunable] == [("lr", True)]
    assert (found.metrics[0].name, found.metrics[0].direction, found.metrics[0].confirmed) == ("quality", "maximize", True)


@pytest.mark.slow
def test_what_a_chosen_class_and_an_optimiser_take_is_found(discover):
    text = """
        import lightning, torch
        from lightning.pytorch.cli import LightningCLI
        class Base(lightning.LightningModule):
            def __init__(self, scale: float = 1.0):
                super().__init__()
        class Wide(Base):
            def __init__(self, width: int = 24, depth: int = 2, activation: str = "relu", **more):
                super().__init__(**more)
        class Cli(LightningCLI):
            def add_arguments_to_parser(self, parser):
                parser.add_optimizer_args(torch.optim.AdamW)
                parser.set_defaults({"optimizer.lr": 0.002})
                parser.add_argument("--blocks", type=int, default=3)
                parser.link_arguments("blocks", "model.init_args.depth")
        Cli(Base, subclass_mode_model=True, save_config_callback=None)
        raise RuntimeError("it trained")
    """
    found = discover(text, "fit", "--model", "Wide", limit=200.0)
    tunable = {item.name: item.default for item in found.tunable}
    assert {"model.init_args.width": 24, "optimizer.lr": 0.002}.items() <= tunable.items()
    assert not any(name.startswith("trainer.") for name in tunable) and found.notes == ()
    assert "blocks" in tunable and "model.init_args.depth" not in tunable  # it has its value from the other, and takes none
