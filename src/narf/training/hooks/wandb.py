"""W&B: what is logged to it is recorded here too. With an account it still goes there; without one, nothing is asked or sent."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training.hooks import guarded, is_forwarded
from narf.training.hooks.arguments import record
from narf.training.imports import when_imported


def install() -> None:
    if recorders.current() is None:
        return
    if not os.environ.get("WANDB_MODE") and not _has_account():
        os.environ["WANDB_MODE"] = "offline"  # else it would ask for a key, and wait
        os.environ.setdefault("WANDB_SILENT", "true")
    when_imported("wandb.sdk.wandb_run", _patch_run)
    when_imported("wandb.sdk.wandb_config", _patch_config)


def _has_account() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        with open(os.environ.get("NETRC") or os.path.expanduser("~/.netrc")) as file:
            return "wandb" in file.read()
    except OSError:
        return False


def _patch_run(module: ModuleType) -> None:
    run: Any = module.Run
    log, finish = run.log, run.finish

    @functools.wraps(log)
    def log_and_record(self: Any, data: Any, step: Any = None, *arguments: Any, **named: Any) -> Any:
        at = step if step is not None else getattr(self, "step", 0)
        result = log(self, data, step, *arguments, **named)
        if not is_forwarded():
            _record(data, at)
        return result

    @functools.wraps(finish)
    def record_and_finish(self: Any, *arguments: Any, **named: Any) -> Any:
        _summary(self)
        return finish(self, *arguments, **named)

    run.log, run.finish = log_and_record, record_and_finish


def _patch_config(module: ModuleType) -> None:
    config: Any = module.Config
    # Every way to change a configuration passes one of these.
    for name in ("update", "setdefaults", "__setitem__", "__setattr__", "update_locked"):
        original = getattr(config, name, None)
        if original is not None:
            setattr(config, name, _then_record(original))


def _then_record(original: Any) -> Any:
    @functools.wraps(original)
    def change(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        _record_config(self)
        return result

    return change


@guarded("wandb")
def _record_config(config: Any) -> None:
    record({name: value for name, value in dict(config).items() if not name.startswith("_")})


@guarded("wandb")
def _record(data: Any, step: Any) -> None:
    recorder = recorders.current()
    if recorder is None or not isinstance(data, Mapping):
        return
    values: dict[str, Any] = {}
    _flatten(data, "", values, int(step or 0))
    if values:
        recorder.log(values, int(step or 0))


def _flatten(data: Mapping[str, Any], prefix: str, values: dict[str, Any], step: int) -> None:
    from narf.training import media

    for name, value in data.items():
        name = f"{prefix}{name}"
        if isinstance(value, Mapping):
            _flatten(value, f"{name}.", values, step)
        elif hasattr(value, "image") and type(value).__name__ == "Image":  # wandb.Image
            media.image(name, value.image, step=step)
        elif hasattr(value, "savefig"):
            media.figure(name, value, step=step)
        elif hasattr(value, "columns") and hasattr(value, "data") and type(value).__name__ == "Table":
            media.table(name, value.data, value.columns, step=step)
        elif isinstance(value, (int, float, str)) or hasattr(value, "__float__"):
            values[name] = value


@guarded("wandb")
def _summary(run: Any) -> None:
    """What the script put into the summary, beside the last value of each metric that W&B puts there itself."""
    recorder = recorders.current()
    if recorder is None:
        return
    for name, value in dict(run.summary).items():
        if not name.startswith("_") and isinstance(value, (int, float, str)) and not recorder.has_metric(name):
            recorder.tag(f"summary.{name}", value)
