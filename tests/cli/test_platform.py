"""The platform as its user meets it: up, run, follow, cancel, kill, down; and everything that goes wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.cli.conftest import Terminal


def eventually(look: Callable[[], Any], within: float = 40.0) -> Any:
    deadline = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
    return found


def test_up_twice_starts_one_platform(narf: Terminal):
    first, again = narf.json("status")["url"], narf.json("up")
    assert again["url"] == first
    assert again["started"] is False


def test_a_script_runs_and_its_output_is_followed(narf: Terminal):
    script = narf.script("hello.py", "import sys\nprint('hello', sys.argv[1:])\n")
    done = narf("run", "--follow", script, "--", "--lr", "0.1")
    assert done.stdout == "hello ['--lr', '0.1']\n"
    assert "succeeded" in done.stderr


def test_run_says_its_ids_in_json(narf: Terminal):
    submitted = narf.json("run", narf.script("ids.py", "pass"))
    assert submitted["workload_id"].startswith("wl-")
    assert len(submitted["run_id"]) == 32


def test_the_exit_code_of_a_followed_program_is_passed_on(narf: Terminal):
    done = narf("run", "--follow", narf.script("three.py", "raise SystemExit(3)"), code=3)
    assert "exit code 3" in done.stderr


def test_any_command_runs(narf: Terminal):
    assert narf("run", "--follow", "--", "sh", "-c", "echo $((6*7))").stdout == "42\n"


def test_output_stays_after_the_end(narf: Terminal):
    workload = narf("run", narf.script("kept.py", "print('kept')")).stdout.strip()
    eventually(lambda: narf.json("show", workload)["ended_at"])
    assert narf("logs", workload).stdout == "kept\n"


def test_what_was_submitted_runs_even_if_the_folder_changes(narf: Terminal):
    blocker = narf.json("run", "--cpu", str(os.cpu_count()), narf.script("sleep.py", "import time; time.sleep(60)"))["workload_id"]
    eventually(lambda: narf.json("show", blocker)["state"] == "running")
    waiting = narf.json("run", narf.script("version.py", "print('first')"))["workload_id"]
    narf.script("version.py", "print('second')")
    assert narf.json("show", waiting)["state"] == "queued"
    narf("cancel", blocker)
    eventually(lambda: narf.json("show", waiting)["ended_at"])
    assert narf("logs", waiting).stdout == "first\n"
    assert narf.json("show", blocker)["state"] == "cancelled"


def test_a_killed_control_plane_finds_what_runs_again_and_misses_no_line(narf: Terminal):
    go = narf.folder / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    lines = "print('before', flush=True)\n" + wait + "for i in range(100): print(i, flush=True)\n"
    running = narf.json("run", narf.script("lines.py", lines))["workload_id"]
    failing = narf.json("run", narf.script("seven.py", wait + "raise SystemExit(7)"))["workload_id"]
    eventually(lambda: {narf.json("show", one)["state"] for one in (running, failing)} == {"running"})
    os.kill(json.loads((narf.home / "run" / "server.json").read_text())["pid"], signal.SIGKILL)
    go.write_text("")  # both end while there is no control plane
    jobs = [narf.home / "jobs" / f"{one}.1" / "state.json" for one in (running, failing)]
    eventually(lambda: all(json.loads(job.read_text())["phase"] == "ended" for job in jobs))
    narf("up")
    eventually(lambda: all(narf.json("show", one)["ended_at"] for one in (running, failing)))
    assert narf.json("show", running)["state"] == "succeeded"
    assert narf.json("show", running)["attempt"] == 1
    assert narf.json("show", failing)["exit_code"] == 7
    assert narf("logs", running).stdout.split() == ["before", *(str(i) for i in range(100))]


def test_all_can_be_paused_with_the_platform_and_goes_on_with_it(fresh: Terminal):
    fresh.script("long.py", "import time\nprint('attempt', flush=True)\ntime.sleep(600)\n")
    workload = fresh.json("run", "long.py")["workload_id"]
    eventually(lambda: "attempt" in fresh("logs", workload).stdout)
    assert fresh.json("down")["running"] == [f"{workload}.1"]
    assert fresh.json("down", "--all") == {"id": "local", "stopped": False, "running": [], "paused": 1}
    fresh("up", "--port", "0")
    eventually(lambda: (fresh.json("show", workload)["attempt"], fresh.json("show", workload)["state"]) == (2, "running"))
    fresh("cancel", workload)


def test_a_backup_taken_while_up_brings_everything_back(narf: Terminal, fresh: Terminal):
    workload = narf("run", "--follow", "--json", narf.script("saved.py", "print('saved')")).stdout
    workload_id = json.loads(workload)["workload_id"]
    file = fresh.folder / "backup.tar.gz"
    narf("backup", str(file))
    assert narf("backup", str(file), code=1).stderr.startswith("narf: ")  # never overwrites
    fresh("restore", str(file))
    fresh("up")
    assert fresh.json("show", workload_id)["state"] == "succeeded"
    assert fresh("logs", workload_id).stdout == "saved\n"
    assert fresh("restore", str(file), code=2).stderr  # never over a platform


def test_a_damaged_backup_changes_nothing(fresh: Terminal):
    (fresh.folder / "broken.tar.gz").write_bytes(b"\x1f\x8b nonsense")
    assert "no whole backup" in fresh("restore", "broken.tar.gz", code=1).stderr
    assert not (fresh.home / "narf.db").exists()


def test_gc_keeps_what_is_young(narf: Terminal):
    swept = narf.json("gc", "--dry-run")
    assert swept["deleted"] == {"jobs": 0, "checkpoints": 0, "environments": 0, "objects": 0}
    assert swept["disk"]["parts"]["jobs"] > 0


def test_doctor_finds_a_healthy_platform(narf: Terminal):
    states = {finding["id"]: finding["state"] for finding in narf.json("doctor")["items"]}
    assert states["platform"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run", "missing.py"], 2, "There is no script missing.py"),
        (["run", "."], 2, "is a folder"),
        (["run", "--gpu", "1.5", "ok.py"], 2, "whole numbers"),
        (["run", "--memory", "lots", "ok.py"], 2, "is no size"),
        (["run", "--data", "nothing@v1", "ok.py"], 3, "nothing"),
        (["run", "--project", "nowhere", "ok.py"], 3, "nowhere"),
        (["run", "--project", "../" * 50, "ok.py"], 3, "There is no"),
        (["run", "--notify", "ftp://x", "ok.py"], 2, "no address"),
        (["show", "wl-nothing"], 3, "There is no workload"),
        (["show", "x" * 10_000], 3, "There is no workload"),
        *(([command, "my-name"], 3, "List them: narf ps") for command in ("show", "why", "logs", "cancel")),
        (["tune", "--show", "my-name"], 3, "List them: narf tune --list"),
        (["project", "create", "a" * 10_000], 2, "cannot name a project"),
        (["project", "create", "../../etc"], 2, "cannot name a project"),
        (["secret", "set", "a b"], 2, "cannot name a secret"),
        (["nonsense"], 2, "no command"),
        (["run", "syntax.py"], 2, "syntax error in line 1"),
    ],
)
def test_bad_input_is_answered_with_a_sentence_and_a_code(narf: Terminal, arguments: list[str], code: int, says: str):
    narf.script("ok.py", "pass")
    narf.script("syntax.py", "def f(:\n")
    done = narf(*arguments, code=code, stdin="x")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_errors_are_json_too(narf: Terminal):
    done = narf("show", "wl-nothing", "--json", code=3)
    assert json.loads(done.stderr)["error"]["code"] == "not_found"


def test_a_port_in_use_is_said(fresh: Terminal):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = fresh("up", "--port", str(taken.getsockname()[1]), code=5)
    assert "cannot be used" in done.stderr
    assert "--port 0" in done.stderr


def test_a_wrong_setting_is_said(fresh: Terminal):
    done = fresh("up", code=5, NARF_GATEWAY_PORT="many")
    assert "NARF_GATEWAY_PORT" in done.stderr


def test_an_address_others_can_reach_needs_accounts(fresh: Terminal):
    done = fresh("up", "--host", "0.0.0.0", code=5)
    assert "no account here has a password" in done.stderr


def test_an_unwritable_home_is_said(fresh: Terminal):
    fresh.home.write_text("a file is in the way")
    done = fresh("up", code=2)
    assert "cannot be written" in done.stderr
    fresh.home.unlink()


def test_a_damaged_database_is_said(fresh: Terminal):
    fresh.home.mkdir()
    (fresh.home / "narf.db").write_bytes(b"this is no database" * 100)
    done = fresh("up", code=5)
    assert "narf.db" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_damaged_server_file_is_passed_over(fresh: Terminal):
    (fresh.home / "run").mkdir(parents=True)
    (fresh.home / "run" / "server.json").write_text("{")
    assert fresh.json("up")["started"] is True


def test_two_at_once_start_one_platform(fresh: Terminal):
    command = [sys.executable, "-m", "narf.cli", "up", "--json"]
    both = [subprocess.Popen(command, env=fresh.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    answers = [json.loads(process.communicate(timeout=120)[0]) for process in both]
    assert answers[0]["pid"] == answers[1]["pid"]
    assert sorted(answer["started"] for answer in answers) == [False, True]


def test_nothing_is_up_is_said_with_what_to_do(fresh: Terminal):
    for arguments in (["status"], ["ps"], ["open"], ["run", "--no-up", fresh.script("x.py", "pass")]):
        done = fresh(*arguments, code=5)
        assert "narf up" in done.stderr


def test_help_is_quick_and_complete(narf: Terminal):
    from narf.cli.main import commands

    text = narf("--help").stdout
    for name in commands():
        assert f"  {name}" in text
        shown = narf(name, "--help").stdout
        assert "Example" in shown or "Commands:" in shown, name
