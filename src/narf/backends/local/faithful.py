"""Whether a fork of the zygote can stand in for `python script.py`, decided from what differs between them.

A fork cannot undo what happened while the interpreter and the libraries were loaded. Where that could be
seen by the program it is started from nothing instead: slower, and always right.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping

from narf.backends.local.program import THREAD_VARIABLES, Program

# Read when Python, the C library, OpenMP or a preloaded library starts, and never again.
_READ_AT_START = (
    "PYTHON*", "LD_*", "OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "NUMPY_*", "NPY_*", "MALLOC_*", "GLIBC_*",
    "LC_*", "LANG", "LANGUAGE", "TORCH*", "PYTORCH_*", "ATEN_*", "MPL*", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "TMPDIR", "HOME", "XDG_*",
    "PL_*", "LIGHTNING_*", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
)  # fmt: skip


def why_not_fork(program: Program, *, started_with: Mapping[str, str], loaded: frozenset[str]) -> str | None:
    """Why `program` must be started from nothing; `None` when a fork gives it the same.

    Args:
        started_with: the variables that the zygote's interpreter began with.
        loaded: the top-level modules that the zygote has imported.
    """
    if program.script is None:
        return "it is a command, not a Python script"
    for name in sorted(set(program.environment) | set(started_with)):
        if _is_read_at_start(name) and program.environment.get(name) != started_with.get(name) and not _is_thread_count(name, program):
            return f"{name} is read when the interpreter starts"
    path = os.path.join(program.folder, program.script)
    if not os.path.isfile(path) or path.endswith((".zip", ".pyz", ".pyc")):
        return "its script is not a Python source file"
    if shadowed := sorted(_importable(os.path.dirname(os.path.realpath(path))) & loaded):
        return f"its folder has a module {shadowed[0]!r}, which a loaded one would hide"
    return None


def _is_read_at_start(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _READ_AT_START)


def _is_thread_count(name: str, program: Program) -> bool:
    """Those that we set ourselves can be changed in a running process, as far as they say what we would say."""
    return name in THREAD_VARIABLES and program.environment.get(name, str(program.threads)) == str(program.threads)


def _importable(folder: str) -> set[str]:
    """The names of the modules and packages in `folder`."""
    names = set()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith((".py", ".so")):
                    names.add(entry.name.partition(".")[0])
                elif entry.name.isidentifier() and entry.is_dir():
                    names.add(entry.name)
    except OSError:
        pass  # the start will say what is wrong with the folder
    return names
