"""The order of the samples: every image once an epoch, whatever the number of workers."""

from __future__ import annotations

import numpy as np
import pytest

from rayscan.data.order import Order, rank_slice
from rayscan.errors import ConfigError, DataError

GIDS = np.arange(1000, 2013, dtype=np.int64)  # 1013 images, a prime


@pytest.mark.parametrize(
    ("n", "batch_size"), [(1013, 100), (1013, 1013), (1013, 5000), (1001, 100), (7, 2), (1, 4)]
)
def test_every_image_once_an_epoch_in_batches_of_nearly_equal_size(n: int, batch_size: int) -> None:
    order = Order(GIDS[:n], batch_size, seed=0)
    assert order.num_steps == int(np.ceil(n / batch_size))
    batches = [order.batch(3, step) for step in range(order.num_steps)]
    assert np.array_equal(np.sort(np.concatenate(batches)), GIDS[:n])
    sizes = [len(batch) for batch in batches]
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1


def test_order_depends_on_seed_and_epoch_alone() -> None:
    order = Order(GIDS, 100, seed=0)
    late = Order(GIDS, 100, seed=0).batch(5, 7)  # asked for first, as after a resume
    for epoch in range(5):
        order.batch(epoch, 0)
    assert np.array_equal(order.batch(5, 7), late)
    assert not np.array_equal(order.batch(6, 7), late)
    assert not np.array_equal(Order(GIDS, 100, seed=1).batch(5, 7), late)


@pytest.mark.parametrize("world_size", [1, 2, 3, 8, 150])
def test_slices_of_the_ranks_are_the_batch(world_size: int) -> None:
    batch = Order(GIDS, 100, seed=0).batch(0, 2)
    slices = [rank_slice(batch, rank, world_size) for rank in range(world_size)]
    assert np.array_equal(np.concatenate(slices), batch)
    sizes = [len(part) for part in slices]
    assert max(sizes) - min(sizes) <= 1


def test_results_are_the_callers_own() -> None:
    order = Order(GIDS, 100, seed=0)
    before = order.batch(0, 0).copy()
    order.batch(0, 0)[:] = -1
    assert np.array_equal(order.batch(0, 0), before)


def test_refusals() -> None:
    with pytest.raises(DataError, match="no image"):
        Order(GIDS[:0], 10, 0)
    with pytest.raises(ConfigError, match="batch_size >= 1"):
        Order(GIDS, 0, 0)
    for step in (-1, 11):
        with pytest.raises(IndexError):
            Order(GIDS, 100, 0).batch(0, step)


SHARDS = np.arange(len(GIDS)) // 100


def windowed(window: int = 3, seed: int = 0) -> Order:
    return Order(GIDS, 20, seed, SHARDS, window)


def test_windows_hold_few_shards_at_a_time_and_every_image_once() -> None:
    order = windowed()
    for epoch in (0, 1):
        rows, starts = order._rows(epoch)
        assert np.array_equal(np.sort(rows), np.arange(len(GIDS)))
        for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
            assert len(np.unique(SHARDS[rows[start:stop]])) <= 3
        assert len(starts) == -(-len(np.unique(SHARDS)) // 3)
        seen = np.concatenate([order.batch(epoch, step) for step in range(order.num_steps)])
        assert np.array_equal(np.sort(seen), np.sort(GIDS))
    assert not np.array_equal(order._rows(0)[0], order._rows(1)[0])
    assert np.array_equal(windowed().batch(1, 3), order.batch(1, 3))
    assert not np.array_equal(windowed(seed=1).batch(1, 3), order.batch(1, 3))


def test_what_is_coming_names_every_shard_before_its_window_begins() -> None:
    order = windowed()
    shard_of = dict(zip(GIDS.tolist(), SHARDS.tolist(), strict=True))
    told: set[int] = set()
    for step in range(order.num_steps):
        told |= {shard_of[gid] for gid in order.coming(2, step).tolist()}
        assert {shard_of[gid] for gid in order.batch(2, step).tolist()} <= told
    assert len(told) == len(set(SHARDS.tolist()))
    assert len(Order(GIDS, 20, seed=0).coming(0, 0)) == 0
