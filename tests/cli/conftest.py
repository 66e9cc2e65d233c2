"""A platform as a user has it: started by `narf up` in a home of its own, stopped at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class Terminal:
    """The `narf` command in one home."""

    def __init__(self, home: Path, folder: Path) -> None:
        self.home, self.folder = home, folder
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("NARF_", "MLFLOW_"))}
        self.environment |= {"NARF_HOME": str(home), "NARF_PORT": "0", "XDG_CONFIG_HOME": str(home / "config")}

    def __call__(self, *arguments: str, code: int | None = 0, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, "-m", "narf.cli", *arguments],
            env=self.environment | environment,
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if code is not None:
            assert done.returncode == code, f"narf {' '.join(arguments)} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *arguments: str, code: int | None = 0, **environment: str) -> Any:
        return json.loads(self(*arguments, "--json", code=code, **environment).stdout)

    def script(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return name


@pytest.fixture(scope="module")
def narf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("code"))
    terminal("up")
    yield terminal
    terminal("down", "--all")


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Terminal]:
    """A home in which nothing was started."""
    (tmp_path / "code").mkdir()
    terminal = Terminal(tmp_path / "home", tmp_path / "code")
    yield terminal
    terminal("down", "--all", code=None)
