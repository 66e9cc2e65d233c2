"""Finds the way past damage in a spool: bytes that are no record, with whole records after them.

The server knows a file as its whole records one after another; what is passed over has no place in its offsets.
"""

from __future__ import annotations

import struct

from narf.training.spool import MAGIC, RECORD_BYTES, read_events, verified_length

_MAGIC = struct.pack("<H", MAGIC)
_BLOCK_BYTES = 1 << 20


def whole_length(block: bytes, kind: str) -> int:
    """How many bytes at the start of `block` are whole records of a file of this kind ("points" or "events")."""
    return verified_length(block) if kind == "points" else read_events(block)[1]


def damage(block: bytes, kind: str) -> int:
    """How many bytes at the start of `block`, which is not whole there, to pass over to the next whole record; 0 if none is in sight."""
    return _to_next_point(block) if kind == "points" else _to_next_event(block)


def passed_over(path: str, kind: str, offset: int) -> int:
    """How many damaged bytes of the file lie before its whole byte number `offset`."""
    at = whole = 0
    size = _BLOCK_BYTES
    with open(path, "rb") as file:
        while whole < offset:
            file.seek(at)
            block = file.read(size)
            good = whole_length(block, kind)
            gap = 0 if good else damage(block, kind)
            if not good and not gap:
                if len(block) < size:
                    break
                size *= 2  # an event longer than a block, or much damage
                continue
            at, whole = at + good + gap, whole + good
    return at - whole


def _to_next_point(block: bytes) -> int:
    # Noise can look like a record (32 bits of luck, fewer if it repeats the magic number): one with another behind it goes first.
    lone = 0
    at = block.find(_MAGIC, 1)
    while 0 < at <= len(block) - RECORD_BYTES and (not lone or at < lone + RECORD_BYTES):
        if _verifies(block, at):
            behind = at + RECORD_BYTES
            if behind == len(block) or _verifies(block, behind):
                return at
            lone = lone or at
        at = block.find(_MAGIC, at + 1)
    return lone


def _verifies(block: bytes, at: int) -> bool:
    return verified_length(block[at : at + RECORD_BYTES]) == RECORD_BYTES


def _to_next_event(block: bytes) -> int:
    """To an event in the damaged line itself (noise came before it), else to the next line."""
    end = block.find(b"\n")
    if end < 0:
        return 0
    at = block.find(b"{", 1, end)
    while at > 0:
        if read_events(block[at : end + 1])[1]:
            return at
        at = block.find(b"{", at + 1, end)
    return end + 1
