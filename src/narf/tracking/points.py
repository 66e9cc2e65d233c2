"""The points of a spool: 32-byte records with a checksum, read as columns.

A record is little-endian: magic u16, flags u16, key u32, step i64, time f64 (seconds), value f64. `flags` holds the low
16 bits of the CRC-32 over the other 30 bytes. A million records are checked at once: a CRC is linear over GF(2), so
the checksum of a record is the exclusive or of one table look-up for each 16-bit word, whole columns at a time.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x4E50
RECORD = np.dtype([("magic", "<u2"), ("flags", "<u2"), ("key", "<u4"), ("step", "<i8"), ("time", "<f8"), ("value", "<f8")])
RECORD_BYTES = RECORD.itemsize

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Points:
    """Points of one metric, in columns of one length: steps, times in milliseconds since 1970, values."""

    steps: Ints
    times: Ints
    values: Floats

    def __len__(self) -> int:
        return len(self.steps)

    def take(self, index: NDArray[Any] | slice) -> Points:
        return Points(self.steps[index], self.times[index], self.values[index])


EMPTY = Points(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float64))


def concatenate(parts: list[Points]) -> Points:
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return EMPTY
    return Points(
        np.concatenate([p.steps for p in parts]), np.concatenate([p.times for p in parts]), np.concatenate([p.values for p in parts])
    )


def whole_records(data: bytes | memoryview) -> NDArray[Any]:
    """The records at the beginning of `data` that are whole and verify. What follows the first bad one is left out."""
    count = len(data) // RECORD_BYTES
    records = np.frombuffer(data, RECORD, count)
    if count == 0:
        return records
    words_NW = np.frombuffer(data, "<u2", count * 16).reshape(count, 16)
    good = (words_NW[:, 0] == MAGIC) & (words_NW[:, 1] == _checksums(words_NW))
    return records if good.all() else records[: int(np.argmin(good))]


def by_key(records: NDArray[Any]) -> list[tuple[int, Points]]:
    """The points of each key, in the order written; keys in ascending order."""
    keys = records["key"]
    if len(keys) == 0:
        return []
    steps, values = records["step"], records["value"]
    times = milliseconds(records["time"])
    if keys[0] == keys[-1] and (keys == keys[0]).all():
        return [(int(keys[0]), Points(np.ascontiguousarray(steps), times, np.ascontiguousarray(values)))]
    # NumPy sorts 16-bit integers by radix, several times faster than wider ones.
    narrow = keys.astype(np.uint16) if int(keys.max()) < 1 << 16 else keys
    order = np.argsort(narrow, kind="stable")
    keys, steps, times, values = keys[order], steps[order], times[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], keys[1:] != keys[:-1])))
    ends = [*starts[1:].tolist(), len(keys)]
    return [
        (int(keys[start]), Points(steps[start:end], times[start:end], values[start:end]))
        for start, end in zip(starts.tolist(), ends, strict=True)
    ]


def milliseconds(seconds: NDArray[np.float64]) -> Ints:
    """Whole milliseconds; what is no time (NaN, infinite, beyond year 285,000) becomes 0 or is clipped."""
    with np.errstate(invalid="ignore", over="ignore"):
        limit = float(1 << 53)
        whole: Ints = np.clip(np.nan_to_num(np.rint(seconds * 1000.0), nan=0.0, posinf=limit, neginf=-limit), -limit, limit).astype(
            np.int64
        )
    return whole


def record_bytes(keys: Any, steps: Any, times: Any, values: Any) -> bytes:
    """Records as a spool holds them, from columns; for tools and tests (programs write their own)."""
    records = np.empty(len(steps), RECORD)
    records["magic"], records["flags"] = MAGIC, 0
    records["key"], records["step"], records["time"], records["value"] = keys, steps, times, values
    if len(records):
        records["flags"] = _checksums(records.view("<u2").reshape(len(records), 16))
    return records.tobytes()


def _checksums(words_NW: NDArray[np.uint16]) -> NDArray[np.uint16]:
    start, tables = _tables()
    result = np.full(len(words_NW), start, np.uint16)
    for position, table in enumerate(tables, start=2):
        result ^= table[words_NW[:, position]]
    return result


@cache
def _tables() -> tuple[int, list[NDArray[np.uint16]]]:
    """The checksum of a record of zeros (with the magic), and what each value of each word 2..15 changes of it."""
    zeros = bytes(30)
    of_zeros = zlib.crc32(zeros)

    def change(position: int, value: int) -> int:
        message = bytearray(zeros)
        message[position] = value
        return zlib.crc32(message) ^ of_zeros

    by_byte = np.array([[change(position, value) & 0xFFFF for value in range(256)] for position in range(30)], np.uint16)
    magic = int(by_byte[0][MAGIC & 0xFF]) ^ int(by_byte[1][MAGIC >> 8])
    tables = [np.bitwise_xor.outer(by_byte[2 * word + 1], by_byte[2 * word]).reshape(-1) for word in range(1, 15)]
    return (of_zeros & 0xFFFF) ^ magic, tables
