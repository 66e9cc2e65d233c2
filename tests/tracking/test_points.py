"""The records of a spool: only those that verify are taken, and columns come back as they were written."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from narf.tracking.points import RECORD_BYTES, by_key, milliseconds, record_bytes, whole_records

INT64 = st.integers(-(2**63), 2**63 - 1)
RECORDS = st.lists(st.tuples(st.integers(0, 2**32 - 1), INT64, st.floats(), st.floats()), max_size=40)


def plain_record(key: int, step: int, time: float, value: float) -> bytes:
    """A record as the contract describes it, byte by byte."""
    body = struct.pack("<Iqdd", key, step, time, value)
    head = struct.pack("<H", 0x4E50)
    return head + struct.pack("<H", zlib.crc32(head + body) & 0xFFFF) + body


@given(RECORDS)
def test_records_written_by_the_letter_of_the_contract_verify(rows):
    data = b"".join(plain_record(*row) for row in rows)
    records = whole_records(data)
    assert len(records) == len(rows)
    assert data == record_bytes(records["key"], records["step"], records["time"], records["value"])


@given(RECORDS.filter(bool), st.data())
def test_what_follows_a_flipped_bit_is_left_out(rows, data):
    whole = bytearray(b"".join(plain_record(*row) for row in rows))
    bit = data.draw(st.integers(0, len(whole) * 8 - 1))
    whole[bit // 8] ^= 1 << (bit % 8)
    taken = whole_records(bytes(whole))
    assert len(taken) == bit // 8 // RECORD_BYTES


@given(RECORDS.filter(bool), st.integers(0, 31))
def test_a_torn_tail_is_cut_at_the_last_whole_record(rows, kept):
    data = b"".join(plain_record(*row) for row in rows)
    assert len(whole_records(data[: len(data) - RECORD_BYTES + kept])) == len(rows) - 1


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 7, 65_535, 65_536, 2**32 - 1]), INT64, st.floats()), max_size=60))
def test_points_of_a_key_keep_the_order_in_which_they_were_written(rows):
    data = record_bytes([r[0] for r in rows], [r[1] for r in rows], [1.0] * len(rows), [r[2] for r in rows])
    grouped = by_key(whole_records(data))
    assert [key for key, _ in grouped] == sorted({r[0] for r in rows})
    for key, points in grouped:
        assert points.steps.tolist() == [r[1] for r in rows if r[0] == key]
        expected = np.array([r[2] for r in rows if r[0] == key])
        assert points.values.tobytes() == expected.tobytes()


def test_times_that_are_none_do_no_harm():
    assert milliseconds(np.array([1.5, float("nan"), float("inf"), -float("inf"), 1e300])).tolist() == [
        1500,
        0,
        1 << 53,
        -(1 << 53),
        1 << 53,
    ]
