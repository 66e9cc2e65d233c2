"""A script under the launcher cannot tell that it is."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import narf.training.launcher as launcher_module

LAUNCHER = launcher_module.__file__

SCRIPTS = {
    "what it sees": """
import sys
print(__name__, __file__, sys.argv, sys.path[0], __spec__, __package__, __doc__, sorted(name for name in vars() if name.startswith("_")))
import __main__
print(__main__.__file__ == __file__, type(__loader__).__name__, "narf" in " ".join(sys.path[:1]))
""",
    "a traceback": "def f(x):\n    return 1 / x\nprint('before', flush=True)\nf(0)\n",
    "a chained traceback": "try:\n    {}['a']\nexcept KeyError as error:\n    raise ValueError('b') from error\n",
    "a syntax error": "print(1)\nif True print(2)\n",
    "exit 3": "import sys; sys.exit(3)",
    "exit with a text": "import sys; sys.exit('went wrong')",
    "exit without": "raise SystemExit",
    "an import that fails": "import nothing_of_this_name\n",
    "a module beside it": "import beside\nprint(beside.VALUE, beside.__file__)\n",
    "a module that raises": "import raises\n",
    "atexit and threads": """
import atexit, threading
atexit.register(print, "at exit")
threading.Timer(0.05, print, ("from a thread",)).start()
print("end")
""",
    "its own excepthook": "import sys\nsys.excepthook = lambda t, e, tb: print('hook', t.__name__)\n1/0\n",
    "pickles from main": "import pickle\nclass A:\n    pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)\n",
    "multiprocessing spawn": """
import multiprocessing
def double(x):
    return 2 * x
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
""",
    "an encoding": "# -*- coding: latin-1 -*-\nprint(len('\xe4'))\n",
    "interrupted": "raise KeyboardInterrupt\n",
    "asserts": "assert 1 == 2, 'no'\n",
    "an import error below a hooked one": "import argparse\nargparse.ArgumentParser().parse_args(['--nope'])\n",
}


def interpreters():
    """This one, and an old one without Narf: `NARF_TEST_PYTHON`, or python3.9 where it is installed."""
    old = os.environ.get("NARF_TEST_PYTHON") or shutil.which("python3.9")
    if old and subprocess.run([old, "-c", ""], capture_output=True).returncode == 0:
        return [sys.executable, old]
    return [sys.executable]


def run(command, cwd, **environment):
    outside = {name: value for name, value in os.environ.items() if not name.startswith("NARF_") and name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, env={**outside, **environment}, timeout=60)
    return result.returncode, result.stdout.decode("latin-1"), re.sub(r"0x[0-9a-f]+", "0x", result.stderr.decode("latin-1"))


@pytest.mark.parametrize("python", interpreters(), ids=lambda path: Path(path).name)
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_cannot_tell_that_it_is_launched(tmp_path, name, python):
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "script.py").write_bytes(SCRIPTS[name].encode("latin-1"))
    (folder / "beside.py").write_text("VALUE = 5\n")
    (folder / "raises.py").write_text("def f():\n    raise OSError('here')\nf()\n")
    plain = run([python, "code/script.py", "--lr", "0.1"], tmp_path)
    launched = run([python, LAUNCHER, "code/script.py", "--lr", "0.1"], tmp_path, NARF_SPOOL=str(tmp_path / "spool"))
    assert launched == plain


def test_modules_run_as_with_dash_m(tmp_path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__main__.py").write_text("import sys\nprint(__name__, sys.argv, sys.path[0], __package__)\n")
    assert run([sys.executable, LAUNCHER, "-m", "tool", "a"], tmp_path) == run([sys.executable, "-m", "tool", "a"], tmp_path)


def test_a_script_that_is_not_there_is_said_as_python_says_it(tmp_path):
    assert run([sys.executable, LAUNCHER, "nope.py"], tmp_path) == run([sys.executable, "nope.py"], tmp_path)


def test_without_a_script_it_says_how_it_is_used(tmp_path):
    code, _, stderr = run([sys.executable, LAUNCHER], tmp_path)
    assert code == 2
    assert "usage" in stderr


def test_a_terminated_script_dies_by_the_signal(tmp_path):
    (tmp_path / "script.py").write_text("import time\nprint('up', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen([sys.executable, LAUNCHER, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.terminate()
    assert process.wait(20) == -signal.SIGTERM
    process.stdout.close()


def test_a_fork_of_a_warm_process_runs_a_script(tmp_path):
    (tmp_path / "script.py").write_text("""
import atexit, json, sys, threading
atexit.register(print, "at exit")
threading.Timer(0.02, print, ("thread",)).start()
print(__name__, sys.argv)
raise SystemExit(7)
""")
    program = f"""
import os, sys, json
sys.path.insert(0, {str(Path(LAUNCHER).parents[2])!r})
from narf.training import launcher
child = os.fork()
if child == 0:
    launcher.finish(launcher.run_script("script.py", ["a"]))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    code, stdout, stderr = run([sys.executable, "-c", program], tmp_path)
    assert (code, stderr) == (0, "")
    assert stdout.split("\n") == ["__main__ ['script.py', 'a']", "thread", "at exit", "7", ""]


def test_narf_is_importable_under_the_launcher_where_it_is_not_installed(tmp_path):
    (tmp_path / "script.py").write_text("import narf, sys\nnarf.log(loss=1.0)\nprint('pydantic' in sys.modules, 'numpy' in sys.modules)\n")
    python = interpreters()[-1]
    code, stdout, stderr = run([python, LAUNCHER, "script.py"], tmp_path, NARF_SPOOL=str(tmp_path / "spool"))
    assert (code, stdout.strip(), stderr) == (0, "False False", "")
    assert {path.suffix for path in (tmp_path / "spool").iterdir()} >= {".events", ".points"}


def test_nothing_is_imported_for_the_scripts_sake(tmp_path):
    (tmp_path / "script.py").write_text("import sys\nprint(sorted(sys.modules))\n")
    _, stdout, stderr = run([sys.executable, LAUNCHER, "script.py"], tmp_path, NARF_SPOOL=str(tmp_path / "spool"))
    assert stderr == ""
    assert not {"torch", "lightning", "mlflow", "numpy", "argparse", "pydantic", "typer", "wandb", "asyncio"} & set(eval(stdout))


def test_importing_narf_imports_nothing_heavy(tmp_path):
    """So it takes milliseconds: the modules are counted, because time on a busy machine proves nothing."""
    program = "import sys; before = set(sys.modules); import narf; print(*sorted(set(sys.modules) - before))"
    loaded = run([sys.executable, "-c", program], tmp_path)[1].split()
    assert not {name.split(".")[0] for name in loaded} & {"numpy", "torch", "httpx", "pydantic", "mlflow", "pandas", "typer"}
    assert len(loaded) < 60
