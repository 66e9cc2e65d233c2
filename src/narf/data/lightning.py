"""A LightningDataModule over a dataset version."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl

from narf.data.order import split_indices
from narf.data.torch import Loader, NarfDataset
from narf.domain.errors import BadInput

if TYPE_CHECKING:
    from narf.data.handle import Dataset


class DataModule(pl.LightningDataModule):  # type: ignore[misc]
    """Made by `data_module`. Loaders remember their position in checkpoints: a resumed fit sees the batches it had not seen."""

    def __init__(self, parts: dict[str, tuple[NarfDataset, Any]], choices: dict[str, Any]) -> None:
        super().__init__()
        self._parts, self._choices = parts, choices

    def train_dataloader(self) -> Loader:
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> Loader | list[Any]:
        return self._loader("val", shuffle=False) if "val" in self._parts else []

    def test_dataloader(self) -> Loader | list[Any]:
        return self._loader("test", shuffle=False) if "test" in self._parts else []

    def predict_dataloader(self) -> Loader:
        return self._loader("test" if "test" in self._parts else "train", shuffle=False)

    def _loader(self, part: str, *, shuffle: bool) -> Loader:
        dataset, indices = self._parts[part]
        return dataset.loader(shuffle=shuffle, indices=indices, **self._choices)


def data_module(
    data: Dataset,
    *,
    batch_size: int = 32,
    target: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    dtype: Any = None,
    transform: Callable[..., Any] | None = None,
    split: tuple[float, ...] = (0.8, 0.1, 0.1),
    train: str = "",
    val: str = "",
    test: str = "",
    seed: int = 0,
    workers: int = 0,
    collate: Callable[[Any], Any] | None = None,
) -> DataModule:
    """The parts train, val and test are the files that match the patterns of these names, or random parts of the fractions in `split`."""
    named = {part: pattern for part, pattern in (("train", train), ("val", val), ("test", test)) if pattern}
    parts: dict[str, tuple[NarfDataset, Any]] = {}
    if named:
        if "train" not in named:
            raise BadInput("There is no pattern for the training files.", remedy='Add train="train*".', field="train")
        for part, pattern in named.items():
            parts[part] = (data.only(pattern).torch(columns, target=target, dtype=dtype, transform=transform), None)
    else:
        if not 1 <= len(split) <= 3 or min(split) < 0 or sum(split) > 1 + 1e-9:
            raise BadInput(f"{split} are not up to three fractions of one whole.", remedy="As (0.8, 0.1, 0.1).", field="split")
        whole = data.torch(columns, target=target, dtype=dtype, transform=transform)
        for part, indices in zip(("train", "val", "test"), split_indices(len(whole), tuple(split), seed=seed), strict=False):
            if len(indices):
                parts[part] = (whole, indices)
    return DataModule(parts, {"batch_size": batch_size, "seed": seed, "workers": workers, "collate": collate})
