"""A chunk: consecutive points of one metric, packed into bytes, and the pyramid that charts are drawn from.

A chunk holds three columns. Whole numbers (steps, times) are a first value and differences, kept in the fewest bytes
that hold them, or not at all where the difference is constant. Values keep every bit; where all of them are
32-bit floats in disguise (what a tensor's `.item()` gives) four bytes are stored. Bytes of equal weight stand together
before compression with Zstandard. A few points are stored plainly: compression would cost more than it saves.

A pyramid has one cell for every `CELL` points of a chunk: first step, first time, least and greatest value.
"""

from __future__ import annotations

import struct

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from narf.tracking.points import Floats, Ints, Points

CELL = 128
LEAST_FOR_PYRAMID = 2 * CELL
_PLAIN_UP_TO = 16
_VERSION = 1
_HEAD = struct.Struct("<BBI")  # version, plain?, count
_SECTION = struct.Struct("<BI")  # how the column is packed, bytes that follow
_LINE = struct.Struct("<qq")
_CONSTANT, _DIFFERENCES, _FLOATS32, _FLOATS64 = 0, 1, 2, 3
_WIDTHS: dict[int, np.dtype[np.unsignedinteger]] = {w: np.dtype(f"<u{w}") for w in (1, 2, 4, 8)}


def pack(points: Points) -> bytes:
    """`points` as bytes; `unpack` gives them back bit by bit."""
    count = len(points)
    if count <= _PLAIN_UP_TO:
        return _HEAD.pack(_VERSION, 1, count) + points.steps.tobytes() + points.times.tobytes() + points.values.tobytes()
    return b"".join((_HEAD.pack(_VERSION, 0, count), *_pack_ints(points.steps), *_pack_ints(points.times), *_pack_floats(points.values)))


def unpack(data: bytes | memoryview) -> Points:
    version, plain, count = _HEAD.unpack_from(data)
    if version != _VERSION:
        raise ValueError(f"a metric chunk of version {version} cannot be read by this release")
    at = _HEAD.size
    if plain:
        columns = np.frombuffer(data, np.int64, 3 * count, at)
        return Points(columns[:count], columns[count : 2 * count], columns[2 * count :].view(np.float64))
    steps, at = _unpack_ints(data, at, count)
    times, at = _unpack_ints(data, at, count)
    return Points(steps, times, _unpack_floats(data, at, count))


def pyramid(points: Points) -> bytes | None:
    """The pyramid of a chunk; None where there are too few points to gain from one."""
    count = len(points)
    if count < LEAST_FOR_PYRAMID:
        return None
    starts = np.arange(0, count, CELL)
    least, greatest = np.fmin.reduceat(points.values, starts), np.fmax.reduceat(points.values, starts)
    return b"".join((points.steps[starts].tobytes(), points.times[starts].tobytes(), least.tobytes(), greatest.tobytes()))


def cells_of(data: bytes | memoryview) -> tuple[Ints, Ints, Floats, Floats]:
    """Steps, times, minima and maxima of the cells of a pyramid."""
    rows_4C = np.frombuffer(data, np.int64).reshape(4, -1)
    return rows_4C[0], rows_4C[1], rows_4C[2].view(np.float64), rows_4C[3].view(np.float64)


def _codec() -> pa.Codec:
    return pa.Codec("zstd", compression_level=1)


def _pack_ints(column: Ints) -> tuple[bytes, bytes]:
    differences = np.diff(column)  # wraps around where it must; the running sum wraps back
    least = int(differences.min())
    line = _LINE.pack(int(column[0]), least)
    rest = (differences - np.int64(least)).view(np.uint64)
    greatest = int(rest.max())
    if greatest == 0:
        return _SECTION.pack(_CONSTANT, len(line)), line
    width = next(w for w in _WIDTHS if greatest < 1 << (8 * w))
    body = _codec().compress(_weights_together(rest.astype(_WIDTHS[width])), asbytes=True)
    return _SECTION.pack(_DIFFERENCES, len(line) + 1 + len(body)), line + bytes((width,)) + body


def _unpack_ints(data: bytes | memoryview, at: int, count: int) -> tuple[Ints, int]:
    kind, size = _SECTION.unpack_from(data, at)
    at += _SECTION.size
    first, least = _LINE.unpack_from(data, at)
    if kind == _CONSTANT:
        return np.int64(first) + np.arange(count, dtype=np.int64) * np.int64(least), at + size
    width = data[at + _LINE.size]
    raw = _codec().decompress(memoryview(data)[at + _LINE.size + 1 : at + size], decompressed_size=(count - 1) * width)
    rest = _weights_apart(np.frombuffer(raw, np.uint8), width, count - 1).astype(np.int64)
    column = np.empty(count, np.int64)
    column[0] = first
    np.add(rest, np.int64(least), out=column[1:])
    return np.cumsum(column, out=column), at + size


def _pack_floats(values: Floats) -> tuple[bytes, bytes]:
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = values.astype(np.float32)
    exact = (narrow.astype(np.float64).view(np.int64) == values.view(np.int64)).all()
    body = _codec().compress(_weights_together(narrow if exact else values), asbytes=True)
    return _SECTION.pack(_FLOATS32 if exact else _FLOATS64, len(body)), body


def _unpack_floats(data: bytes | memoryview, at: int, count: int) -> Floats:
    kind, size = _SECTION.unpack_from(data, at)
    at += _SECTION.size
    width = 4 if kind == _FLOATS32 else 8
    raw = _codec().decompress(memoryview(data)[at : at + size], decompressed_size=count * width)
    whole = _weights_apart(np.frombuffer(raw, np.uint8), width, count)
    return whole.view(np.float32).astype(np.float64) if kind == _FLOATS32 else whole.view(np.float64)


def _weights_together(column: NDArray[np.generic]) -> bytes:
    """Bytes of equal weight side by side: the high bytes of neighbours are alike and compress well."""
    width = column.dtype.itemsize
    return column.tobytes() if width == 1 else np.ascontiguousarray(column.view(np.uint8).reshape(-1, width).T).tobytes()


def _weights_apart(raw: NDArray[np.uint8], width: int, count: int) -> NDArray[np.unsignedinteger]:
    return np.ascontiguousarray(raw.reshape(width, count).T).reshape(-1).view(_WIDTHS[width])
