"""Acting on a module when the script imports it, without importing it ourselves."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any

_waiting: dict[str, list[Callable[[ModuleType], None]]] = {}


def when_imported(name: str, act: Callable[[ModuleType], None]) -> None:
    """Call `act` with module `name`: now if it is loaded (as in a fork of a process that had it), else right after its import."""
    module = sys.modules.get(name)
    if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
        act(module)
        return
    _waiting.setdefault(name, []).append(act)
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)


def compile_beside(compile_source: Callable[[bytes, str], CodeType]) -> None:
    """Compile the modules in the script's own folder with `compile_source` instead of taking Python's cached code, whoever loads them."""
    from importlib.machinery import SourceFileLoader

    original = SourceFileLoader.get_code

    def get_code(loader: Any, fullname: str) -> CodeType | None:
        if not _is_beside_script(loader.path):
            return original(loader, fullname)
        with open(loader.path, "rb") as file:
            return compile_source(file.read(), loader.path)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign,assignment]


class _Finder:
    """Finds nothing itself: lets the other finders find, and wraps how the module they found is executed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _waiting:
            return None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is self or find is None:
                continue
            spec = find(name, path, target)
            if spec is not None:
                _wrap(spec)
                return spec
        return None


def _wrap(spec: Any) -> None:
    loader = spec.loader
    execute = getattr(loader, "exec_module", None)
    if execute is None:
        return

    def exec_module(module: ModuleType) -> None:
        with contextlib.suppress(AttributeError):  # a loader that modules share was unwrapped by another
            del loader.exec_module
        execute(module)
        for act in _waiting.pop(module.__name__, ()):
            act(module)

    try:
        # On the instance: the loader keeps its class and everything else that others ask of it.
        loader.exec_module = exec_module
    except AttributeError:
        return  # a loader without attributes of its own (built in): such modules are not among those we wait for


def _is_beside_script(origin: Any) -> bool:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if not main or not isinstance(origin, str) or not origin.endswith(".py"):
        return False
    folder = os.path.dirname(os.path.realpath(main)) + os.sep
    inside = os.path.realpath(origin)
    return inside.startswith(folder) and os.sep + "site-packages" + os.sep not in inside[len(folder) - 1 :]


_finder = _Finder()
