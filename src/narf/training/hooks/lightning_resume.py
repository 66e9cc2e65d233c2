"""Resume of an unchanged Lightning script: the next attempt goes on at the same step, with the same weights bit for bit.

What Lightning restores by itself is not enough: the order of shuffled data, dropout and the position in the epoch depend on random
state at several moments. Kept are the states *before the epoch's iterator was made* (R_iter), *before its first batch was fetched*
(R_first) and *at the checkpoint* (R_now). To resume, the iterator is made again under R_iter, the batches done are fetched again
from R_first and dropped, and R_now is set: from there on every draw is the one the undisturbed run would have made.

A checkpoint is taken at one of four points (`kind`): after a batch, inside a validation (then the validation is repeated), after
an epoch, after the fit. At each of them Lightning's own restart logic, which guesses, is switched off.
"""

from __future__ import annotations

import functools
import os
import sys
import time
import warnings
from types import ModuleType
from typing import Any

from narf.training import randomness, stop
from narf.training import recorder as recorders
from narf.training.hooks import guarded, report
from narf.training.hooks.lightning_resume_state import (
    apply_overrides,
    fresh_hyperparameters,
    logged_state,
    restore_logged_state,
)
from narf.training.imports import when_imported

_LIGHTNINGS = ("lightning.pytorch", "pytorch_lightning")
_LONG_FIT_SECONDS = 10.0  # a fit that took longer is not repeated when a later part of the script is interrupted
_current: FitCheckpoints | None = None  # of the fit that runs now
_fits = 0  # fits begun in this process; the n-th resumes the n-th


class FitCheckpoints:
    """The checkpoint of one fit of one trainer: when to write it, and how to go on from it."""

    def __init__(self, trainer: Any, path: str) -> None:
        self.trainer, self.path = trainer, path
        self.restored: dict[str, Any] | None = None
        self.is_waiting_for_position = False  # restored, but the loop has not been set to its place yet
        self.extra: dict[str, Any] | None = None  # what the checkpoint being written also holds
        self.random_before_iterator: dict[str, Any] | None = None
        self.fresh_loaders: list[bool] = []
        self.random_before_first: dict[str, Any] | None = None
        self.before_validation: dict[str, Any] | None = None
        self.optimizer_defaults: list[dict[str, Any]] = []
        self.is_over = False
        self.every_seconds = float(os.environ.get("NARF_CHECKPOINT_SECONDS") or 300.0)
        self.began = time.monotonic()
        self.next_save = self.began + self.every_seconds

    # -- when ----------------------------------------------------------------------------------------------------------------

    def at_safe_point(self, kind: str, loop: Any, batches_done: int = 0) -> None:
        """Save or stop here, if asked to. Every rank decides the same."""
        want = stop.wanted()
        due = time.monotonic() >= self.next_save
        if self.trainer.world_size > 1:
            reduce = self.trainer.strategy.reduce_boolean_decision
            if not reduce(want is not None or due, all=False):
                return
            is_terminated = reduce(want == stop.TERMINATE, all=False)
            want = stop.TERMINATE if is_terminated else stop.PRUNE if reduce(want == stop.PRUNE, all=False) else None
        elif want is None and not due:
            return
        if loop.done:  # the next safe point is a few hooks away and has less left to do
            return
        if want == stop.TERMINATE:
            self.save_and_exit(kind, batches_done)
        elif want == stop.PRUNE and not self.trainer.should_stop:
            self.trainer.should_stop = True
            fit_loop = self.trainer.fit_loop
            fit_loop.min_epochs, fit_loop.epoch_loop.min_steps = 0, None  # a stop from outside needs no minimum
            _note("the training was asked to stop early")
        elif want is None:
            self.save(kind, batches_done)

    def save_and_exit(self, kind: str, batches_done: int = 0, **more: Any) -> None:
        self.save(kind, batches_done, **more)
        _note(f"stopped at step {self.trainer.global_step} with a checkpoint")
        raise SystemExit(stop.EXIT_CODE)

    # -- writing ---------------------------------------------------------------------------------------------------------------

    def save(self, kind: str, batches_done: int = 0, random_now: Any = None, loops: Any = None, logged: Any = None) -> None:
        """Write the checkpoint, all or nothing. What fails is said and costs the checkpoint only."""
        if not self.path:
            return
        try:
            self.extra = {
                "kind": kind,
                "batches_done": batches_done,
                "random_now": random_now or randomness.capture(self.loaders()),
                "random_before_iterator": self.random_before_iterator,
                "random_before_first": self.random_before_first,
                "fresh_loaders": self.fresh_loaders,
                "logged": logged or logged_state(self.trainer),
                "optimizer_defaults": self.optimizer_defaults,
                "loops": loops,
                "gradients": self._gradients(),
                "seconds": time.monotonic() - self.began,
            }
            os.makedirs(os.path.dirname(self.path), exist_ok=True)
            self._save_rank()
            self.trainer.save_checkpoint(self.path + ".part")
            if self.trainer.is_global_zero:
                os.replace(self.path + ".part", self.path)
            recorder = recorders.current()
            if recorder is not None and self.trainer.is_global_zero:
                recorder.checkpointed(self.trainer.global_step)
        except Exception as error:
            report("checkpoint", error)
        finally:
            self.extra = None
            self.next_save = time.monotonic() + self.every_seconds

    def _save_rank(self) -> None:
        """Random state differs by rank; the checkpoint has the first one's."""
        if self.trainer.world_size > 1 and not self.trainer.is_global_zero:
            path = f"{self.path}.rank{self.trainer.global_rank}"
            sys.modules["torch"].save({"step": self.trainer.global_step, "narf": self.extra}, path + ".part")
            os.replace(path + ".part", path)

    def _gradients(self) -> dict[str, Any]:
        """Gradients that the next step adds to; after a step of the optimiser they mean nothing."""
        module = self.trainer.lightning_module
        if module.automatic_optimization and not self.trainer.fit_loop._should_accumulate():
            return {}
        return {name: parameter.grad for name, parameter in module.named_parameters() if parameter.grad is not None}

    def add_to(self, checkpoint: dict[str, Any]) -> None:
        """Called while Lightning puts a checkpoint together."""
        if self.extra is not None:
            if self.extra["loops"] is not None:
                checkpoint["loops"]["fit_loop"] = self.extra.pop("loops")
            checkpoint["narf"] = self.extra

    # -- going on --------------------------------------------------------------------------------------------------------------

    def take_from(self, checkpoint: dict[str, Any]) -> None:
        """Called when Lightning has read the checkpoint."""
        self.restored = checkpoint.pop("narf", None)
        if self.restored is None:
            return
        if self.trainer.world_size > 1 and not self.trainer.is_global_zero:
            own = sys.modules["torch"].load(f"{self.path}.rank{self.trainer.global_rank}", weights_only=False)
            if own["step"] == checkpoint.get("global_step"):
                self.restored = own["narf"]
        self.is_waiting_for_position = True
        self.began -= float(self.restored.get("seconds", 0.0))
        _note(f"resumed at step {checkpoint.get('global_step')}, epoch {checkpoint.get('epoch')}")

    def before_fit(self) -> None:
        """Before the fit loop runs: an epoch that is over is not one that is restarted."""
        if self.restored is not None and self.restored["kind"] == "epoch":
            _restart(self.trainer.fit_loop, False)
            self.trainer.fit_loop._loaded_from_state_dict = False

    def before_epoch(self) -> None:
        """Before an epoch starts. After an epoch boundary, this is where the undisturbed run would be."""
        if self.is_waiting_for_position and self.restored is not None and self.restored["kind"] == "epoch":
            self.is_waiting_for_position = False
            self._restore_logged()
            randomness.restore(self.restored["random_now"], self.loaders())

    def go_to_position(self, epoch_loop: Any, fetcher: Any) -> None:
        """Called where an epoch's batches begin. Sets iterator, random state and loops to where the checkpoint was."""
        restored = self.restored
        assert restored is not None
        self.is_waiting_for_position = False
        self._restore_logged()
        train_loaders = self.train_loaders()
        if any(hasattr(loader, "state_dict") and hasattr(loader, "load_state_dict") for loader in train_loaders):
            # A loader that keeps its own place has been set to it by Lightning.
            randomness.restore(restored["random_now"], self.loaders())
        else:
            for loader, is_fresh in zip(train_loaders, restored["fresh_loaders"]):
                if is_fresh and getattr(loader, "_iterator", None) is not None:
                    loader._iterator = None
            randomness.restore(restored["random_before_iterator"], self.loaders())
            iter(fetcher)
            randomness.restore(restored["random_before_first"], self.loaders())
            self.random_before_first = restored["random_before_first"]
            for _ in range(restored["batches_done"]):
                next(fetcher)
            randomness.restore(restored["random_now"], self.loaders())
        _restart(self.trainer.fit_loop, False)
        for name, parameter in self.trainer.lightning_module.named_parameters():
            if name in restored["gradients"]:
                parameter.grad = restored["gradients"][name].to(parameter.device)
        if restored["kind"] == "validation":
            # The batch was done, the validation that follows it was not: do it now, as after that batch.
            epoch_loop.batch_progress.is_last_batch = fetcher.done
            try:
                epoch_loop.on_advance_end(fetcher)
            finally:
                epoch_loop.on_iteration_done()

    def _restore_logged(self) -> None:
        assert self.restored is not None
        restore_logged_state(self.trainer, self.restored["logged"])

    # -- loaders ---------------------------------------------------------------------------------------------------------------

    def train_loaders(self) -> list[Any]:
        combined = getattr(self.trainer.fit_loop, "_combined_loader", None)
        return list(combined.flattened) if combined is not None else []

    def loaders(self) -> list[Any]:
        validation = getattr(self.trainer.fit_loop.epoch_loop.val_loop, "_combined_loader", None)
        return self.train_loaders() + (list(validation.flattened) if validation is not None else [])


def install() -> None:
    if not os.environ.get("NARF_CHECKPOINTS") and not os.environ.get("NARF_SPOOL"):
        return
    for name in _LIGHTNINGS:
        when_imported(f"{name}.trainer.trainer", functools.partial(_patch, name))


def of(trainer: Any) -> FitCheckpoints | None:
    """The checkpoints of the fit that `trainer` is in."""
    found = getattr(trainer, "_narf_checkpoints", None)
    return found if found is not None and not found.is_over else None


def _patch(name: str, module: ModuleType) -> None:
    try:
        _patch_modules(name)
    except (AttributeError, KeyError) as error:
        report("lightning_resume", RuntimeError(f"this version of {name} is not supported: {error}"))


def _patch_modules(name: str) -> None:
    def find(path: str) -> Any:
        return sys.modules[f"{name}.{path}"]

    connector = find("trainer.connectors.checkpoint_connector")._CheckpointConnector
    fit_loop = find("loops.fit_loop")._FitLoop
    epoch_loop = find("loops.training_epoch_loop")._TrainingEpochLoop
    evaluation_loop = find("loops.evaluation_loop")._EvaluationLoop
    fetcher = find("loops.fetchers")._DataFetcher
    signals = find("trainer.connectors.signal_connector")._SignalConnector
    originals = [
        (connector, "_select_ckpt_path", _select_ckpt_path),
        (connector, "resume_start", _resume_start),
        (connector, "restore_optimizers_and_schedulers", _restore_optimizers_and_schedulers),
        (connector, "dump_checkpoint", _dump_checkpoint),
        (fit_loop, "run", _fit_run),
        (fit_loop, "on_advance_start", _epoch_start),
        (fit_loop, "on_advance_end", _epoch_end),
        (epoch_loop, "on_run_start", _batches_start),
        (epoch_loop, "on_advance_end", _batch_end),
        (evaluation_loop, "run", _evaluation_run),
        (evaluation_loop, "_evaluation_step", _evaluation_step),
        (fetcher, "__iter__", _fetcher_iter),
        (signals, "register_signal_handlers", _register_signal_handlers),
    ]
    wrapped = [(owner, attribute, wrapper(getattr(owner, attribute))) for owner, attribute, wrapper in originals]
    for owner, attribute, replacement in wrapped:  # all or none
        setattr(owner, attribute, replacement)


def _select_ckpt_path(original: Any) -> Any:
    @functools.wraps(original)
    def select(self: Any, state_fn: Any, *arguments: Any, **named: Any) -> Any:
        path = original(self, state_fn, *arguments, **named)
        if str(getattr(state_fn, "value", state_fn)) == "fit":
            return _begin_fit(self.trainer) or path
        return path

    return select


@guarded("lightning_resume")
def _begin_fit(trainer: Any) -> str | None:
    """The checkpoint that this fit resumes from, if there is one."""
    global _fits, _current
    trainer._narf_checkpoints = _current = None
    if trainer.fast_dev_run:
        return None
    _fits += 1
    folder = os.environ.get("NARF_CHECKPOINTS")
    # Without a folder there is nothing to keep, but a trial can still be stopped.
    path = os.path.join(folder, f"fit-{_fits}.ckpt") if folder else ""
    trainer._narf_checkpoints = _current = FitCheckpoints(trainer, path)
    if not path or not os.path.exists(path):
        return None
    # Lightning warns that it cannot resume in the middle of an epoch; here it can.
    warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")
    return path


def _resume_start(original: Any) -> Any:
    @functools.wraps(original)
    def resume_start(self: Any, checkpoint_path: Any = None, *arguments: Any, **named: Any) -> Any:
        ours = of(self.trainer)
        if ours is None or checkpoint_path != ours.path:
            return original(self, checkpoint_path, *arguments, **named)
        # Our own file, which holds more than tensors.
        import inspect

        if "weights_only" in inspect.signature(original).parameters:
            named["weights_only"] = False
            arguments = ()
        result = original(self, checkpoint_path, *arguments, **named)
        ours.take_from(self._loaded_checkpoint)
        return result

    return resume_start


def _restore_optimizers_and_schedulers(original: Any) -> Any:
    @functools.wraps(original)
    def restore(self: Any) -> Any:
        ours = of(self.trainer)
        fresh = fresh_hyperparameters(self.trainer.optimizers) if ours is not None else []
        original(self)
        if ours is not None and ours.restored is not None:
            _override(ours, fresh)

    return restore


@guarded("lightning_resume")
def _override(ours: FitCheckpoints, fresh: list[dict[str, Any]]) -> None:
    ours.optimizer_defaults = ours.restored["optimizer_defaults"] if ours.restored else []
    if os.environ.get("NARF_RESUME_OVERRIDES"):
        apply_overrides(ours.trainer, fresh, ours.optimizer_defaults, os.environ["NARF_RESUME_OVERRIDES"])
        ours.optimizer_defaults = fresh


def _dump_checkpoint(original: Any) -> Any:
    @functools.wraps(original)
    def dump_checkpoint(self: Any, *arguments: Any, **named: Any) -> Any:
        checkpoint = original(self, *arguments, **named)
        ours = of(self.trainer)
        if ours is not None:
            ours.add_to(checkpoint)
        return checkpoint

    return dump_checkpoint


def _fit_run(original: Any) -> Any:
    @functools.wraps(original)
    def run(self: Any) -> Any:
        ours = of(self.trainer)
        if ours is None:
            return original(self)
        with stop.section():
            if ours.restored is not None and ours.restored["kind"] == "fit":
                randomness.restore(ours.restored["random_now"], ours.loaders())
                ours.is_over = True
                return None
            if not ours.optimizer_defaults:
                ours.optimizer_defaults = fresh_hyperparameters(self.trainer.optimizers)
            ours.before_fit()
            result = original(self)
            is_long = time.monotonic() - ours.began > _LONG_FIT_SECONDS
            if ours.restored is not None or is_long or stop.wanted() == stop.TERMINATE:
                ours.save("fit")
            ours.is_over = True
            return result

    return run


def _epoch_start(original: Any) -> Any:
    @functools.wraps(original)
    def on_advance_start(self: Any) -> Any:
        ours = of(self.trainer)
        if ours is not None:
            ours.before_epoch()
        return original(self)

    return on_advance_start


def _epoch_end(original: Any) -> Any:
    @functools.wraps(original)
    def on_advance_end(self: Any) -> Any:
        result = original(self)
        ours = of(self.trainer)
        if ours is not None:
            ours.at_safe_point("epoch", self)
        return result

    return on_advance_end


def _batches_start(original: Any) -> Any:
    @functools.wraps(original)
    def on_run_start(self: Any, data_fetcher: Any) -> Any:
        ours = of(self.trainer)
        if ours is None:
            return original(self, data_fetcher)
        if ours.is_waiting_for_position:
            original(self, data_fetcher)
            return ours.go_to_position(self, data_fetcher)
        if ours.restored is not None and self.trainer.fit_loop.is_resuming:
            # After an epoch boundary: Lightning would go on with the iterator it made too early.
            self.trainer.fit_loop._resuming_from_checkpoint = False
        original(self, data_fetcher)
        ours.random_before_first = randomness.capture(ours.loaders())
        return None

    return on_run_start


def _batch_end(original: Any) -> Any:
    @functools.wraps(original)
    def on_advance_end(self: Any, data_fetcher: Any) -> Any:
        result = original(self, data_fetcher)
        ours = of(self.trainer)
        # At the end of an epoch the safe point is a little later, after the epoch's own hooks.
        if ours is not None:
            ours.at_safe_point("batch", self, self.batch_progress.current.completed)
        return result

    return on_advance_end


def _evaluation_run(original: Any) -> Any:
    @functools.wraps(original)
    def run(self: Any, *arguments: Any, **named: Any) -> Any:
        trainer = self.trainer
        ours = of(trainer)
        if ours is None or trainer.sanity_checking or self is not trainer.fit_loop.epoch_loop.val_loop:
            return original(self, *arguments, **named)
        ours.before_validation = {
            "random_now": randomness.capture(ours.loaders()),
            "loops": trainer.fit_loop.state_dict(),
            "logged": logged_state(trainer),
            "batches_done": trainer.fit_loop.epoch_loop.batch_progress.current.completed,
        }
        try:
            return original(self, *arguments, **named)
        finally:
            ours.before_validation = None

    return run


def _evaluation_step(original: Any) -> Any:
    @functools.wraps(original)
    def step(self: Any, *arguments: Any, **named: Any) -> Any:
        result = original(self, *arguments, **named)
        ours = of(self.trainer)
        if ours is not None and ours.before_validation is not None and _terminated(self.trainer):
            ours.save_and_exit("validation", **ours.before_validation)
        return result

    return step


def _fetcher_iter(original: Any) -> Any:
    @functools.wraps(original)
    def iterate(self: Any) -> Any:
        ours = _current
        if ours is not None and not ours.is_over and ours.trainer.fit_loop._data_fetcher is self:
            loaders = ours.train_loaders()
            ours.random_before_iterator = randomness.capture(ours.loaders())
            ours.fresh_loaders = [getattr(loader, "_iterator", None) is None for loader in loaders]
        return original(self)

    return iterate


def _register_signal_handlers(original: Any) -> Any:
    @functools.wraps(original)
    def register(self: Any) -> Any:
        import signal

        before = signal.getsignal(signal.SIGTERM)
        result = original(self)
        if before is stop.on_sigterm and of(self.trainer) is not None:
            # Lightning's would raise in the middle of a step or of a validation, where nothing can be resumed.
            signal.signal(signal.SIGTERM, before)
        return result

    return register


def _restart(loop: Any, is_restarting: bool) -> None:
    """Set a loop and those in it to restarting or not, past the setter that has an opinion of its own."""
    loop._restarting = is_restarting
    for inner in vars(loop).values():
        if hasattr(inner, "_restarting") and hasattr(inner, "trainer"):
            _restart(inner, is_restarting)


def _terminated(trainer: Any) -> bool:
    wanted = stop.wanted() == stop.TERMINATE
    return bool(trainer.strategy.reduce_boolean_decision(wanted, all=False)) if trainer.world_size > 1 else wanted


def _note(text: str) -> None:
    recorder = recorders.current()
    if recorder is not None:
        recorder.note(text)
