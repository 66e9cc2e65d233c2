"""Turns a fork of the zygote into what `python script.py` would be, and ends it as Python ends.

What a process gets from the kernel is set by `program.enter`; this sets what the interpreter and the
loaded libraries hold: arguments, variables, path, random state, thread counts, and the way out.
"""

from __future__ import annotations

import _io
import atexit
import contextlib
import ctypes
import gc
import io
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, NoReturn

from narf.backends.local.program import Program, enter
from narf.training import launcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """The zygote's state before the fork."""

    started_with: Mapping[str, str]  # the variables of its interpreter
    set_by_imports: Mapping[str, str]  # the variables that importing the libraries has set
    modules: Collection[str]
    last_module: str  # that was imported
    set_blas_threads: tuple[Callable[[int], object], ...]
    path: tuple[str, ...]


def become_script(program: Program, output: int, baseline: Baseline) -> NoReturn:
    """Be `python script.py arguments` from here to the end of this process."""
    try:
        enter(program, output)
        _restore_interpreter(program, baseline)
        _restore_libraries(program, baseline)
    except BaseException as error:  # this is a fork: nothing may return into the zygote's code
        os.write(2, f"narf: cannot start the program: {error}\n".encode(errors="replace"))
        os._exit(126)
    assert program.script is not None
    if program.hooks:
        code = launcher.run_script(program.script, program.arguments)
        interrupted = code == launcher._INTERRUPTED
    else:
        code, interrupted = _run_file(program.script, program.arguments)
    _leave(code, baseline, interrupted=interrupted)


def _restore_interpreter(program: Program, baseline: Baseline) -> None:
    os.environ.clear()
    os.environ.update({**baseline.set_by_imports, **program.environment})
    time.tzset()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)  # as Python does when it starts
    sys.path[:] = baseline.path
    sys.argv = [program.script or "", *program.arguments]
    sys.orig_argv = list(program.argv)
    tempfile.tempdir = None
    logging._startTime = time.time()  # type: ignore[attr-defined]
    process: Any = sys.modules.get("multiprocessing.process")
    if process is not None:
        process.ORIGINAL_DIR = os.path.abspath(os.getcwd())
        process.current_process()._config["authkey"] = process.AuthenticationString(os.urandom(32))


def _restore_libraries(program: Program, baseline: Baseline) -> None:
    """New random states, as after an import, and this program's thread counts. `random` has seen to itself."""
    for set_threads in baseline.set_blas_threads:
        set_threads(program.threads)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if "torch" in sys.modules:
        torch = sys.modules["torch"]
        torch.default_generator.seed()
        torch.set_num_threads(program.threads)


def _run_file(path: str, arguments: tuple[str, ...]) -> tuple[int, bool]:
    """Run the file as `__main__` without hooks; its exit code, and whether it was interrupted."""
    filename = os.path.join(os.getcwd(), path)
    sys.path.insert(0, os.path.dirname(os.path.realpath(filename)))
    module = ModuleType("__main__")
    module.__dict__.update(
        __annotations__={},
        __builtins__=sys.modules["builtins"],
        __file__=filename,
        __cached__=None,
        __loader__=SourceFileLoader("__main__", filename),
    )
    sys.modules["__main__"] = module
    try:
        with io.open_code(filename) as file:
            source = file.read()
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)
    except SystemExit as request:
        if request.code is None or isinstance(request.code, int):
            return (request.code or 0) & 0xFF, False
        sys.stderr.write(f"{request.code}\n")
        return 1, False
    except BaseException as error:
        launcher._print(error.with_traceback(_beyond_here(error)))
        return 1, isinstance(error, KeyboardInterrupt)
    return 0, False


def _beyond_here(error: BaseException) -> Any:
    trace = error.__traceback__
    return trace.tb_next if trace is not None and trace.tb_frame.f_code.co_filename == __file__ else trace


def _leave(code: int, baseline: Baseline, *, interrupted: bool) -> NoReturn:
    """End as Python does: wait for threads, run exit functions, let objects go, flush, exit.

    The interpreter's own teardown would free every library, page by page, for most of a second.
    """
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        _let_go(baseline)
    except BaseException:  # an exit function of the user's; Python prints it and goes on
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            code = code or 120  # Python's own code for output that could not be flushed
    with contextlib.suppress(OSError):  # the supervisor ships what is left while the kernel takes this process apart
        os.closerange(1, 3)
    if interrupted:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def _let_go(baseline: Baseline) -> None:
    """Empty `__main__` and what the program has imported, so that finalisers run and files are flushed."""
    stdio = {id(stream) for stream in (sys.stdin, sys.stdout, sys.stderr, sys.__stdin__, sys.__stdout__, sys.__stderr__)}
    main = sys.modules["__main__"]
    for module in (main, *_imported_since(baseline)):
        names = getattr(module, "__dict__", None)
        if names is not None:
            for name in [name for name in names if name != "__builtins__"]:
                names[name] = None
    # Text first: in a garbage cycle the buffer below it may be closed before it. The class below `io.BufferedIOBase`, an abstract one,
    # which would ask in Python, object by object.
    things = gc.get_objects()
    for kind in (io.TextIOWrapper, _io._BufferedIOBase):
        for thing in things:
            if isinstance(thing, kind) and id(thing) not in stdio and not thing.closed and thing.writable():
                with contextlib.suppress(OSError, ValueError):
                    thing.flush()
    del things
    gc.collect()


def _imported_since(baseline: Baseline) -> list[Any]:
    """What the program has imported, the newest first. Read from the end: to look at a module of the zygote's is to copy its page."""
    own: list[Any] = []
    try:
        for name in reversed(sys.modules):
            if name == baseline.last_module:
                break
            if name not in baseline.modules and name != "__main__":
                own.append(sys.modules[name])
    except (RuntimeError, KeyError):  # a thread of the program's imports at this moment
        return [module for name, module in reversed(list(sys.modules.items())) if name not in baseline.modules and name != "__main__"]
    return own


def blas_thread_setters() -> tuple[Callable[[int], object], ...]:
    """The functions that set the thread count of each OpenBLAS that is loaded."""
    names = [f"{prefix}openblas_set_num_threads{suffix}" for prefix in ("scipy_", "") for suffix in ("64_", "")]
    try:
        with open("/proc/self/maps") as maps:
            paths = sorted({line.split()[-1] for line in maps if "openblas" in line})
    except OSError:
        return ()
    found: list[Callable[[int], object]] = []
    for path in paths:
        library = ctypes.CDLL(path)
        found += [getattr(library, name) for name in names if hasattr(library, name)][:1]
    return tuple(found)
