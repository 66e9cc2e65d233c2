"""The Ray engine through the command: Ray's schedulers stop and perturb, the record is the platform's."""

from __future__ import annotations

import textwrap

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]

# Eight reports, each after a pause, whose level the learning rate tells at once.
STEPS = textwrap.dedent("""
    import argparse, time
    import narf
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-2)
    arguments = parser.parse_args()
    for step in range(8):
        narf.log(loss=abs(arguments.lr - 0.05) + 1 / (step + 1), step=step)
        time.sleep(0.15)
""")

# An unchanged Lightning script that logs the learning rate its optimiser really has.
LIGHTNING = textwrap.dedent("""
    import argparse, torch, lightning
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-3)
    arguments = parser.parse_args()

    class Line(lightning.LightningModule):
        def __init__(self, lr):
            super().__init__()
            self.lr, self.weight = lr, torch.nn.Parameter(torch.tensor([4.0]))
        def training_step(self, batch, index):
            return ((self.weight - 1) ** 2).mean()
        def on_train_epoch_end(self):
            self.log("used_lr", self.optimizers().param_groups[0]["lr"])
            self.log("val_loss", float((self.weight.detach() - 1) ** 2))
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=self.lr)

    rows = torch.utils.data.DataLoader(torch.zeros(4, 1), batch_size=2)
    lightning.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False).fit(Line(arguments.lr), rows)
""")


def test_asha_of_ray_stops_trials_early_and_the_study_looks_like_any_other(narf):
    script = narf.script("steps.py", STEPS)
    flags = [
        "--trials",
        "8",
        "--parallel",
        "2",
        "--sampler",
        "random",
        "--metric",
        "loss",
        "--minimize",
        "--param",
        "lr=1e-3..1 log",
        "--only",
    ]
    options = [
        "--pruner",
        "asha",
        "--pruner-option",
        "min_resource=2",
        "--pruner-option",
        "reduction_factor=2",
    ]
    study = narf.json("tune", script, *flags, *options, "--engine", "ray", "--name", "asha")
    assert study["state"] == "succeeded" and study["engine"] == "ray" and study["workload_id"]
    trials = narf.json("tune", "--show", "asha")["items"]
    assert len(trials) == 8 and {trial["state"] for trial in trials} == {"succeeded", "pruned"}, trials
    assert all(trial["run_id"] for trial in trials)
    best = study["best"]["trial"]
    assert best["state"] == "succeeded" and best["value"] == min(t["value"] for t in trials if t["state"] == "succeeded")
    run = narf.json("run-show", best["run_id"])
    assert run["params"]["lr"] == str(best["values"]["lr"]) and run["tags"]["mlflow.parentRunId"] == study["run_id"]


def test_pbt_of_ray_goes_on_with_the_new_learning_rate_and_not_the_one_of_the_checkpoint(narf):
    script = narf.script("line.py", LIGHTNING)
    flags = ["--trials", "12", "--parallel", "2", "--sampler", "pbt", "--sampler-option", "population=4", "--sampler-option", "resample=0"]
    flags += ["--metric", "val_loss", "--minimize", "--param", "lr=1e-3..0.2 log", "--only", "--seed", "3"]
    study = narf.json("tune", script, *flags, "--engine", "ray", "--name", "population")
    assert study["state"] == "succeeded", study
    trials = narf.json("tune", "--show", "population")["items"]
    assert trials and all(trial["state"] == "succeeded" for trial in trials), trials
    for trial in trials:
        (used,) = [metric["last"] for metric in narf.json("run-show", trial["run_id"])["metrics"] if metric["key"] == "used_lr"]
        assert used == pytest.approx(trial["values"]["lr"], rel=1e-5), "the optimiser has the value of the record"


# What a trial does is its one parameter.
ENDS = textwrap.dedent("""
    import argparse, time
    import narf
    parser = argparse.ArgumentParser()
    parser.add_argument("--kind", default="good", choices=["good", "fine", "crash", "diverge", "hang", "memory", "reject"])
    arguments = parser.parse_args()
    if arguments.kind == "reject":
        parser.error("the kind 'reject' is none that this script can do")
    narf.log(loss={"good": 1.0, "fine": 2.0, "diverge": float("nan")}.get(arguments.kind, 3.0), step=0)
    if arguments.kind == "crash":
        raise RuntimeError("the third layer is missing")
    if arguments.kind == "hang":
        time.sleep(600)
    if arguments.kind == "memory":
        held = [bytearray(b"x" * (64 << 20)) for _ in range(40)]
        time.sleep(60)
""")


def test_a_trial_that_crashes_diverges_hangs_is_rejected_or_takes_too_much_memory_is_marked_and_the_study_lives(narf):
    script = narf.script("ends.py", ENDS)
    kinds = ["crash", "diverge", "hang", "memory", "reject", "good", "fine"]
    flags = ["--trials", "7", "--parallel", "2", "--sampler", "grid", "--metric", "loss", "--minimize", "--only"]
    flags += ["--param", f"kind={', '.join(kinds)}", "--trial-time-limit", "5s", "--memory", "1Gi", "--cpu", "0.5"]
    study = narf.json("tune", script, *flags, "--engine", "ray", "--name", "ends")
    trials = {trial["values"]["kind"]: trial for trial in narf.json("tune", "--show", "ends")["items"]}
    assert study["state"] == "succeeded" and set(trials) == set(kinds)
    assert {kind: (trial["state"], trial["fault"]) for kind, trial in trials.items()} == {
        "good": ("succeeded", None),
        "fine": ("succeeded", None),
        "crash": ("failed", "crashed"),
        "diverge": ("failed", "diverged"),
        "hang": ("failed", "time_limit"),
        "memory": ("failed", "out_of_memory"),
        "reject": ("failed", "rejected"),
    }
    assert "the third layer is missing" in trials["crash"]["sentence"] and "none that this script can do" in trials["reject"]["sentence"]
    assert study["best"]["trial"]["values"]["kind"] == "good"


def test_when_all_trials_fail_alike_the_study_ends_early_and_says_how(narf):
    script = narf.script("broken.py", STEPS.replace("for step", "raise SystemExit('the data is gone')\nfor step"))
    flags = ["--trials", "16", "--parallel", "2", "--metric", "loss", "--minimize", "--param", "lr=1e-3..1 log", "--only"]
    study = narf.json("tune", script, *flags, "--engine", "ray", "--name", "broken", code=None)
    assert study["state"] == "failed" and "the data is gone" in study["sentence"], study
    assert 3 <= study["trials"]["failed"] <= 6
