"""Checkpoints that a Lightning script writes become artifacts of the run: the best and the last, or as `NARF_CHECKPOINT_ARTIFACTS` says."""

from __future__ import annotations

import os
from typing import Any

from narf.training.recorder import Recorder


def declare_checkpoints(trainer: Any, recorder: Recorder) -> None:
    """Hand in what the trainer's ModelCheckpoints kept, under `checkpoints/`. Policy: "best,last" (default), "all" or "none"."""
    policy = os.environ.get("NARF_CHECKPOINT_ARTIFACTS", "best,last").split(",")
    if "none" in policy:
        return
    for index, callback in enumerate(getattr(trainer, "checkpoint_callbacks", ())):
        folder = "checkpoints" if index == 0 else f"checkpoints/{index}"
        best = getattr(callback, "best_model_path", "")
        last = getattr(callback, "last_model_path", "") or getattr(callback, "_last_checkpoint_saved", "")
        if "best" in policy or "all" in policy:
            _declare(recorder, best, f"{folder}/best.ckpt")
            score = getattr(callback, "best_model_score", None)
            if best and score is not None and index == 0:
                recorder.tag("checkpoint.best_score", float(score))
        if ("last" in policy or "all" in policy) and last != best:
            _declare(recorder, last, f"{folder}/last.ckpt")
        if "all" in policy:
            for path in getattr(callback, "best_k_models", {}):
                if path not in (best, last):
                    _declare(recorder, path, f"{folder}/{os.path.basename(path)}")


def _declare(recorder: Recorder, path: str, name: str) -> None:
    """The file stays where it is; it is read when it is sent. Folders are checkpoints of sharded strategies."""
    if not path:
        return
    if os.path.isdir(path):
        for folder, _, files in os.walk(path):
            for file in files:
                whole = os.path.join(folder, file)
                recorder.artifact(whole, f"{name}/{os.path.relpath(whole, path)}", copy=False)
    elif os.path.exists(path):
        recorder.artifact(path, name, copy=False)
