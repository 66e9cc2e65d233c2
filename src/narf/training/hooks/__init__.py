"""The hooks: what is installed around the user's script, each in a module of its own, none able to fail it."""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from narf.training import recorder as recorders

Function = TypeVar("Function", bound=Callable[..., Any])

# In the order of installation. `NARF_HOOKS_OFF` names those to leave out, separated by commas.
_HOOKS = (
    "stopping",
    "segments",
    "facts",
    "arguments",
    "torch_loop",
    "lightning",
    "lightning_resume",
    "mlflow",
    "wandb",
    "tensorboard",
    "printed",
)


def install() -> None:
    """Install every hook into this process. Without `NARF_SPOOL`, only those that resume and stop have something to do."""
    recorder = recorders.current()
    if recorder is not None:
        atexit.register(recorder.end)  # registered first, so it runs last
    off = set(os.environ.get("NARF_HOOKS_OFF", "").split(","))
    for name in _HOOKS:
        if name in off:
            continue
        try:
            importlib.import_module(f"narf.training.hooks.{name}").install()
        except Exception as error:  # a hook must not cost the user their program
            report(name, error)


def ended(code: int) -> None:
    """The script has ended with `code`; threads and exit functions may still run."""
    recorder = recorders.current()
    if recorder is not None:
        recorder.flush()


def report(hook: str, error: BaseException) -> None:
    """Say once that `hook` failed."""
    recorder = recorders.current()
    if recorder is not None:
        recorder.report(f"hook {hook}", f"narf: the {hook} hook failed and the run goes on without it: {type(error).__name__}: {error}")


forwarding: set[int] = set()  # threads in which Lightning hands to the user's own loggers what is recorded already


def is_forwarded() -> bool:
    """Whether what a logger of the user's is given now was recorded where it was made."""
    return bool(forwarding) and threading.get_ident() in forwarding


def guarded(hook: str) -> Callable[[Function], Function]:
    """Decorates code of `hook` that runs inside the user's program: what it raises is reported once and goes no further."""

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def safe(*arguments: Any, **named: Any) -> Any:
            try:
                return function(*arguments, **named)
            except Exception as error:
                report(hook, error)
                return None

        return safe  # type: ignore[return-value]

    return decorate
