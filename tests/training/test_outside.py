"""`narf.run`: a run of a script by hand or a notebook, delivered whatever happens to it or to the control plane."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import narf

BODY = """
import os, narf
with narf.run("by hand", experiment="mine", params={"lr": 0.1}, tags={"team": "a"}):
    for step in range(20):
        narf.log({"loss": 1.0 / (step + 1)}, step=step)
    narf.artifact(b"hello", "note.txt")
    MORE
print("DONE")
"""
LOSS = [(step, 1.0 / (step + 1)) for step in range(20)]


@pytest.fixture
def by_hand(control_plane, tmp_path):
    def by_hand(more="pass"):
        own = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_"))}
        own |= {"NARF_HOME": str(tmp_path), "NARF_URL": control_plane.url, "PYTHONPATH": str(Path(narf.__file__).parents[1])}
        command = [sys.executable, "-c", BODY.replace("MORE", more)]
        return subprocess.run(command, env=own, capture_output=True, text=True, timeout=60)

    return by_hand


def kept(home):
    return sorted(path.name for path in (home / "offline").iterdir())


def test_a_run_by_hand_is_there_when_the_block_is_left(control_plane, by_hand, tmp_path):
    done = by_hand()
    assert (done.stdout, done.stderr) == ("DONE\n", "")
    assert control_plane.statuses == {"run0": "FINISHED"}
    assert control_plane.points("run0") == {"loss": LOSS}
    assert (control_plane.params("run0"), control_plane.tags("run0")) == ({"lr": "0.1"}, {"team": "a"})
    assert control_plane.artifacts == {("run0", "note.txt"): b"hello"}
    assert kept(tmp_path) == []


def test_an_exception_makes_it_a_failed_run_and_rises(control_plane, by_hand):
    done = by_hand("raise KeyError('mine')")
    assert done.returncode == 1 and "KeyError: 'mine'" in done.stderr
    assert control_plane.statuses == {"run0": "FAILED"}
    assert control_plane.points("run0") == {"loss": LOSS}


def test_without_a_control_plane_it_is_kept_and_the_next_run_delivers_it(control_plane, by_hand, tmp_path):
    control_plane.stop()
    done = by_hand()
    assert done.stdout == "DONE\n"
    assert "no control plane at" in done.stderr and "delivered by the next one" in done.stderr
    assert len(kept(tmp_path)) == 1
    control_plane.start()
    assert by_hand().stdout == "DONE\n"
    assert control_plane.statuses == {"run0": "FINISHED", "run1": "FINISHED"}
    assert control_plane.points("run0") == control_plane.points("run1") == {"loss": LOSS}
    assert kept(tmp_path) == []


def test_a_token_that_is_refused_does_not_fail_the_program(control_plane, by_hand, tmp_path):
    control_plane.faults = [401]
    done = by_hand()
    assert done.stdout == "DONE\n"
    assert "401 a fault of the test. Check NARF_TOKEN" in done.stderr
    assert len(kept(tmp_path)) == 1


def test_what_is_refused_at_the_end_is_not_thrown_away(control_plane, by_hand, tmp_path):
    control_plane.forbidden = True  # the token ran out
    done = by_hand()
    assert done.stdout == "DONE\n"
    assert "the next run tries again" in done.stderr
    assert kept(tmp_path) == ["run0"]
    control_plane.forbidden = False
    by_hand()
    assert control_plane.points("run0") == {"loss": LOSS}
    assert control_plane.statuses["run0"] == "FINISHED"
    assert kept(tmp_path) == []


def test_a_kill_loses_nothing(control_plane, by_hand):
    done = by_hand("os.kill(os.getpid(), 9)")
    assert done.returncode == -9
    deadline = time.monotonic() + 20  # its shipper lives on
    while control_plane.points("run0").get("loss") != LOSS:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    by_hand()
    assert control_plane.statuses == {"run0": "KILLED", "run1": "FINISHED"}
    assert control_plane.points("run0") == {"loss": LOSS}
