"""Which configuration files a script reads, and that it changes nothing in the user's own folder."""

# mypy: allow-untyped-defs, allow-untyped-calls, disable-error-code="no-untyped-call,var-annotated,attr-defined,method-assign,assignment,index"
# It replaces parts of libraries that need not be installed; types would say Any everywhere.

from __future__ import annotations

import os
import sys

from narf.tuning.discovery.probe.found import CONFIGURATION, FOUND

_folders = []
CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "shutil.rmtree", "shutil.move")


def watch(*folders):
    """Write down which configuration files below `folders` are read."""
    _folders.extend(folders)
    roots = [os.path.join(os.path.realpath(folder), "") for folder in folders]

    def hook(event, arguments):
        if event != "open" or not isinstance(arguments[0], (str, bytes, os.PathLike)):
            return
        path = os.fsdecode(arguments[0])
        mode = arguments[1] if len(arguments) > 1 else None
        if not path.lower().endswith((*CONFIGURATION, ".py")) or (isinstance(mode, str) and set(mode) & set("wax+")):
            return
        path = os.path.realpath(path)
        for root in roots:
            if path.startswith(root) and path[len(root) :] not in FOUND["files"] and os.path.isfile(path):
                FOUND["files"].append(path[len(root) :])

    sys.addaudithook(hook)


def tell_modules():
    """Tell the modules that were imported from other files of Python that were read: those were run as a configuration."""
    modules = {
        os.path.realpath(file) for module in list(sys.modules.values()) if isinstance(file := getattr(module, "__file__", None), str)
    }
    roots = [os.path.join(os.path.realpath(folder), "") for folder in _folders]
    FOUND["imported"] = sorted(
        file[len(root) :] for file in modules for root in roots[:1] if file.startswith(root) and file.endswith(".py")
    )
    FOUND["files"] = [name for name in FOUND["files"] if not any(root + name in modules for root in roots)]


def watch_environment(folder):
    """Write down which variables of the environment the code below `folder` asks for."""
    prefix = os.path.join(os.path.realpath(folder), "")
    original = type(os.environ).__getitem__

    def read(variables, name):
        frame = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__") in ("os", "_collections_abc", "collections.abc"):
            frame = frame.f_back
        if frame is not None and os.path.realpath(frame.f_code.co_filename).startswith(prefix):
            FOUND["environment"][str(name)] = None
            FOUND["environment"][str(name)] = original(variables, name)
        return original(variables, name)

    type(os.environ).__getitem__ = read


def guard(folder):
    """Refuse to change anything below `folder`: the user's own."""
    prefix = os.path.join(os.path.realpath(folder), "")

    def is_inside(path):
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        return os.path.realpath(os.fsdecode(path)).startswith(prefix)

    def hook(event, arguments):
        if event == "open":
            path, mode, flags = (*arguments, None, None)[:3]
            writes = (isinstance(mode, str) and set(mode) & set("wax+")) or (
                isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            )
            if writes and is_inside(path):
                raise PermissionError(f"a dry run may not write {path!r}")
        elif event in CHANGES and any(is_inside(item) for item in arguments):
            raise PermissionError(f"a dry run may not change {arguments[0]!r}")

    if folder:
        sys.addaudithook(hook)
