"""Smaller pieces of Lightning's state that its checkpoints leave out: metrics of the epoch so far, and whose hyper-parameters win."""

from __future__ import annotations

import json
import sys
from typing import Any


def logged_state(trainer: Any) -> dict[str, Any]:
    """What `self.log` has gathered in the current epoch, as plain values."""
    connector = trainer._logger_connector
    results = trainer.fit_loop.epoch_loop._results
    return {
        "results": {key: _taken(metric) for key, metric in results.items() if not metric.has_reset},
        "metrics": {
            name: ({state: _copy(value) for state, value in metric.metric_state.items()}, metric._update_count)
            for name, metric in _metrics(trainer).items()
        },
        "callback_metrics": {name: _copy(value) for name, value in connector._callback_metrics.items()},
        "logged_metrics": {name: _copy(value) for name, value in connector._logged_metrics.items()},
        "progress_bar_metrics": dict(connector._progress_bar_metrics),
        "first_loop_iter": connector._first_loop_iter,
        "current_fx": connector._current_fx,
    }


def restore_logged_state(trainer: Any, state: dict[str, Any]) -> None:
    """Put it back."""
    connector = trainer._logger_connector
    connector._callback_metrics.update(state["callback_metrics"])
    connector._logged_metrics.update(state["logged_metrics"])
    connector._progress_bar_metrics.update(state["progress_bar_metrics"])
    connector._first_loop_iter = state["first_loop_iter"]
    connector._current_fx = state["current_fx"]
    for key, saved in state["results"].items():
        _give_back(trainer, key, saved)
    metrics = _metrics(trainer)
    for name, (states, count) in state["metrics"].items():
        if name in metrics:
            for one, value in states.items():
                setattr(metrics[name], one, _to(value, metrics[name].device))
            metrics[name]._update_count, metrics[name]._computed = count, None


_META = (
    "fx",
    "name",
    "prog_bar",
    "logger",
    "on_step",
    "on_epoch",
    "reduce_fx",
    "enable_graph",
    "add_dataloader_idx",
    "dataloader_idx",
    "metric_attribute",
)  # of `self.log`
_SYNC = ("_should", "_op", "rank_zero_only")


def _taken(metric: Any) -> dict[str, Any]:
    """One entry of Lightning's result collection as values; what belongs to the trainer is left out."""
    names = ("value", "cumulated_batch_size") if metric.is_tensor else ()
    return {
        "is_tensor": metric.is_tensor,
        "meta": {name: getattr(metric.meta, name) for name in _META},
        "sync": {name: getattr(metric.meta.sync, name) for name in _SYNC},
        "tensors": {name: _copy(getattr(metric, name)) for name in (*names, "_forward_cache") if getattr(metric, name, None) is not None},
        "update_count": metric._update_count,
    }


def _give_back(trainer: Any, key: str, saved: dict[str, Any]) -> None:
    """Make the entry again, as `self.log` would, with what it had gathered."""
    results = trainer.fit_loop.epoch_loop._results
    module = sys.modules[type(results).__module__]
    meta = module._Metadata(**saved["meta"])
    meta.sync = module._Sync(fn=trainer.strategy.reduce, **saved["sync"])
    metric = module._ResultMetric(meta, saved["is_tensor"])
    if not saved["is_tensor"]:
        metric.value = trainer.lightning_module.get_submodule(saved["meta"]["metric_attribute"])
    for name, value in saved["tensors"].items():
        setattr(metric, name, _to(value, trainer.lightning_module.device))
    metric._update_count, metric._computed, metric.has_reset = saved["update_count"], None, False
    results[key] = metric


def _metrics(trainer: Any) -> dict[str, Any]:
    """The torchmetrics that are part of the module; what they have gathered is not in its state_dict."""
    found = {}
    for name, module in trainer.lightning_module.named_modules():
        if hasattr(module, "metric_state") and hasattr(module, "_update_count"):
            found[name] = module
    return found


def fresh_hyperparameters(optimizers: list[Any]) -> list[dict[str, Any]]:
    """The numbers and truths of each parameter group of each optimiser."""
    return [
        {name: value for name, value in group.items() if name != "params" and _is_plain(value)}
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]


def apply_overrides(trainer: Any, fresh: list[dict[str, Any]], before: list[dict[str, Any]], text: str) -> None:
    """Let new hyper-parameters win over those of the checkpoint.

    New are those that the script now builds its optimisers with and did not when the checkpoint's training began (`before`), and
    those that `text` (JSON, option to value) names. With a schedule, the learning rate keeps its place in it: a warm-up half way to
    the old rate is then half way to the new one.
    """
    named = json.loads(text) if text.strip().startswith("{") else {}
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    has_schedule = bool(trainer.lr_scheduler_configs)
    for index, group in enumerate(groups):
        new = {}
        if index < len(fresh):
            old = before[index] if index < len(before) else {}
            new = {name: value for name, value in fresh[index].items() if name in old and old[name] != value}
        new.update({name: value for name, value in named.items() if name in group})
        for name, value in new.items():
            if name == "lr" and has_schedule:
                _rescale(group, value, before[index].get("lr") if index < len(before) else None)
            elif name == "initial_lr":
                continue  # goes with lr
            else:
                group[name] = value
    for config in trainer.lr_scheduler_configs:
        bases = getattr(config.scheduler, "base_lrs", None)
        if bases is not None:
            own = config.scheduler.optimizer.param_groups
            config.scheduler.base_lrs = [group.get("initial_lr", base) for group, base in zip(own, bases)]


def _rescale(group: dict[str, Any], value: float, before: float | None) -> None:
    old = group.get("initial_lr", before)
    group["lr"] = group["lr"] * (value / old) if old else value
    group["initial_lr"] = value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, (tuple, list)) and all(_is_plain(item) for item in value))


def _copy(value: Any) -> Any:
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value.detach().clone() if hasattr(value, "detach") else value


def _to(value: Any, device: Any) -> Any:
    if isinstance(value, list):
        return [_to(item, device) for item in value]
    return value.to(device) if hasattr(value, "to") else value
