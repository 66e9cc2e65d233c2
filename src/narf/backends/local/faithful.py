"""Whether a fork of the zygote can stand in for `python script.py`, decided from what differs between them.

A fork cannot undo what happened while the interpreter and the libraries were loaded. Where that could be
seen by the program it is started from nothing instead: slower, and always right.
"""

from __future__ import annotations

import fnmatch
import os
import re
import sys
from collections.abc import Mapping

from narf.backends.local.program import THREAD_VARIABLES, Program

# Read when Python, the C library, OpenMP or a preloaded library starts, and never again.
_READ_AT_START = (
    "PYTHON*", "LD_*", "OMP_*", "KMP_*", "GOMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "NUMPY_*", "NPY_*", "MALLOC_*", "GLIBC_*",
    "LC_*", "LANG", "LANGUAGE", "TORCH*", "PYTORCH_*", "ATEN_*", "MPL*", "NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS", "TMPDIR", "HOME", "XDG_*",
    "PL_*", "LIGHTNING_*", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__",
)  # fmt: skip


_MOST_TEXT = 1 << 20
_SETS_VARIABLE = re.compile(
    r"""environ\s*\[\s*["'](\w+)["']\s*\]\s*=(?!=)   # os.environ["X"] = ...
    | (?:setdefault|putenv)\(\s*["'](\w+)["']         # os.environ.setdefault("X", ...)
    | environ\.update\(\s*\{?\s*["']?(\w+)           # os.environ.update({"X": ...}), of which the first is looked at
    """,
    re.VERBOSE,
)
_SETS_UP_LOGGING = re.compile(r"^\s*(?:logging\.(?!getLogger\(__name__\)\s*$)\w+.*\(|basicConfig\(|dictConfig\()", re.MULTILINE)
_IMPORT = re.compile(r"^\s*(?:import|from)\s+(\w+)", re.MULTILINE)


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
    if (why := _acts_before_imports(path, loaded)) is not None:
        return why
    if shadowed := sorted(_importable(os.path.dirname(os.path.realpath(path))) & loaded):
        return f"its folder has a module {shadowed[0]!r}, which a loaded one would hide"
    return None


def _is_read_at_start(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _READ_AT_START)


def _is_thread_count(name: str, program: Program) -> bool:
    """Those that we set ourselves can be changed in a running process, as far as they say what we would say."""
    return name in THREAD_VARIABLES and program.environment.get(name, str(program.threads)) == str(program.threads)


def _acts_before_imports(path: str, loaded: frozenset[str]) -> str | None:
    """What the script does before an import that has happened in the zygote already, where the order can be seen.

    Looks at the text of the script alone. Setting OMP_NUM_THREADS before `import torch` is a common idiom.
    """
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read(_MOST_TEXT)
    except OSError:
        return None
    for match in _SETS_VARIABLE.finditer(text):
        name = match[1] or match[2] or match[3]
        if _is_read_at_start(name):
            return f"it sets {name}, which is read when a library is loaded"
    logging = _SETS_UP_LOGGING.search(text)
    if logging is not None:
        for match in _IMPORT.finditer(text, logging.end()):
            if match[1] in loaded and match[1] not in sys.stdlib_module_names:
                return f"it sets up logging before it imports {match[1]}"
    return None


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
