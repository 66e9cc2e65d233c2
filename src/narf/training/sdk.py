"""`narf.log`, `narf.params` and `narf.artifact`: what a script may add by itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from narf.training import parameters
from narf.training import recorder as recorders

_told = False


def log(values: Mapping[str, Any] | None = None, /, *, step: int | None = None, **more: Any) -> bool:
    """Record metrics: `narf.log(loss=0.3)` or `narf.log({"val/loss": 0.3}, step=7)`; without a step, at the one after the last.

    Returns whether every point is safe on disk: from then on it arrives exactly once, whatever happens to the process or the
    server. Takes microseconds, raises nothing. Tensors on a GPU are fetched by another thread.
    """
    recorder = recorders.current()
    if recorder is None:
        return no_run()
    if more:
        values = {**values, **more} if values else more
    return recorder.log(values or {}, step)


def artifact(source: Any, name: str = "") -> bool:
    """Hand in a file, a folder, or bytes or text under a `name`. Files are copied at once and can be changed or deleted after."""
    recorder = recorders.current()
    if recorder is None:
        return no_run()
    if isinstance(source, bytes) or (isinstance(source, str) and name and not os.path.exists(source)):
        content = source if isinstance(source, bytes) else source.encode()
        return recorder.artifact_bytes(content, name or "artifact")
    path = os.fspath(source)
    if not os.path.isdir(path):
        return recorder.artifact(path, name or os.path.basename(path))
    taken = True
    for folder, _, files in os.walk(path):
        for file in files:
            whole = os.path.join(folder, file)
            taken &= recorder.artifact(whole, os.path.join(name or os.path.basename(path.rstrip("/")), os.path.relpath(whole, path)))
    return taken


class Params(MutableMapping[str, Any]):
    """The run's parameters. Reading one with a default records it; a study's value wins over the default.

    lr = narf.params.get("lr", 1e-3)
    """

    def __init__(self) -> None:
        self._own: dict[str, Any] = {}

    def get(self, name: str, default: Any = None) -> Any:
        """The study's value of `name`, else what was set, else `default`, which is recorded."""
        if name in parameters.values():
            return parameters.placed(name, default)
        if name in self._own:
            return self._own[name]
        if default is not None:
            self[name] = default
        return default

    def __getitem__(self, name: str) -> Any:
        if name in parameters.values():
            return parameters.placed(name, None)
        return self._own[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._own[name] = value
        recorder = recorders.current()
        if recorder is not None:
            recorder.param(name, value)

    def __delitem__(self, name: str) -> None:
        raise TypeError("a recorded parameter cannot be taken back")

    def __iter__(self) -> Iterator[str]:
        return iter({**self._own, **parameters.values()})

    def __len__(self) -> int:
        return len({**self._own, **parameters.values()})

    def __repr__(self) -> str:
        return f"narf.params({ {name: self[name] for name in self} })"


params = Params()


def no_run() -> bool:
    global _told
    if not _told:
        _told = True
        sys.stderr.write('narf: there is no run, so nothing is recorded; start one with "with narf.run(...):" or run with "narf run"\n')
    return False
