"""The windowed order against a slow twin, and how its shards are drawn anew each epoch."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from rayscan.data.keyed import uniforms
from rayscan.data.order import Order, windowed_rows


def slow_rows(
    seed: int, epoch: int, gids: list[int], shards: list[int], window: int
) -> tuple[list[int], list[int]]:
    """Shards by a number each, `window` at a time; images of those by a number each. One at a time."""

    def number(of: int, purpose: str) -> float:
        return float(uniforms(seed, epoch, np.array([of]), 0, purpose, 1)[0, 0])

    order = sorted(set(shards), key=lambda shard: number(shard, "shard order"))
    rows: list[int] = []
    starts = []
    for at in range(0, len(order), window):
        mixed = [row for row, shard in enumerate(shards) if shard in order[at : at + window]]
        starts.append(len(rows))
        rows += sorted(mixed, key=lambda row: number(gids[row], "window order"))
    return rows, starts


@pytest.mark.parametrize("window", [1, 2, 3, 7, 20])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (5, 2)])
def test_windows_equal_a_slow_twin(seed: int, epoch: int, window: int) -> None:
    gids = np.array([907, 3, 55, 12, 400, 41, 8, 77, 100, 65, 2, 31, 9, 14, 500])
    shards = np.array([9, 4, 4, 30, 9, 2, 2, 2, 30, 11, 6, 6, 11, 4, 8])  # neither in order nor contiguous
    rows, starts = windowed_rows(seed, epoch, gids, shards, window)
    slow, begins = slow_rows(seed, epoch, gids.tolist(), shards.tolist(), window)
    assert rows.tolist() == slow
    assert starts.tolist() == begins


def test_shards_come_in_another_order_every_epoch() -> None:
    """Drawn anew, each of 12 shards opens one epoch in 12: 25 of 300, with a deviation of 4.8."""
    epochs, shards = 300, np.repeat(np.arange(12), 5)
    gids = np.arange(len(shards)) + 1000
    orders = [windowed_rows(0, epoch, gids, shards, 1)[0] for epoch in range(epochs)]
    opens = Counter(int(shards[rows[0]]) for rows in orders)
    assert set(opens) == set(range(12))
    assert all(abs(times - epochs / 12) < 5 * np.sqrt(epochs / 12 * 11 / 12) for times in opens.values())
    assert len({tuple(shards[rows].tolist()) for rows in orders}) == epochs


def test_the_order_of_an_epoch_is_read_only() -> None:
    rows, _ = windowed_rows(0, 0, np.arange(6), np.arange(6) // 2, 2)
    with pytest.raises(ValueError, match="read-only"):
        rows[0] = 1


GIDS = np.arange(2000, 2103)
SHARDS = np.arange(len(GIDS)) // 8  # 13 shards, the last of 7 images


def slow_coming(order: Order, rows: list[int], starts: list[int], step: int) -> list[int]:
    """Walk down the epoch: the windows a step enters, the one after them, the first image of each shard."""
    bounds = [*starts, len(rows)]
    first, stop = (len(rows) * bound // order.num_steps for bound in (step, step + 1))
    entered = [number for number, start in enumerate(starts) if first <= start < stop]
    if not entered:
        return []
    told = range(entered[0] if step == 0 else entered[0] + 1, min(entered[-1] + 2, len(starts)))
    names: dict[int, int] = {}
    for number in told:
        for row in rows[bounds[number] : bounds[number + 1]]:
            names.setdefault(int(SHARDS[row]), int(order.gids[row]))
    return list(names.values())


@pytest.mark.parametrize("window", [1, 3, 4, 13, 40])
@pytest.mark.parametrize("batch_size", [1, 7, 9, 10, 13, 60, 103])
def test_what_is_coming_equals_a_walk_down_the_epoch(batch_size: int, window: int) -> None:
    order = Order(GIDS, batch_size, 0, SHARDS, window)
    rows, starts = slow_rows(0, 1, GIDS.tolist(), SHARDS.tolist(), window)
    for step in range(order.num_steps):
        coming = order.coming(1, step)
        assert coming.dtype == np.int64
        assert coming.tolist() == slow_coming(order, rows, starts, step)


def test_epochs_asked_for_one_after_the_other_are_what_each_is_alone() -> None:
    order = Order(GIDS, 10, 7, SHARDS, 3)
    for epoch in (0, 1, 2, 3, 2, 5):
        seen = np.concatenate([order.batch(epoch, step) for step in range(order.num_steps)])
        assert seen.tolist() == GIDS[windowed_rows(7, epoch, GIDS, SHARDS, 3)[0]].tolist()


def test_batches_of_one_image() -> None:
    order = Order(GIDS[:3], 1, 0)
    assert order.num_steps == 3
    assert sorted(int(order.batch(0, step)[0]) for step in range(3)) == GIDS[:3].tolist()


def test_shards_without_a_window_mix_all_images() -> None:
    """The epoch is one window: its shards are named at its first step."""
    plain, sharded = Order(GIDS, 10, 3), Order(GIDS, 10, 3, SHARDS)
    for step in range(plain.num_steps):
        assert sharded.batch(2, step).tolist() == plain.batch(2, step).tolist()
        named = SHARDS[sharded.coming(2, step) - GIDS[0]]
        assert sorted(named.tolist()) == (list(range(13)) if step == 0 else [])
