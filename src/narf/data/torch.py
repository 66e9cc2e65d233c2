"""PyTorch datasets over the training caches, and a loader that shuffles by (seed, epoch), shards by rank and resumes.

Shapes: B rows of a batch, C feature columns. `dataset[[3, 1, 2]]` gathers a whole batch with one copy out of the memory map.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from narf.data import caches
from narf.data.order import epoch_order
from narf.domain.errors import BadInput

if TYPE_CHECKING:
    from narf.data.handle import Dataset


def open_dataset(
    data: Dataset, columns: list[str] | None, target: str | Sequence[str] | None, dtype: Any, transform: Callable[..., Any] | None
) -> NarfDataset:
    """The dataset whose layout fits: rows of numbers, an Arrow file, or an archive of files."""
    if not data.is_table:
        if columns or target:
            raise BadInput(f"{data.name!r} is files and has no columns.", remedy="Leave columns and target out.")
        place = caches.prepared(
            data.cache, caches.key_of("files", data.paths), lambda folder: caches.write_archive(data.folder, data.paths, folder)
        )
        return FileDataset(place, transform)
    targets = [target] if isinstance(target, str) else list(target or ())
    if absent := [name for name in targets if name not in data.columns]:
        raise BadInput(f"{data.name!r} has no column {absent[0]!r}.", remedy=f"It has {', '.join(data.columns[:20])}.", field="target")
    features = [name for name in (columns or data.columns) if name not in targets]
    return _of_table(data, features, targets, isinstance(target, str), dtype, transform)


def _of_table(
    data: Dataset, features: list[str], targets: list[str], single: bool, dtype: Any, transform: Callable[..., Any] | None
) -> NarfDataset:
    names, table = [*features, *targets], data.table
    common = caches.common_type(table, names)
    if common is not None:
        wanted = np.dtype(str(dtype).removeprefix("torch.")) if dtype is not None and common.kind == "f" else common
        wanted = np.result_type(wanted, np.float32) if wanted.kind == "f" else wanted
        key = caches.key_of("rows", names, wanted.str, data.paths)
        try:
            place = caches.prepared(data.cache, key, lambda folder: caches.write_rows(table, names, wanted, folder))
        except ValueError:
            common = None  # a null, or an integer too large for the common type
        else:
            whole = [_is_whole(table.schema.field(name).type) for name in targets]
            return RowDataset(place, len(features), len(targets), single, dtype, all(whole) and bool(targets), transform)
    place = caches.prepared(data.cache, caches.key_of("arrow", names, data.paths), lambda folder: caches.write_arrow(table, names, folder))
    return MixedDataset(place, transform)


def _is_whole(type: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(type) or pa.types.is_boolean(type))


class NarfDataset(TorchDataset[Any]):  # type: ignore[misc]
    """What all three have in common: they open their cache in each process anew, and gather whole batches."""

    def __init__(self, place: Path, transform: Callable[..., Any] | None) -> None:
        self._place, self._transform = place, transform
        self._opened: tuple[int, Any] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Any:
        """The batch of these rows, in this order."""
        raise NotImplementedError

    def _open(self) -> Any:
        raise NotImplementedError

    def __getitem__(self, index: Any) -> Any:
        """One item, or a batch for a sequence of indices."""
        if isinstance(index, int | np.integer):
            length = len(self)
            if not -length <= index < length:
                raise IndexError(f"{index} is not one of {length} items")
            return self._item(int(index) % length)
        return self.take(index)

    def _item(self, index: int) -> Any:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Items for any DataLoader's collate function. (`loader` passes whole batches instead.)"""
        return [self[index] for index in indices]

    def loader(self, batch_size: int, **choices: Any) -> Loader:
        """A loader over this dataset; see `Loader` for the choices."""
        return Loader(self, batch_size, **choices)

    @property
    def opened(self) -> Any:
        """The cache, opened in this process: a fork or a worker opens its own."""
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = (os.getpid(), self._open())
        return self._opened[1]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}


class RowDataset(NarfDataset):
    """A numeric table in a row-major memory map."""

    def __init__(
        self, place: Path, features: int, targets: int, single: bool, dtype: Any, whole: bool, transform: Callable[..., Any] | None
    ) -> None:
        super().__init__(place, transform)
        self._features, self._targets, self._single, self._dtype, self._whole = features, targets, single, dtype, whole

    def _open(self) -> npt.NDArray[Any]:
        return caches.open_rows(self._place)

    def __len__(self) -> int:
        return len(self.opened)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Any:
        """x_BC, or (x_BC, y_B) with one target, (x_BC, y_BT) with several."""
        return self._parts(torch.from_numpy(self.opened.take(indices, axis=0)))

    def _item(self, index: int) -> Any:
        return self._parts(torch.from_numpy(self.opened[index].copy()))

    def _parts(self, rows: torch.Tensor) -> Any:
        x = rows[..., : self._features] if self._targets else rows
        if self._dtype is not None and x.dtype != self._dtype:
            x = x.to(self._dtype)
        if not self._targets:
            return self._transform(x) if self._transform else x
        y = rows[..., self._features] if self._single else rows[..., self._features :]
        y = y.to(torch.int64) if self._whole and y.dtype != torch.int64 else y
        return self._transform(x, y) if self._transform else (x, y)


class MixedDataset(NarfDataset):
    """A table of several types in a memory-mapped Arrow file: items are dicts of columns."""

    def _open(self) -> Any:
        return caches.open_arrow(self._place)

    def __len__(self) -> int:
        return int(self.opened.num_rows)

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> Any:
        """By column: a tensor where it is of numbers without nulls, else a list."""
        import pyarrow as pa

        rows = self.opened.take(pa.array(np.asarray(indices, np.int64)))
        batch = {name: _column(rows.column(name).combine_chunks()) for name in rows.column_names}
        return self._transform(batch) if self._transform else batch

    def _item(self, index: int) -> Any:
        item = self.opened.slice(index, 1).to_pylist()[0]
        return self._transform(item) if self._transform else item


def _column(values: Any) -> Any:
    import pyarrow as pa

    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    if values.null_count == 0 and (pa.types.is_integer(values.type) or pa.types.is_floating(values.type)):
        return torch.from_numpy(values.to_numpy(zero_copy_only=False).copy())
    return values.to_pylist()


class FileDataset(NarfDataset):
    """Files in an indexed archive: items are (bytes, path)."""

    def _open(self) -> caches.Archive:
        return caches.open_archive(self._place)

    def __len__(self) -> int:
        return len(self.opened.paths)

    @property
    def paths(self) -> tuple[str, ...]:
        found: tuple[str, ...] = self.opened.paths
        return found

    def read(self, index: int) -> bytes:
        """The bytes of one file, nothing done to them."""
        data: bytes = self.opened.read(index)
        return data

    def take(self, indices: Sequence[int] | npt.NDArray[np.int64]) -> list[Any]:
        return [self._item(int(index)) for index in indices]

    def _item(self, index: int) -> Any:
        archive = self.opened
        data, path = archive.read(index), archive.paths[index]
        return self._transform(data, path) if self._transform else (data, path)


class Loader:
    """Batches of a `NarfDataset`, or of those `indices` of it. Iterating again gives the next epoch, also after a break.

    shuffle by (seed, epoch); rank and world are torch.distributed's, or RANK and WORLD_SIZE, when not given. `state_dict` is
    where one is: epoch, and samples of this rank that were handed out. After `load_state_dict` the next iteration goes on
    there, with the very same batches, even with another number of workers.
    """

    def __init__(
        self,
        dataset: NarfDataset,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        indices: npt.NDArray[np.int64] | None = None,
        workers: int = 0,
        rank: int | None = None,
        world: int | None = None,
        collate: Callable[[Any], Any] | None = None,
        **more: Any,
    ) -> None:
        if batch_size < 1:
            raise BadInput(f"A batch of {batch_size} is none.", remedy="Use a batch_size of at least 1.", field="batch_size")
        self.dataset, self.batch_size, self.shuffle, self.seed, self.drop_last = dataset, batch_size, shuffle, seed, drop_last
        self._indices, self._workers, self._rank, self._world, self._collate, self._more = indices, workers, rank, world, collate, more
        self.epoch, self.position, self._resuming = 0, 0, False
        self._length = len(dataset) if indices is None else len(indices)

    def __len__(self) -> int:
        """Batches of a whole epoch on this rank."""
        world = self._place()[1]
        mine = self._length // world if self.drop_last else -(-self._length // world)
        return mine // self.batch_size if self.drop_last else -(-mine // self.batch_size)

    def __iter__(self) -> Iterator[Any]:
        if self.position and not (self._resuming and self._starts()):
            self.epoch, self.position = self.epoch + 1, 0
        self._resuming = False
        order, starts = self._order(), self._starts()
        batches = _Batches([order[start : start + self.batch_size] for start in starts])
        if self._workers:
            source: Iterator[Any] = iter(self._with_workers(batches))
        else:
            source = (self.dataset.take(some) for some in batches.all)
        for some, batch in zip(batches.all, source, strict=True):
            self.position += len(some)
            yield batch if self._collate is None else self._collate(batch)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position, self.seed, self._resuming = state["epoch"], state["position"], state["seed"], True

    def set_epoch(self, epoch: int) -> None:
        """The next iteration is this epoch's, from its start; unless one was just resumed in it."""
        if not (self._resuming and epoch == self.epoch):
            self.epoch, self.position, self._resuming = epoch, 0, False

    def _starts(self) -> range:
        """Where the batches begin that this epoch still has."""
        world = self._place()[1]
        mine = self._length // world if self.drop_last else -(-self._length // world)
        return range(self.position, mine - (self.batch_size - 1 if self.drop_last else 0), self.batch_size)

    def _order(self) -> npt.NDArray[np.int64]:
        rank, world = self._place()
        order = epoch_order(
            self._length, seed=self.seed, epoch=self.epoch, shuffle=self.shuffle, rank=rank, world=world, drop_uneven=self.drop_last
        )
        return order if self._indices is None else self._indices[order]

    def _place(self) -> tuple[int, int]:
        if self._world is not None:
            return self._rank or 0, self._world
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            return torch.distributed.get_rank(), torch.distributed.get_world_size()
        return int(os.environ.get("RANK") or 0), int(os.environ.get("WORLD_SIZE") or 1)

    def _with_workers(self, batches: _Batches) -> DataLoader[Any]:
        """torch's own loader with our order. Each worker's random numbers follow from seed, epoch and its number."""
        generator = torch.Generator()
        generator.manual_seed((self.seed * 1_000_003 + self.epoch) & (2**63 - 1))
        return DataLoader(
            _WholeBatches(self.dataset),
            sampler=batches,
            batch_size=None,
            num_workers=self._workers,
            generator=generator,
            worker_init_fn=_seed_worker,
            **self._more,
        )


class _Batches(torch.utils.data.Sampler[Any]):  # type: ignore[misc]
    def __init__(self, all: list[npt.NDArray[np.int64]]) -> None:
        self.all = all

    def __iter__(self) -> Iterator[npt.NDArray[np.int64]]:
        return iter(self.all)

    def __len__(self) -> int:
        return len(self.all)


class _WholeBatches(TorchDataset[Any]):  # type: ignore[misc]
    """A dataset whose items are batches: an index is an array of indices."""

    def __init__(self, dataset: NarfDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, indices: Any) -> Any:
        return self._dataset.take(indices)


def _seed_worker(_number: int) -> None:
    seed = torch.initial_seed()
    random.seed(seed)
    np.random.seed(seed % 2**32)
