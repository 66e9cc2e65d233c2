"""In which order a rank sees the samples of an epoch: the same for the same (seed, epoch), whatever was killed in between."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def epoch_order(
    count: int, *, seed: int, epoch: int, shuffle: bool = True, rank: int = 0, world: int = 1, drop_uneven: bool = False
) -> npt.NDArray[np.int64]:
    """The indices that `rank` of `world` visits in this epoch, in their order.

    Every rank gets equally many: the last of them see some samples again, or, with `drop_uneven`, up to world - 1 samples
    are left out in this epoch.
    """
    assert 0 <= rank < world, "a rank is one of the world"
    generator = np.random.Generator(np.random.Philox(key=_key(seed, epoch)))
    order = generator.permutation(count) if shuffle else np.arange(count)
    if world > 1 and count:
        uneven = count % world
        if uneven and drop_uneven:
            order = order[: count - uneven]
        elif uneven:
            order = np.resize(order, count + world - uneven)  # begins again from its start
        order = order[rank::world]
    return order.astype(np.int64, copy=False)


def split_indices(count: int, fractions: tuple[float, ...], *, seed: int) -> list[npt.NDArray[np.int64]]:
    """`count` indices cut at random into parts of these fractions of it (which sum to at most 1); sorted within a part."""
    assert all(fraction >= 0 for fraction in fractions) and sum(fractions) <= 1 + 1e-9, "fractions of one whole"
    order = np.random.Generator(np.random.Philox(key=_key(seed, 2**63))).permutation(count)
    ends = [round(count * end) for end in np.cumsum(fractions)]
    return [np.sort(order[start:end]).astype(np.int64, copy=False) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _key(seed: int, stream: int) -> npt.NDArray[np.uint64]:
    return np.array([seed & (2**64 - 1), stream], dtype=np.uint64)
