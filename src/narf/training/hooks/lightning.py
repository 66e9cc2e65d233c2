"""What a Lightning script logs, and what it would want to have logged: metrics, loss, learning rates, speed, the model's summary.

Nothing is added to the trainer's callbacks or loggers. Values are taken where Lightning has just made them; those on a GPU are
fetched by another thread.
"""

from __future__ import annotations

import functools
import os
import sys
import threading
import time
import weakref
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training.hooks import forwarding, guarded, report, torch_loop
from narf.training.hooks.arguments import record
from narf.training.hooks.lightning_checkpoints import declare_checkpoints
from narf.training.imports import when_imported

_LIGHTNINGS = ("lightning.pytorch", "pytorch_lightning")
_SPEED_SECONDS = 1.0  # between two points of the speeds
_HEARTBEAT_SECONDS = 5.0
_fits_seen = 0


def install() -> None:
    if recorders.current() is None:
        return
    for name in _LIGHTNINGS:
        when_imported(f"{name}.trainer.trainer", functools.partial(_patch, name))
        when_imported(f"{name}.core.module", functools.partial(_keep_arguments, "LightningModule"))
        when_imported(f"{name}.core.datamodule", functools.partial(_keep_arguments, "LightningDataModule"))
        when_imported(f"{name}.cli", _patch_cli)


class Watch:
    """Follows one trainer."""

    def __init__(self, trainer: Any, recorder: recorders.Recorder) -> None:
        self.trainer = trainer
        self.recorder = recorder
        self.is_recording = trainer.is_global_zero and not trainer.fast_dev_run
        self.last: dict[str, Any] = {}  # the tensors recorded last: Lightning shows old ones again
        self.rates: list[float] = []  # recorded last
        self.used_rates: list[float] = []  # of the last step
        self.loss: Any = None
        self.samples = 0
        self.batches = 0
        self.waited = 0.0
        self.since = time.perf_counter()
        self.heartbeat_at = 0.0
        self.is_told = False
        self.evaluation_steps = 0

    def step(self) -> int:
        """Where Lightning's own loggers would put a value now."""
        return int(self.trainer.fit_loop.epoch_loop._batches_that_stepped)

    @guarded("lightning")
    def batch_end(self, logged: dict[str, Any]) -> None:
        trainer = self.trainer
        if trainer.sanity_checking:
            return
        now = time.perf_counter()
        if not trainer.is_global_zero:
            return self._heartbeat(now)
        if not self.is_recording:
            return
        if not trainer.training:
            self.evaluation_steps += 1
            return self._record(self._fresh(logged), self.evaluation_steps)
        if trainer.accumulate_grad_batches > 1 and trainer.fit_loop._should_accumulate():
            return
        values = self._fresh(logged)
        step = self.step()
        if self.loss is not None and "loss" not in logged:
            values["loss"] = self.loss
        self.loss = None
        self._rates(values)
        if now - self.since >= _SPEED_SECONDS:
            self._speed(values, now)
        self._record(values, step)

    @guarded("lightning")
    def epoch_end(self, logged: dict[str, Any]) -> None:
        """Means over an epoch of training, validation or test."""
        if not self.is_recording or self.trainer.sanity_checking:
            return
        step = self.step() - 1 if self.trainer.training else self.step()
        values = self._fresh(logged)
        if self.trainer.training:
            values["epoch"] = float(self.trainer.current_epoch)
        self._record(values, max(step, 0))

    def _fresh(self, logged: dict[str, Any]) -> dict[str, Any]:
        last = self.last
        values = {}
        for name, value in logged.items():
            old = last.get(name)
            # Another tensor each time, but of the same memory, which cannot be used anew while `last` holds it.
            if old is None or old.data_ptr() != value.data_ptr():
                last[name] = value
                values[name] = value
        return values

    def _record(self, values: dict[str, Any], step: int) -> None:
        for name, value in values.items():
            # `item` of a tensor in memory takes a fraction of what `float` does; others are left to the recorder.
            if type(value) is not float and getattr(value, "is_cpu", False):
                values[name] = value.item()
        if values:
            self.recorder.log(values, step)

    def _rates(self, values: dict[str, Any]) -> None:
        """Learning rates, when one has changed."""
        rates = self.used_rates
        if rates != self.rates:
            self.rates = rates
            for index, rate in enumerate(rates):
                values["lr" if len(rates) == 1 else f"lr/{index}"] = rate

    @guarded("lightning")
    def stepped(self, output: Any) -> None:
        """The optimiser has stepped; what changes the rates for the next step has not yet."""
        self.used_rates = [group["lr"] for optimizer in self.trainer.optimizers for group in optimizer.param_groups]
        self.loss = output.get("loss") if isinstance(output, dict) else None

    def _speed(self, values: dict[str, Any], now: float) -> None:
        passed = now - self.since
        values["steps_per_second"] = self.batches / passed
        if self.samples:
            values["samples_per_second"] = self.samples / passed
        values["data_wait"] = min(1.0, self.waited / passed)  # the share of the time spent waiting for data
        self.samples, self.batches, self.waited, self.since = 0, 0, 0.0, now

    def _heartbeat(self, now: float) -> None:
        """A rank that records nothing shows that it lives, and where it is."""
        if now < self.heartbeat_at:
            return
        self.heartbeat_at = now + _HEARTBEAT_SECONDS
        self.recorder.heartbeat(self.trainer.global_rank, self.trainer.global_step)

    @guarded("lightning")
    def fit_starts(self) -> None:
        global _fits_seen
        _fits_seen += 1
        self.since, self.samples, self.batches, self.waited = time.perf_counter(), 0, 0, 0.0
        torch_loop.pause(True)  # the loss and the rates are ours
        if not self.is_recording:
            return
        self.recorder.phase("training")
        module = self.trainer.lightning_module
        for holder in (module, self.trainer.datamodule):
            hparams = getattr(holder, "hparams", None)
            if hparams:
                record(dict(hparams))
            if holder is not None and not _cli_has_recorded:
                record({key: value for key, value in _arguments.get(holder, {}).items() if key not in (hparams or {})})
        tags = {
            "model.class": type(module).__name__,
            "model.parameters": sum(parameter.numel() for parameter in module.parameters() if not _is_lazy(parameter)),
            "model.trainable_parameters": sum(p.numel() for p in module.parameters() if p.requires_grad and not _is_lazy(p)),
            "trainer.max_epochs": self.trainer.max_epochs,
            "trainer.max_steps": self.trainer.max_steps,
            "trainer.precision": self.trainer.precision,
            "trainer.accelerator": type(self.trainer.accelerator).__name__,
            "trainer.devices": self.trainer.num_devices,
            "trainer.world_size": self.trainer.world_size,
            "optimizer": ", ".join(type(optimizer).__name__ for optimizer in self.trainer.optimizers),
        }
        for name, value in tags.items():
            self.recorder.tag(name, value)
        if _fits_seen == 1:
            self.recorder.artifact_bytes(_summary(module).encode(), "model/summary.txt")

    @guarded("lightning")
    def fit_ends(self) -> None:
        torch_loop.pause(False)
        if self.is_recording:
            declare_checkpoints(self.trainer, self.recorder)


# Beside the trainers, not in them: a trainer is pickled by some strategies.
_watches: weakref.WeakKeyDictionary[Any, Watch] = weakref.WeakKeyDictionary()


def _watch(trainer: Any) -> Watch | None:
    watch = _watches.get(trainer)
    if watch is None:
        recorder = recorders.current()
        if recorder is None:
            return None
        watch = _watches[trainer] = Watch(trainer, recorder)
    return watch


def _patch(name: str, module: ModuleType) -> None:
    def find(path: str) -> Any:
        return sys.modules[f"{name}.{path}"]

    try:
        loggers = find("trainer.connectors.logger_connector.logger_connector")._LoggerConnector
        results = find("trainer.connectors.logger_connector.result")._ResultCollection
        fit_loop = find("loops.fit_loop")._FitLoop
        epoch_loop = find("loops.training_epoch_loop")._TrainingEpochLoop
        automatic = find("loops.optimization.automatic")._AutomaticOptimization
        manual = find("loops.optimization.manual")._ManualOptimization
        wrapped = [
            (results, "metrics", _metrics(results.metrics)),
            (loggers, "on_batch_start", _on_batch_start(loggers.on_batch_start)),
            (loggers, "on_batch_end", _on_batch_end(loggers.on_batch_end)),
            (loggers, "on_epoch_end", _on_epoch_end(loggers.on_epoch_end)),
            (loggers, "log_metrics", _forward(loggers.log_metrics)),
            (loggers, "update_eval_epoch_metrics", _on_evaluation_end(loggers.update_eval_epoch_metrics)),
            (automatic, "run", _optimize(automatic.run)),
            (manual, "run", _optimize(manual.run)),
            (fit_loop, "run", _fit(fit_loop.run)),
            (epoch_loop, "advance", _advance(epoch_loop.advance)),
        ]
        subprocess_launcher = sys.modules.get("lightning.fabric.strategies.launchers.subprocess_script") or sys.modules.get(
            "lightning_fabric.strategies.launchers.subprocess_script"
        )
    except (AttributeError, KeyError) as error:
        return report("lightning", RuntimeError(f"this version of {name} is not supported: {error}"))
    for owner, attribute, replacement in wrapped:  # all or none
        setattr(owner, attribute, replacement)
    if subprocess_launcher is not None and hasattr(subprocess_launcher, "_basic_subprocess_cmd"):
        _launch_ranks_with_hooks(subprocess_launcher, name)


_made: list[dict[str, Any]] = [{}]  # what `_ResultCollection.metrics` returned last: the caller throws the names away


def _metrics(original: Any) -> Any:
    @functools.wraps(original)
    def metrics(self: Any, on_step: bool) -> Any:
        result = original(self, on_step)
        logged = result["log"]
        if len(result["callback"]) > len(logged):
            _add_unlogged(logged, result["callback"], self, on_step)
        else:
            _made[0] = logged
        return result

    return metrics


def _add_unlogged(logged: dict[str, Any], others: dict[str, Any], results: Any, on_step: bool) -> None:
    """Metrics logged with `logger=False` are metrics too. A forked one is among the others under two names."""
    known = {metric.meta.name for _, metric in results.valid_items() if metric.meta.logger}
    _made[0] = {**{name: value for name, value in others.items() if name not in known and f"{name}_epoch" not in others}, **logged}


def _on_batch_start(original: Any) -> Any:
    @functools.wraps(original)
    def on_batch_start(self: Any, batch: Any, *arguments: Any, **named: Any) -> Any:
        trainer = self.trainer
        if trainer.training:
            watch = _watches.get(trainer)
            if watch is not None:
                watch.waited += time.perf_counter() - _fetching[0]
                watch.batches += 1
                watch.samples += _size(batch) * trainer.world_size
        return original(self, batch, *arguments, **named)

    return on_batch_start


def _on_batch_end(original: Any) -> Any:
    @functools.wraps(original)
    def on_batch_end(self: Any) -> Any:
        original(self)
        watch = _watch(self.trainer)
        if watch is not None:
            watch.batch_end(_made[0])

    return on_batch_end


def _on_epoch_end(original: Any) -> Any:
    @functools.wraps(original)
    def on_epoch_end(self: Any) -> Any:
        original(self)
        # Lightning calls this after an evaluation too, whose means come by `update_eval_epoch_metrics`.
        if self.trainer.training:
            watch = _watch(self.trainer)
            if watch is not None:
                watch.epoch_end(_made[0])

    return on_epoch_end


def _on_evaluation_end(original: Any) -> Any:
    @functools.wraps(original)
    def update_eval_epoch_metrics(self: Any) -> Any:
        _made[0] = {}
        result = original(self)
        watch = _watch(self.trainer)
        if watch is not None and not self.trainer.sanity_checking:
            watch.epoch_end(_made[0])
        return result

    return update_eval_epoch_metrics


_arguments: weakref.WeakKeyDictionary[Any, dict[str, Any]] = weakref.WeakKeyDictionary()  # plain ones that modules were made with
_cli_has_recorded = False


def _keep_arguments(name: str, module: ModuleType) -> None:
    """Remember what the script makes its modules with: not every module calls `save_hyperparameters`."""
    owner: Any = getattr(module, name)
    if "__new__" in vars(owner):
        return

    def new(cls: Any, *arguments: Any, **named: Any) -> Any:
        make = super(owner, cls).__new__
        made = make(cls) if make is object.__new__ else make(cls, *arguments, **named)
        if arguments or named:
            _remember(made, arguments, named)
        return made

    owner.__new__ = new


@guarded("lightning")
def _remember(made: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    import inspect

    bound = inspect.signature(type(made).__init__).bind_partial(made, *arguments, **named)
    bound.apply_defaults()
    plain = {key: value for key, value in list(bound.arguments.items())[1:] if isinstance(value, (bool, int, float, str))}
    more = {key: value for key, value in bound.kwargs.items() if isinstance(value, (bool, int, float, str))}
    _arguments[made] = {**plain, **more}


def _patch_cli(module: ModuleType) -> None:
    """LightningCLI: everything that was decided, by command line, file or default."""
    cli: Any = module.LightningCLI
    original = cli.instantiate_classes

    @functools.wraps(original)
    def instantiate_classes(self: Any) -> Any:
        _record_cli(self)
        return original(self)

    cli.instantiate_classes = instantiate_classes


@guarded("lightning")
def _record_cli(cli: Any) -> None:
    global _cli_has_recorded
    config = cli.config
    if getattr(cli, "subcommand", None):
        config = config[cli.subcommand]
    found = config.as_dict() if hasattr(config, "as_dict") else dict(config)
    for name in ("config", "ckpt_path", "verbose", "weights_only"):
        found.pop(name, None)
    record(_without_none(found))
    _cli_has_recorded = True


def _without_none(found: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value) if isinstance(value, dict) else value for key, value in found.items() if value is not None and value != []
    }


def _forward(original: Any) -> Any:
    """Lightning gives the user's loggers what was recorded here already: their hooks must not record it again."""

    @functools.wraps(original)
    def log_metrics(self: Any, *arguments: Any, **named: Any) -> Any:
        thread = threading.get_ident()
        forwarding.add(thread)
        try:
            return original(self, *arguments, **named)
        finally:
            forwarding.discard(thread)

    return log_metrics


def _optimize(original: Any) -> Any:
    @functools.wraps(original)
    def run(self: Any, *arguments: Any, **named: Any) -> Any:
        output = original(self, *arguments, **named)
        watch = _watches.get(self.trainer)
        if watch is not None:
            watch.stepped(output)
        return output

    return run


def _fit(original: Any) -> Any:
    @functools.wraps(original)
    def run(self: Any) -> Any:
        watch = _watch(self.trainer)
        if watch is None:
            return original(self)
        watch.fit_starts()
        try:
            return original(self)
        finally:
            watch.fit_ends()

    return run


_fetching = [0.0]  # when the training loop began to wait for its batch


def _advance(original: Any) -> Any:
    @functools.wraps(original)
    def advance(self: Any, data_fetcher: Any) -> Any:
        _fetching[0] = time.perf_counter()
        return original(self, data_fetcher)

    return advance


def _launch_ranks_with_hooks(module: ModuleType, name: str) -> None:
    """Lightning starts the other ranks of DDP as new processes of the script: let them have the hooks too."""
    original = module._basic_subprocess_cmd

    @functools.wraps(original)
    def command() -> Any:
        plain = list(original())
        script = os.path.abspath(sys.argv[0])
        launcher = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "launcher.py")
        return [plain[0], launcher, *plain[1:]] if len(plain) > 1 and plain[1] == script else plain

    for user in (module, sys.modules.get(f"{name}.strategies.launchers.subprocess_script")):
        if user is not None and getattr(user, "_basic_subprocess_cmd", None) is original:
            user._basic_subprocess_cmd = command  # type: ignore[attr-defined]


def _size(batch: Any) -> int:
    """Samples in a batch: the first dimension of the first tensor in it."""
    for _ in range(4):
        shape = getattr(batch, "shape", None)
        if shape is not None:
            return int(shape[0]) if len(shape) else 1
        if isinstance(batch, (list, tuple)) and batch:
            batch = batch[0]
        elif isinstance(batch, dict) and batch:
            batch = next(iter(batch.values()))
        else:
            return 0
    return 0


def _is_lazy(parameter: Any) -> bool:
    return type(parameter).__name__ == "UninitializedParameter"


def _summary(module: Any) -> str:
    """The module as a table: name, type and parameters of its children, and of theirs."""
    rows = [("name", "type", "parameters", "trainable")]
    for name, child in module.named_modules():
        if name and name.count(".") < 2:
            parameters = [parameter for parameter in child.parameters() if not _is_lazy(parameter)]
            trainable = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
            rows.append((name, type(child).__name__, f"{sum(p.numel() for p in parameters):,}", f"{trainable:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}" for a, b, c, d in rows]
    return "\n".join([*lines, "", repr(module), ""])
