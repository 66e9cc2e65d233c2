"""`narf tune` as a user has it: discovery, a search, its results; flags, narf.toml, Python and HTTP say the same; bad input is answered."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import textwrap
import time
import urllib.request
from typing import Any

import pytest

SCRIPT = textwrap.dedent("""
    import argparse
    import narf
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, default=1e-2, help="learning rate")
    parser.add_argument("--hidden", type=int, default=32)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    arguments = parser.parse_args()
    for step in range(3):
        narf.log(loss=(arguments.lr - 0.01) ** 2 + abs(arguments.hidden - 64) / 100 + (arguments.optimizer == "sgd") + 1 / (step + 1), step=step)
    narf.artifact(b"weights", "model.pt")
""")
MEANT = {"trials": 3, "parallel": 1, "sampler": "random", "seed": 7, "metric": "loss", "direction": "minimize"}
SPACE = {"lr": "1e-3..0.1 log", "hidden": "8..128 pow2"}


@pytest.fixture(scope="module")
def script(narf) -> str:
    narf.folder.joinpath("train.py").write_text(SCRIPT)
    return "train.py"


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(f"{done.stdout} {done.stderr}".split())


def trials_of(narf, name: str) -> list[dict[str, Any]]:
    return [{key: trial[key] for key in ("number", "values", "value", "state")} for trial in narf.json("tune", "--show", name)["items"]]


def test_what_can_be_tuned_is_listed(narf, script):
    found = narf.json("tune", script, "--discover")
    by_name = {item["name"]: item for item in found["parameters"]}
    assert set(by_name) == {"lr", "hidden", "optimizer"}
    assert by_name["lr"]["help"] == "learning rate" and by_name["lr"]["type"] == "float" and by_name["lr"]["proposal"]["scale"] == "log"
    assert by_name["hidden"]["proposal"]["scale"] == "pow2" and by_name["optimizer"]["proposal"]["choices"] == ["adam", "sgd"]
    assert [metric["name"] for metric in found["metrics"]] == ["loss"]
    shown = narf("tune", script, "--discover", "--static").stdout
    assert "learning rate" in shown and "loss" in shown


def test_flags_narf_toml_python_and_http_say_the_same(narf, script):
    flags = [f"--param={name}={text}" for name, text in SPACE.items()]
    flags += ["--only", "--trials", "3", "--parallel", "1", "--sampler", "random", "--seed", "7", "--metric", "loss", "--minimize"]
    by_flags = narf.json("tune", script, *flags, "--name", "by-flags")
    lines = [f"{key} = {json.dumps(value)}" for key, value in {**MEANT, "only": True, "name": "by-file"}.items()]
    toml = narf.folder / "narf.toml"
    toml.write_text("[tune]\n" + "\n".join(lines) + "\n[tune.space]\n" + "\n".join(f'{k} = "{v}"' for k, v in SPACE.items()) + "\n")
    try:
        by_file = narf.json("tune", script)
    finally:
        toml.unlink()
    narf.script(
        "search.py",
        f"import narf\nfound = narf.tune('train.py', space={SPACE!r}, name='by-python', **{MEANT!r})\nprint(found.best['command'])\n",
    )
    python = subprocess.run(["python", "search.py"], cwd=narf.folder, env=_with_server(narf), capture_output=True, text=True, timeout=100)
    assert python.returncode == 0, python.stderr
    assert "train.py" in python.stdout and "--lr" in python.stdout
    budget = {"trials": MEANT["trials"]}
    body = {key: value for key, value in MEANT.items() if key != "trials"} | {"budget": budget, "space": SPACE, "only_space": True}
    _post(narf, "projects/default/studies", {**body, "name": "by-http", "script": script, "snapshot": by_flags["snapshot"]})
    _until_over(narf, "by-http")
    shown = [narf.json("tune", "--show", name) for name in ("by-flags", "by-file", "by-python", "by-http")]
    same = ("space", "metric", "direction", "sampler", "seed", "budget", "parallel", "pruner", "engine", "state", "best_value")
    assert by_file["name"] == "by-file" and by_flags["best"]["trial"]["value"] == by_file["best"]["trial"]["value"]
    for other in shown[1:]:
        assert {key: other[key] for key in same} == {key: shown[0][key] for key in same}
    assert all(trials_of(narf, other["name"]) == trials_of(narf, "by-flags") for other in shown[1:])


def test_the_best_trial_and_its_model(narf, script):
    narf("tune", script, "--trials", "2", "--seed", "1", "--metric", "loss", "--name", "digits")
    best = narf.json("tune", "--best", "digits", "--register", "digits")
    assert best["registered"]["version"] and best["trial"]["value"] == min(trial["value"] for trial in trials_of(narf, "digits"))
    assert best["command"].startswith("narf run train.py -- --lr=")
    assert "digits" in narf("models", "list").stdout or "digits" in narf("models").stdout
    assert "digits" in narf("tune", "--list").stdout and "train.py" in narf("tune", "--board").stdout
    assert "lr" in narf("tune", "--importance", "digits").stdout or "trials" in narf("tune", "--importance", "digits").stdout


def test_pause_resume_and_extend(narf, script):
    narf("tune", script, "--trials", "40", "--parallel", "1", "--metric", "loss", "--name", "long", "--detach")
    assert narf.json("tune", "--pause", "long")["state"] == "paused"
    resting = _until(narf, "long", lambda info: info["trials"]["running"] == 0)
    assert resting["state"] == "paused" and sum(resting["trials"].values()) < 40
    assert narf.json("tune", "--extend", "long", "--trials", str(sum(resting["trials"].values()) + 2))["state"] in ("paused", "running")
    assert narf.json("tune", "--resume", "--name", "long")["state"] == "running"
    over = _until_over(narf, "long")
    assert over["state"] == "succeeded" and sum(over["trials"].values()) == sum(resting["trials"].values()) + 2
    assert "whole budget" in said(narf("tune", "--extend", "long", code=None))


def test_trials_that_end_while_the_control_plane_is_away_count_and_none_is_repeated(narf):
    """It comes back at another address, so what they reported has to find it there."""
    go = narf.folder / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    script = narf.script("waits.py", wait + SCRIPT)
    flags = ["--trials", "4", "--parallel", "2", "--cpu", "0.5", "--metric", "loss", "--minimize", "--name", "bereft", "--detach"]
    narf("tune", script, *flags)
    _until(narf, "bereft", lambda info: info["trials"]["running"] == 2)
    jobs = [narf.home / "jobs" / f"{trial['workload_id']}.1" / "state.json" for trial in narf.json("tune", "--show", "bereft")["items"]]
    deadline = time.monotonic() + 60
    while not all(job.exists() and '"running"' in job.read_text() for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(json.loads((narf.home / "run" / "server.json").read_text())["pid"], signal.SIGKILL)
    go.write_text("")
    narf("up")
    assert _until_over(narf, "bereft")["state"] == "succeeded"
    trials = narf.json("tune", "--show", "bereft")["items"]
    assert [trial["state"] for trial in trials] == ["succeeded"] * 4, trials
    assert all(narf.json("show", trial["workload_id"])["attempt"] == 1 for trial in trials)
    assert len(narf.json("runs", "--filter", "tags.`narf.study_name` = 'bereft' and tags.`narf.kind` = 'trial'")["items"]) == 4


@pytest.mark.parametrize(
    ("body", "arguments", "says"),
    [
        ("print('nothing to tune')", [], "parameter"),
        (SCRIPT, ["--metric", "accuracy", "--maximize", "--parallel", "1"], "It reported loss"),
        (SCRIPT, ["--param", "lr=1..2", "--param", "lr=3..4"], "Two parameters are named 'lr'"),
        (SCRIPT, ["--param", "lt=1..2"], "lr"),
        (SCRIPT, ["--param", "lr=0.5..0.1"], "lr"),
        (SCRIPT, ["--param", "lr=.."], "its ends must be numbers"),
        (SCRIPT, ["--skip", "depth"], "no parameter 'depth'"),
        (SCRIPT, ["--only"], "nothing is named"),
        (SCRIPT, ["--param", "lr=0.1..0.2", "--only", "--skip", "lr"], "all are skipped"),
        (SCRIPT, ["--gpu-hours", "nan"], "infinite or no number"),
        (SCRIPT, ["--gpu-hours", "0"], "greater than 0"),
        (SCRIPT, ["--cpu", "0"], "cpu must be more than 0"),
        (SCRIPT.replace("arguments = ", "parser.add_argument('data')\narguments = "), [], "cannot do without data"),
        (SCRIPT.replace("for step", "input()\nfor step"), [], "input on the keyboard"),
        (
            SCRIPT.replace("type=float", "type=lambda t: float(t) if float(t) < 1e-9 else 1 / 0"),
            ["--param", "lr=0.1..0.2", "--only"],
            "fails in the same way",
        ),
        (SCRIPT.replace("for step", "raise RuntimeError('no data')\nfor step"), [], "no data"),
        (SCRIPT.replace("(arguments.lr - 0.01) ** 2", "float('nan')"), [], "no number"),
        (
            SCRIPT.replace("for step", "import time; time.sleep(60)\nfor step"),
            ["--trial-time-limit", "1s", "--parallel", "2"],
            "time limit",
        ),
        (SCRIPT.replace("for step", "import time\nheld = bytearray(400 << 20)\ntime.sleep(20)\nfor step"), ["--memory", "200Mi"], "memory"),
    ],
    ids=[
        "none",
        "no metric",
        "one name twice",
        "unknown",
        "empty range",
        "no ends",
        "skips nothing",
        "only nothing",
        "all skipped",
        "no hours",
        "zero hours",
        "zero cpu",
        "positional",
        "keyboard",
        "rejected",
        "crash",
        "nan",
        "hang",
        "memory",
    ],
)
def test_bad_input_is_answered_with_a_sentence_and_the_study_stops_early(narf, body, arguments, says, request):
    name = request.node.callspec.id.replace(" ", "-")
    script = narf.script(f"bad_{name.replace('-', '_')}.py", body)
    ended = narf("tune", script, "--metric", "loss", "--trials", "12", *arguments, "--name", name, code=None)
    assert ended.returncode != 0 and says.lower() in said(ended).lower()
    assert "Traceback" not in ended.stderr
    studies = {item["name"]: item for item in narf.json("tune", "--list")["items"]}
    if name in studies:  # it was begun: it did not go on to the end of its budget
        assert studies[name]["state"] == "failed" and sum(studies[name]["trials"].values()) < 12


def test_values_that_found_no_place_are_said_by_the_study_and_a_study_of_nothing_else_stops(narf, script):
    narf("tune", script, "--trials", "1", "--metric", "loss", "--param", "lr=0.1..0.2", "--only", "--name", "base")
    base = narf.json("tune", "--show", "base")
    ghost = {"ghost": {"how": "inject", "flag": "ghost"}}
    asked = {
        "snapshot": base["snapshot"],
        "script": "train.py",
        "metric": "loss",
        "direction": "minimize",
        "only_space": True,
        "parallel": 1,
    }
    partly = {"space": {"lr": "0.1..0.2", "ghost": "1..2"}, "bindings": ghost | {"lr": {"how": "option", "flag": "--lr"}}}
    _post(narf, "projects/default/studies", asked | partly | {"name": "partly", "budget": {"trials": 2}})
    assert _until_over(narf, "partly")["warnings"] == ["ghost was not used by the script in trials 0 and 1."]
    assert "warning: ghost was not used" in narf("tune", "--show", "partly").stdout
    _post(
        narf,
        "projects/default/studies",
        asked | {"space": {"ghost": "1..2"}, "bindings": ghost, "name": "unused", "budget": {"trials": 30}},
    )
    ended = _until_over(narf, "unused")
    assert ended["state"] == "failed" and "reached the script, so all trials would be the same: ghost." in ended["sentence"]
    assert sum(ended["trials"].values()) < 12


def test_a_study_is_not_resumed_with_another_space(narf, script):
    narf("tune", script, "--trials", "1", "--metric", "loss", "--param", "lr=0.1..0.2", "--only", "--name", "kept")
    again = narf("tune", script, "--resume", "--name", "kept", "--metric", "loss", "--param", "lr=0.1..0.9", "--only", code=None)
    assert again.returncode != 0 and "space" in said(again)
    assert "Which study" in said(narf("tune", script, "--resume", code=None))


def test_values_of_a_configuration_file_reach_the_script_and_the_file_stays(narf):
    folder = narf.folder / "with_file"
    folder.mkdir()
    text = '{"model": {"lr": 0.5, "hidden": 8}, "out": "runs"}'
    (folder / "settings.json").write_text(text)
    (folder / "train.py").write_text(
        "import json, pathlib, narf\nsettings = json.loads(pathlib.Path(__file__).with_name('settings.json').read_text())\n"
        "narf.log(loss=settings['model']['lr'] * 1000 + settings['model']['hidden'])\n"
    )
    narf("tune", "with_file/train.py", "--trials", "3", "--parallel", "1", "--name", "from-file")
    trials = trials_of(narf, "from-file")
    assert len({trial["values"]["model.lr"] for trial in trials}) == 3
    for trial in trials:
        assert trial["value"] == pytest.approx(trial["values"]["model.lr"] * 1000 + trial["values"]["model.hidden"])
    assert (folder / "settings.json").read_text() == text


def test_what_reading_cannot_follow_is_tuned_after_a_dry_run_from_the_terminal_and_from_python(narf):
    narf.script(
        "open.py",
        "import argparse, narf\np = argparse.ArgumentParser()\n"
        "for name in ' lr momentum '.split():\n    p.add_argument('--' + name, type=float, default=0.1)\n"
        "a = p.parse_args()\nnarf.log(loss=a.lr + a.momentum)\n",
    )
    told = narf("tune", "open.py", "--trials", "2", "--name", "open-cli")
    assert "starting it up to where it trains told more" in said(told)
    narf.script("by_python.py", "import narf\nprint(sorted(narf.tune('open.py', trials=2, name='open-python').best_values))\n")
    python = subprocess.run(
        ["python", "by_python.py"], cwd=narf.folder, env=_with_server(narf), capture_output=True, text=True, timeout=100
    )
    assert python.stdout == "['lr', 'momentum']\n", python.stderr
    assert trials_of(narf, "open-cli") == trials_of(narf, "open-python")


def test_python_reads_narf_toml_and_what_it_says_itself_goes_first(narf, script):
    (narf.folder / "narf.toml").write_text(
        '[tune]\ntrials = 3\nmetric = "loss"\nsampler = "random"\nskip = ["hidden"]\n[tune.space]\nlr = "0.1..0.2"\n'
    )
    narf.script("settings.py", "import narf\nprint(narf.tune('train.py', trials=2, name='by-toml').info['budget'])\n")
    try:
        python = subprocess.run(
            ["python", "settings.py"], cwd=narf.folder, env=_with_server(narf), capture_output=True, text=True, timeout=100
        )
    finally:
        (narf.folder / "narf.toml").unlink()
    assert python.returncode == 0, python.stderr
    shown = narf.json("tune", "--show", "by-toml")
    assert (shown["sampler"], shown["budget"]["trials"]) == ("random", 2)
    trials = trials_of(narf, "by-toml")
    assert all(set(trial["values"]) == {"lr", "optimizer"} and 0.1 <= trial["values"]["lr"] <= 0.2 for trial in trials) and len(trials) == 2


@pytest.mark.slow
def test_python_starts_the_platform_when_none_is_up(fresh):
    fresh.script("train.py", SCRIPT)
    fresh.script("search.py", "import narf\nprint(narf.tune('train.py', trials=1, metric='loss').state)\n")
    python = subprocess.run(["python", "search.py"], cwd=fresh.folder, env=_with_server(fresh), capture_output=True, text=True, timeout=100)
    assert python.stdout == "succeeded\n", python.stderr
    broken = _with_server(fresh) | {"NARF_HOME": f"{fresh.home}-two", "NARF_PORT": "seven"}
    refused = subprocess.run(["python", "search.py"], cwd=fresh.folder, env=broken, capture_output=True, text=True, timeout=100)
    assert "Narf could not be started. NARF_PORT" in refused.stderr


def _with_server(narf) -> dict[str, str]:
    import os
    import sys

    return narf.environment | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ.get('PATH', '')}"}


def _until(narf, name: str, holds) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while not holds(info := narf.json("tune", "--show", name)):
        assert time.monotonic() < deadline, info
    return info


def _until_over(narf, name: str) -> dict[str, Any]:
    return _until(narf, name, lambda info: info["state"] in ("succeeded", "failed", "cancelled"))


def _post(narf, path: str, body: dict[str, Any]) -> Any:
    server = json.loads((narf.home / "run" / "server.json").read_text())
    request = urllib.request.Request(
        f"{server['url']}/api/v1/{path}",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {server['token']}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.load(answer)
