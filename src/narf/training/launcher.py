"""The launcher: runs a file as `python file.py` would, with the hooks installed.

As a process of its own: `python launcher.py [-m] SCRIPT ARGUMENTS...`, with any interpreter from 3.9 on, in which Narf need not be
installed. In a fork of a warm process: `finish(run_script(path, arguments))`.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Python put our folder first on the path: the script must not find our modules there, nor we ours in place of Python's.
    if sys.path and not getattr(sys.flags, "safe_path", False):
        del sys.path[0]

import os
from collections.abc import Sequence
from types import CodeType, ModuleType, TracebackType
from typing import Any, NoReturn

_HERE = os.path.dirname(os.path.abspath(__file__))
_INTERRUPTED = 130


def make_importable() -> None:
    """Make `import narf` find the Narf that this file belongs to, without putting anything on the path."""
    import importlib.util

    if "narf" in sys.modules:
        return
    root = os.path.dirname(_HERE)
    spec = importlib.util.spec_from_file_location("narf", os.path.join(root, "__init__.py"), submodule_search_locations=[root])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["narf"] = module
    spec.loader.exec_module(module)


def run_script(path: str, arguments: Sequence[str] = ()) -> int:
    """Run the file at `path` as `__main__` with the hooks; its exit code. Never raises.

    What the script printed as traceback names its own frames only. The process can go on to exit; it should not run another script.
    """
    return _run(lambda: _exec_file(path), [path, *arguments])


def run_module(name: str, arguments: Sequence[str] = ()) -> int:
    """The same for `python -m name`."""
    import runpy

    def execute() -> None:
        if not getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, os.getcwd())
        sys.modules["__main__"] = _fresh_main()
        runpy._run_module_as_main(name)  # type: ignore[attr-defined] # what `python -m` itself calls

    return _run(execute, ["-m", *arguments])


def finish(code: int) -> NoReturn:
    """End a forked process as Python would: wait for threads, run what was registered, flush; then exit with `code`."""
    import atexit
    import contextlib
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or its reader is gone
                stream.flush()
        os._exit(code)


def _run(execute: Any, argv: list[str]) -> int:
    from narf.training import hooks

    sys.argv = argv
    hooks.install()
    try:
        execute()
        code = 0
    except SystemExit as request:
        code = _exit_code(request)
    except BaseException as error:
        _print(error)
        code = _INTERRUPTED if isinstance(error, KeyboardInterrupt) else 1
    from narf.training import parameters

    said = parameters.nothing_arrived() if code == 0 else ""
    hooks.ended(1 if said else code)
    if said:
        sys.stderr.write(said + "\n")  # the last line is what a trial is said to have failed of
    return 1 if said else code


def _fresh_main() -> ModuleType:
    import builtins

    module = ModuleType("__main__")
    module.__dict__.update(__annotations__={}, __builtins__=builtins)
    return module


def _exec_file(path: str) -> None:
    from importlib.machinery import SourceFileLoader

    from narf.training import parameters

    filename = os.path.join(os.getcwd(), path)
    if not getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, os.path.dirname(os.path.realpath(filename)))
    module = _fresh_main()
    module.__file__ = filename
    module.__loader__ = SourceFileLoader("__main__", filename)
    module.__dict__["__cached__"] = None
    sys.modules["__main__"] = module
    try:
        with open(filename, "rb") as file:
            source = file.read()
    except OSError as error:
        sys.stderr.write(f"{sys.executable}: can't open file {filename!r}: [Errno {error.errno}] {error.strerror}\n")
        raise SystemExit(2) from None
    code: CodeType = parameters.compile_script(source, filename)
    exec(code, module.__dict__)


def _exit_code(request: SystemExit) -> int:
    """What Python makes of `sys.exit(x)`."""
    if request.code is None:
        return 0
    if isinstance(request.code, int):
        return request.code & 0xFF
    sys.stderr.write(f"{request.code}\n")
    return 1


def _print(error: BaseException) -> None:
    """Show the traceback as Python does, without our frames."""
    _strip(error, set())
    try:
        sys.stdout.flush()
        sys.excepthook(type(error), error, error.__traceback__)
    except Exception as second:  # the script's own excepthook
        sys.__excepthook__(type(second), second, second.__traceback__)
        sys.__excepthook__(type(error), error, error.__traceback__)


def _strip(error: BaseException | None, seen: set[int]) -> None:
    if error is None or id(error) in seen:
        return
    seen.add(id(error))
    frames = []
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    kept = [frame for frame in frames if not _is_ours(frame.tb_frame.f_code.co_filename)]
    if len(kept) != len(frames):
        kept = [frame for frame in kept if not frame.tb_frame.f_code.co_filename.startswith("<frozen importlib")]
    for frame, following in zip(kept, [*kept[1:], None]):
        frame.tb_next = following
    error.__traceback__ = kept[0] if kept else None
    _strip(error.__cause__, seen)
    _strip(error.__context__, seen)
    for inner in getattr(error, "exceptions", ()):
        if isinstance(inner, BaseException):
            _strip(inner, seen)


def _is_ours(filename: str) -> bool:
    return filename.startswith(_HERE + os.sep)


def main(arguments: list[str]) -> int:
    if not arguments or arguments == ["-m"]:
        sys.stderr.write("usage: python launcher.py [-m] SCRIPT [ARGUMENTS...]\n")
        return 2
    if arguments[0] == "-m":
        return run_module(arguments[1], arguments[2:])
    return run_script(arguments[0], arguments[1:])


if __name__ == "__main__":
    make_importable()
    from narf.training.launcher import _INTERRUPTED as interrupted
    from narf.training.launcher import main as run

    exit_code = run(sys.argv[1:])
    if exit_code == interrupted:
        # Python ends itself with SIGINT after a KeyboardInterrupt, so that a shell knows; the traceback was shown already.
        sys.excepthook = lambda *_: None
        raise KeyboardInterrupt
    sys.exit(exit_code)
