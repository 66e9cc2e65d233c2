"""Keeps the garbage collector out of the way of answers."""

from __future__ import annotations

import gc


def settle() -> None:
    """Call once when a server has loaded what it serves with.

    A full collection walks everything that was ever loaded, and stands between a request and its answer for 20 to 50 ms, every few
    thousand requests. So what is there now is never looked at again, what is young is looked at often and in little, and what is
    in between rarely: nearly all of it is freed by its references.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 5_000)
