"""TensorBoard: what a SummaryWriter (of torch or tensorboardX) is given is recorded here too."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from narf.training import recorder as recorders
from narf.training.hooks import guarded, is_forwarded
from narf.training.hooks.arguments import record
from narf.training.imports import when_imported


def install() -> None:
    if recorders.current() is not None:
        when_imported("torch.utils.tensorboard.writer", _patch)
        when_imported("tensorboardX.writer", _patch)


def _patch(module: ModuleType) -> None:
    writer: Any = module.SummaryWriter
    taken: dict[str, Any] = {
        "add_scalar": _scalar,
        "add_scalars": _scalars,
        "add_image": _image,
        "add_figure": _figure,
        "add_hparams": _hparams,
        "add_text": _text,
    }
    for name, take in taken.items():
        original = getattr(writer, name, None)
        if original is not None:
            setattr(writer, name, _and_take(original, guarded("tensorboard")(take)))


def _and_take(original: Any, take: Any) -> Any:
    @functools.wraps(original)
    def add(self: Any, *arguments: Any, **named: Any) -> Any:
        if recorders.current() is not None and not is_forwarded():
            take(*arguments, **named)
        return original(self, *arguments, **named)

    return add


def _log(name: str, value: Any, step: Any, when: Any = None) -> None:
    recorder = recorders.current()
    if recorder is not None:
        before = recorder.step
        recorder.log({name: value}, int(step) if step is not None else 0, when)
        recorder.step = before


def _scalar(tag: str, scalar_value: Any, global_step: Any = None, walltime: Any = None, *_: Any, **__: Any) -> None:
    if tag == "hp_metric" and type(scalar_value) is int and scalar_value == -1:
        return  # what Lightning's logger puts where its page of hyper-parameters wants a metric
    _log(tag, scalar_value, global_step, walltime)


def _scalars(main_tag: str, tag_scalar_dict: Any, global_step: Any = None, walltime: Any = None) -> None:
    for name, value in tag_scalar_dict.items():
        _log(f"{main_tag}/{name}", value, global_step, walltime)


def _image(tag: str, img_tensor: Any, global_step: Any = None, walltime: Any = None, dataformats: str = "CHW", **_: Any) -> None:
    from narf.training import media

    media.image(tag, img_tensor, step=global_step)


def _figure(tag: str, figure: Any, global_step: Any = None, *_: Any, **__: Any) -> None:
    from narf.training import media

    for index, one in enumerate(figure if isinstance(figure, list) else [figure]):
        media.figure(tag if index == 0 else f"{tag}/{index}", one, step=global_step)


def _hparams(hparam_dict: Any, *_: Any, **__: Any) -> None:
    record(hparam_dict)  # its metrics come by the writer that it makes inside


def _text(tag: str, text_string: str, global_step: Any = None, *_: Any, **__: Any) -> None:
    recorder = recorders.current()
    if recorder is not None:
        recorder.artifact_bytes(text_string.encode(), f"text/{tag}{'' if global_step is None else f'/{global_step}'}.txt")
