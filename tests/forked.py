"""Programs that need MLflow, each a fork of one process that has imported it: to import it takes seconds, to fork milliseconds."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["mlflow", "mlflow.pyfunc", "narf.cli.main", "narf.client.mlflow_transfer", "tests.forked"])


def run(program: str | Sequence[str], environment: Mapping[str, str], *, seconds: float = 200) -> str:
    """What it prints: of a program in Python, as `python -c` runs it, or of the narf command with these arguments.

    Raises:
        AssertionError: it did not end well; with what it printed.
    """
    with tempfile.NamedTemporaryFile() as output:
        process = _FORKS.Process(target=_child, args=(program, dict(environment), output.name))
        process.start()
        process.join(seconds)
        if process.is_alive():
            process.kill()
            process.join()
        printed = output.read().decode()
    assert process.exitcode == 0, f"exit code {process.exitcode}\n{printed}"
    return printed


def _child(program: str | Sequence[str], environment: Mapping[str, str], output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["-c"]
    if isinstance(program, str):
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
    else:
        from narf.cli.main import main

        main(list(program))
