"""The inputs on which an export is compared with the original: real rows, cut and repeated into edge cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from narf.serving.tensors import Array, Tensors, TensorSpec

LARGE = 257  # a large batch that no power of two hides behind


def cases(samples: Tensors, *, batchable: bool, only_real: bool = False) -> Iterator[tuple[str, Tensors]]:
    """Named inputs made from `samples` (arrays with the same number of rows): the rows as they are, one, a few, many."""
    yield "all rows", samples
    if not batchable:
        return
    yield "one row", rows(samples, 1)
    yield "one other row", rows({name: array[::-1] for name, array in samples.items()}, 1)
    yield "seven rows", rows(samples, 7)
    yield f"{LARGE} rows", rows(samples, LARGE)
    if not only_real:
        yield "zeros", {name: _zeros(array[:1]) for name, array in samples.items()}


def rows(samples: Tensors, count: int) -> Tensors:
    """`count` rows, the samples repeated as often as needed."""
    return {name: np.ascontiguousarray(array[np.arange(count) % len(array)]) for name, array in samples.items()}


def synthetic(specs: Sequence[TensorSpec], rng: np.random.Generator, count: int = 16, free: int = 8) -> Tensors:
    """Rows that fit `specs`, where there are no real ones; free inner dimensions get `free` elements."""
    return {spec.name: _draw(spec, (count, *(size if size > 0 else free for size in spec.shape[1:])), rng) for spec in specs}


def _draw(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    kind = spec.dtype.kind
    if kind == "f":
        return rng.standard_normal(shape).astype(spec.dtype)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(np.bool_)
    if kind in "iu":
        return rng.integers(0, 2, shape).astype(spec.dtype)  # small: they may index an embedding
    return np.full(shape, "a", dtype=object)


def _zeros(array: Array) -> Array:
    return array.copy() if array.dtype.kind == "O" else np.zeros_like(array)
