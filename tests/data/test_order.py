from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from narf.data.order import epoch_order, split_indices

counts, seeds, epochs = st.integers(0, 300), st.integers(-(2**63), 2**64), st.integers(0, 10_000)


@given(counts, seeds, epochs)
def test_an_epoch_is_every_sample_once_and_the_same_again(count: int, seed: int, epoch: int) -> None:
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(count))
    assert np.array_equal(order, epoch_order(count, seed=seed, epoch=epoch))


@given(st.integers(1, 300), seeds, epochs, st.integers(1, 9))
def test_ranks_get_equally_many_and_miss_nothing(count: int, seed: int, epoch: int, world: int) -> None:
    parts = [epoch_order(count, seed=seed, epoch=epoch, rank=rank, world=world) for rank in range(world)]
    assert {len(part) for part in parts} == {-(-count // world)}
    assert set(np.concatenate(parts).tolist()) == set(range(count))
    even = [epoch_order(count, seed=seed, epoch=epoch, rank=rank, world=world, drop_uneven=True) for rank in range(world)]
    together = np.concatenate(even).tolist()
    assert len(together) == len(set(together)) == count - count % world


def test_epochs_and_seeds_differ() -> None:
    orders = [tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(4) for epoch in range(4)]
    assert len(set(orders)) == 16


@given(counts, seeds)
def test_parts_are_disjoint_and_complete(count: int, seed: int) -> None:
    parts = split_indices(count, (0.7, 0.2, 0.1), seed=seed)
    assert sorted(np.concatenate(parts).tolist()) == list(range(count))
