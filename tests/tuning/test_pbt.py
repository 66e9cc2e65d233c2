"""Population-based training: who goes on from where, and a schedule that it learns."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narf.domain.errors import BadInput
from narf.training import launcher
from narf.tuning.pbt import PbtProposer, Population, explore, latest_of, lineage, next_segment, population_of
from narf.tuning.space import read_space
from narf.tuning.study import Direction, Search, Trial, TrialState

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SPACE = read_space({"lr": "1e-5..1.0 log", "dropout": "0.0..0.9", "hidden": "16..64 pow2", "opt": "adam, sgd"})
VALUES = {"lr": 0.01, "dropout": 0.5, "hidden": 32, "opt": "adam"}


def segment(number, member, value, generation=0, state=TrialState.SUCCEEDED, **changes):
    return Trial(
        study_id="s", number=number, values=VALUES | {"lr": 0.001 * (member + 1)}, created_at=NOW, member=member, generation=generation,
        state=state, value=value if state is TrialState.SUCCEEDED else None, told_at=number, **changes,
    )  # fmt: skip


def run(space, train, *, segments, direction=Direction.MINIMIZE, parallel=4, **options):
    """A whole training of a population: `train(state, values) -> (state, value)`; state is the checkpoint, None at birth."""
    search = Search(sampler="pbt", seed=3, sampler_options=tuple(options.items()))
    proposer, trials, states = PbtProposer(space, direction, search), [], {}
    while len(trials) < segments:
        began = []
        while len(began) < parallel and len(trials) < segments and proposer.ready:
            proposal = proposer.propose(len(trials))
            trials.append(
                Trial(
                    study_id="s", number=len(trials), values=proposal.values, created_at=NOW, member=proposal.member,
                    generation=proposal.generation, source=proposal.source,
                )
            )  # fmt: skip
            began.append(trials[-1])
            proposer.know(trials)
        for trial in began:
            states[trial.number], value = train(states.get(trial.source), trial.values)
            trials[trial.number] = replace(trial, state=TrialState.SUCCEEDED, value=value, told_at=len(trials) * 2 + trial.number)
        proposer.know(trials)
    return trials


def test_a_member_behind_takes_over_from_one_ahead_and_explores():
    trials = [segment(number, number, value) for number, value in enumerate([0.9, 0.1, 0.5, 0.6])]
    found = next_segment(trials, 4, SPACE, Direction.MINIMIZE, Population(size=4), seed=0)
    assert (found.member, found.source, found.exploits) == (0, 1, True)
    assert found.values["lr"] != trials[1].values["lr"]
    assert (found.values["hidden"], found.values["opt"]) == (32, "adam"), "no checkpoint fits another size"


def test_a_member_ahead_goes_on_as_it_is():
    trials = [segment(number, number, value) for number, value in enumerate([0.1, 0.9, 0.5, 0.6])]
    found = next_segment(trials, 4, SPACE, Direction.MINIMIZE, Population(size=4), seed=0)
    assert (found.member, found.source, found.exploits, found.values) == (0, 0, False, trials[0].values)
    assert next_segment(trials, 4, SPACE, Direction.MAXIMIZE, Population(size=4), seed=0).exploits


def test_members_that_train_are_measured_by_their_last_segment():
    trials = [segment(number, number, value) for number, value in enumerate([0.1, 0.5, 0.9])]
    trials += [segment(3, 0, None, 1, TrialState.RUNNING, source=0), segment(4, 1, None, 1, TrialState.RUNNING, source=1)]
    found = next_segment(trials, 5, SPACE, Direction.MINIMIZE, Population(size=3), seed=0)
    assert (found.member, found.source, found.exploits) == (2, 0, True), "it is behind, whoever else has just begun to train on"


def test_a_member_that_failed_goes_on_from_one_ahead():
    trials = [segment(0, 0, None, state=TrialState.FAILED), *(segment(n, n, float(n)) for n in range(1, 4))]
    found = next_segment(trials, 4, SPACE, Direction.MINIMIZE, Population(size=4), seed=0)
    assert (found.member, found.source) == (0, 1)


def test_a_population_all_of_which_failed_ends():
    proposer = PbtProposer(SPACE, Direction.MINIMIZE, Search(sampler="pbt", sampler_options=(("population", 2),)))
    proposer.know([segment(number, number, None, state=TrialState.FAILED) for number in range(2)])
    assert proposer.is_exhausted


members = st.lists(
    st.tuples(st.integers(0, 5), st.sampled_from([TrialState.SUCCEEDED, TrialState.SUCCEEDED, TrialState.FAILED, TrialState.CANCELLED]), st.floats(-9, 9)),
    min_size=1, max_size=30,
)  # fmt: skip


@given(members, st.sampled_from(Direction), st.integers(0, 9))
def test_whoever_goes_on_does_so_from_a_segment_that_ended_well(drawn, direction, seed):
    generations: dict[int, int] = {}
    trials = []
    for number, (member, state, value) in enumerate(drawn):
        generations[member] = generations.get(member, -1) + 1
        trials.append(segment(number, member, value, generations[member], state))
    found = next_segment(trials, len(trials), SPACE, direction, Population(size=6), seed)
    assert found == next_segment(list(reversed(trials)), len(trials), SPACE, direction, Population(size=6), seed)
    if found is None:
        return
    latest = latest_of(trials)
    assert trials[found.source].state is TrialState.SUCCEEDED
    assert found.generation == latest[found.member].generation + 1
    if found.exploits:
        better = sum(other.value is not None and direction.better(other.value, trials[found.source].value) for other in latest.values())
        assert better < max(1, len(latest) // 4), "only the best are copied"
    for parameter in SPACE:
        assert parameter.contains(found.values[parameter.name])


@given(st.sampled_from(["lr", "dropout"]), st.integers(0, 10**6))
def test_exploring_stays_in_the_range(name, seed):
    import random

    parameter = next(parameter for parameter in SPACE if parameter.name == name)
    value = VALUES[name]
    rng = random.Random(seed)
    for _ in range(20):
        value = explore(parameter, value, Population(), rng)
        assert parameter.contains(value)


def test_a_proposer_that_was_lost_proposes_the_same():
    def train(state, values):
        return None, abs(math.log10(values["lr"]) + 2)

    trials = run(SPACE, train, segments=23, population=6)
    search = Search(sampler="pbt", seed=3, sampler_options=(("population", 6),))
    for count in (2, 6, 11, 23):
        first, second = (PbtProposer(SPACE, Direction.MINIMIZE, search) for _ in range(2))
        first.replay(trials[:count])
        second.replay(trials[:count])
        assert first.propose(count) == second.propose(count)


def test_it_learns_a_schedule_that_no_fixed_rate_reaches():
    """Gradient descent on noisy gradients: a large step first, a small one at the end. A fixed rate is either slow or never settles."""
    noise = [math.sin(7.0 * step * step + 1.0) for step in range(4000)]

    def train(state, values, steps=20):
        position, step = state or (100.0, 0)
        total = 0.0
        for _ in range(steps):
            position -= values["lr"] * (position + 6.0 * noise[step % len(noise)])
            step += 1
            total += position * position
        return (position, step), total / steps

    space = read_space({"lr": "1e-3..1.0 log"})
    trials = run(space, train, segments=16 * 12, population=16)
    best = min((trial for trial in trials if trial.generation >= 10), key=lambda trial: trial.value)
    schedule = [trial.values["lr"] for trial in lineage(trials, best)]
    fixed = []
    for index in range(60):
        state = None
        for _ in range(12):
            state, value = train(state, {"lr": 10 ** (-3 + 3 * index / 59)})
        fixed.append(value)
    assert best.value < min(fixed), "a schedule beats the best of 60 fixed rates"
    assert max(schedule[:3]) > 3 * schedule[-1], f"the rate falls along the way: {schedule}"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"population": 1}, "2 to 10,000"),
        ({"reports": 0}, "at least one"),
        ({"share": 0.9}, "between 0 and 0.5"),
        ({"factor": 0.5}, "factor above 1"),
        ({"speed": 3}, "no option 'speed'"),
        ({"population": "many"}, "is a number"),
    ],
)
def test_a_population_without_sense_is_refused(options, says):
    with pytest.raises(BadInput, match=says):
        population_of(Search(sampler="pbt", sampler_options=tuple(options.items())))


LIGHTNING = """
import sys
import lightning, torch
from torch.utils.data import DataLoader, TensorDataset

class Model(lightning.LightningModule):
    def __init__(self, lr=0.1, weight_decay=0.0):
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)
    def training_step(self, batch):
        return self.layer(batch[0]).pow(2).mean()
    def validation_step(self, batch):
        self.log("val_loss", self.layer(batch[0]).pow(2).mean())
    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.lr, weight_decay=self.hparams.weight_decay)
    def on_train_batch_start(self, *_):
        group = self.optimizers().param_groups[0]
        print("group", self.global_step, group["lr"], group["weight_decay"], flush=True)

torch.manual_seed(0)
data = DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=16)
trainer = lightning.Trainer(max_epochs=6, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                            num_sanity_val_steps=0, enable_model_summary=False)
trainer.fit(Model(), data, data)
"""


@pytest.mark.slow
def test_new_values_win_over_those_of_the_checkpoint_in_an_unchanged_lightning_script(tmp_path):
    """Read from the groups of the optimiser: the segment goes on at the step where the last one ended, with the new rate."""
    script = tmp_path / "train.py"
    script.write_text(LIGHTNING)

    def train(spool, values):
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_"))}
        environment |= {
            "NARF_SPOOL": str(tmp_path / spool),
            "NARF_CHECKPOINTS": str(tmp_path / "checkpoints"),
            "NARF_SEGMENT": json.dumps({"metric": "val_loss", "reports": 2}),
            "NARF_RESUME_OVERRIDES": "1",
            "NARF_PARAMS": json.dumps(values),
        }
        command = [sys.executable, str(Path(launcher.__file__)), str(script)]
        ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
        assert ended.returncode == 0, ended.stderr
        return [
            (int(step), float(lr), float(decay))
            for _, step, lr, decay in (line.split() for line in ended.stdout.splitlines() if line.startswith("group"))
        ]

    assert train("first", {"lr": 0.1, "weight_decay": 0.0}) == [(step, 0.1, 0.0) for step in range(4)]
    assert train("second", {"lr": 0.02, "weight_decay": 0.3}) == [(step, 0.02, 0.3) for step in range(4, 8)]
