"""A trial's command gives the script exactly the trial's values."""

import json
import shlex

from hypothesis import given
from hypothesis import strategies as st

from narf.tuning.binding import bind, command_line, read_bindings
from narf.tuning.discovery.found import How, Passing

BINDINGS = {
    "lr": Passing(How.OPTION, "--lr"),
    "optimizer.decay": Passing(How.OVERRIDE, "optimizer.decay"),
    "fast": Passing(How.ON_OFF, "--fast", "--slow"),
    "nesterov": Passing(How.SWITCH, "--nesterov"),
    "HIDDEN": Passing(How.INJECT, "HIDDEN"),
    "kind": Passing(How.OPTION, "-k"),
}


@given(st.floats(allow_nan=False, allow_infinity=False), st.integers(), st.text(max_size=20))
def test_values_come_back_from_the_command_unchanged(rate, hidden, kind):
    command = command_line("train.py", ["--data", "my file"], BINDINGS, {"lr": rate, "HIDDEN": hidden, "kind": kind, "fast": False})
    words = shlex.split(command)
    assert float(next(word for word in words if word.startswith("--lr=")).removeprefix("--lr=")) == rate
    assert json.loads(words[words.index("--env") + 1].removeprefix("NARF_PARAMS=")) == {"HIDDEN": hidden}
    assert words[words.index("-k") + 1] == kind
    assert "--slow" in words
    assert words[words.index("--") + 1 : words.index("--") + 3] == ["--data", "my file"]


def test_each_kind_of_passing():
    values = {"optimizer.decay": 1e-5, "fast": True, "nesterov": False, "HIDDEN": 3, "unknown": 1}
    assert bind(BINDINGS, values) == (["optimizer.decay=1e-05", "--fast"], {"HIDDEN": 3, "unknown": 1})
    assert bind(BINDINGS, {"nesterov": True})[0] == ["--nesterov"]


def test_hydra_gets_text_with_odd_characters_in_quotes():
    assert bind(BINDINGS, {"optimizer.decay": "a, b"})[0] == ["optimizer.decay='a, b'"]


def test_bindings_survive_json():
    assert read_bindings({name: passing.to_json() for name, passing in BINDINGS.items()}) == BINDINGS
