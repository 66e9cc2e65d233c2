# ruff: noqa: E402, SIM115
"""What the interpreter and the kernel say of this process."""

import os

DESCRIPTORS = sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1]  # the last one is the listing itself
THREADS = len(os.listdir("/proc/self/task"))

import atexit
import gc
import locale
import logging
import multiprocessing
import resource
import signal
import stat
import sys
import tempfile
import threading
import warnings

print("name", __name__, "file", os.path.relpath(__file__, os.getcwd()), "spec", __spec__, "package", __package__)
print(
    "main", sorted(name for name in vars(sys.modules["__main__"]) if name.startswith("__")), sys.modules["__main__"].__dict__ is globals()
)
print("loader", type(__loader__).__name__, "builtins", type(__builtins__).__name__)
print("argv", sys.argv, "path", os.path.relpath(sys.path[0], os.getcwd()), sys.path[1:])
print("executable", sys.executable, sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode)
print("descriptors", DESCRIPTORS, "threads", THREADS, threading.active_count(), threading.current_thread() is threading.main_thread())
print(
    "handlers",
    [(s.name, str(signal.getsignal(s)).split(" at ")[0]) for s in sorted(signal.valid_signals()) if isinstance(s, signal.Signals)],
)
print("mask", sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "wakeup", signal.set_wakeup_fd(-1))
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering, stream.newlines, type(stream.buffer).__name__)
print("unbuffered", sys.stdout.write_through, sys.__stdout__ is sys.stdout, "stdin", repr(sys.stdin.read()))
print(
    "umask", oct(os.umask(0o22)), "group leader", os.getpgrp() == os.getpid(), "terminal", os.isatty(1), stat.S_ISFIFO(os.fstat(1).st_mode)
)
print("affinity", len(os.sched_getaffinity(0)), "nice", os.nice(0))
print("limits", [resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")])
print("gc", gc.isenabled(), gc.get_threshold(), "recursion", sys.getrecursionlimit(), "locale", locale.getlocale())
print("temporary", tempfile.gettempdir(), "process", multiprocessing.current_process().name, multiprocessing.parent_process())
print("start method", multiprocessing.get_start_method(allow_none=True), "active", multiprocessing.active_children())
print(
    "hooks",
    sys.excepthook is sys.__excepthook__,
    sys.displayhook is sys.__displayhook__,
    sys.gettrace(),
    sys.getprofile(),
    threading.excepthook,
)
print("logging", logging.getLogger().handlers, logging.getLogger().level, "utf8", sys.flags.utf8_mode, sys.getfilesystemencoding())
print(
    "variables",
    {k: v for k, v in sorted(os.environ.items()) if k not in {"MASTER_PORT"} and not k.startswith(("TORCHINDUCTOR", "PYTORCH_NVML"))},
)
print("cwd", os.path.basename(os.getcwd()), sorted(os.listdir(".")))
print("children", open(f"/proc/self/task/{os.getpid()}/children").read())
assert callable(atexit.register) and warnings.filters
