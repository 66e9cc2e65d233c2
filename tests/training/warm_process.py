"""A process that has imported torch and Lightning once, and forks a launcher for each script that it is sent.

Run as a program: a line of JSON in, a line of JSON out. It is a process of its own because a fork of the tests' own process would
inherit what other tests have started in it: threads of MLflow and of a BLAS pool that do not exist on the other side.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from pathlib import Path


class WarmProcess:
    """The other side: asks for forks, and ends with its user."""

    def __init__(self) -> None:
        own = {name: value for name, value in os.environ.items() if not name.startswith(("NARF_", "MLFLOW_"))}
        self._process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=own)

    def __call__(self, script, *arguments, cwd, timeout=60.0, **environment):
        """(exit code, output) of `script`; negative exit codes are signals."""
        output = Path(cwd) / f"output-{os.urandom(4).hex()}"
        job = {
            "script": str(script),
            "arguments": [str(argument) for argument in arguments],
            "cwd": str(cwd),
            "environment": {name: str(value) for name, value in environment.items()},
            "output": str(output),
        }
        child = self._ask(job)["pid"]
        ended = self._answer(timeout)
        if ended is None:
            os.kill(child, 9)
            self._answer(10)
            raise AssertionError(f"the script did not end in {timeout} s; it printed: {output.read_text()}")
        return ended["code"], output.read_text()

    def _ask(self, job: dict[str, object]) -> dict[str, int]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        started = self._answer(120)
        assert started is not None, "the warm process has not imported its libraries"
        return started

    def _answer(self, timeout: float) -> dict[str, int] | None:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return None
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)


def serve() -> None:
    import lightning.pytorch  # noqa: F401
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        job = json.loads(line)
        child = os.fork()
        if child == 0:
            be_script(job)
        print(json.dumps({"pid": child}), flush=True)
        _, status = os.waitpid(child, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


def be_script(job: dict) -> None:
    code = 99
    try:
        stream = os.open(job["output"], os.O_WRONLY | os.O_CREAT)
        os.dup2(stream, 1)
        os.dup2(stream, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(job["environment"])
        os.chdir(job["cwd"])
        from narf.training import launcher

        code = launcher.run_script(job["script"], job["arguments"])
        launcher.finish(code)
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
