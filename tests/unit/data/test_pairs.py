"""Neighbor draws: uniform over the first K, keyed by the anchor, loud when the table does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from rayscan.data.pairs import NeighborPairs
from rayscan.errors import ConfigError, DataError
from rayscan.types import Ints


@pytest.fixture
def table() -> tuple[Ints, Ints]:
    gids = np.arange(0, 4000, 2)  # gaps, as quarantined images leave them
    return gids, gids[:, None] * 100 + np.arange(10)


def test_draws_belong_to_the_anchor_and_are_uniform_over_the_first_k(
    table: tuple[Ints, Ints],
) -> None:
    pairs = NeighborPairs(*table, num_neighbors=7, seed=0)
    counts = np.zeros(7, int)
    for epoch in range(5):
        drawn = pairs.draw(table[0], epoch)
        assert np.array_equal(drawn // 100, table[0])
        counts += np.bincount(drawn % 100, minlength=7)
    assert counts.sum() == 5 * len(table[0])
    assert stats.chisquare(counts).pvalue > 1e-4


def test_a_draw_does_not_depend_on_the_batch(table: tuple[Ints, Ints]) -> None:
    pairs = NeighborPairs(*table, num_neighbors=10, seed=3)
    whole = pairs.draw(table[0], 4)
    rows = np.random.default_rng(0).permutation(len(whole))[:77]
    assert np.array_equal(pairs.draw(table[0][rows], 4), whole[rows])
    assert np.mean(pairs.draw(table[0], 5) == whole) == pytest.approx(0.1, abs=0.03)
    assert np.mean(NeighborPairs(*table, num_neighbors=10, seed=4).draw(table[0], 4) == whole) < 0.2


def test_refusals(table: tuple[Ints, Ints]) -> None:
    gids, ids = table
    with pytest.raises(ConfigError, match=r"scan\.num_neighbors"):
        NeighborPairs(gids, ids, num_neighbors=11, seed=0)
    with pytest.raises(DataError, match="ascending"):
        NeighborPairs(gids[::-1], ids, num_neighbors=5, seed=0)
    with pytest.raises(DataError, match="do not match"):
        NeighborPairs(gids[:-1], ids, num_neighbors=5, seed=0)
    pairs = NeighborPairs(gids, ids, num_neighbors=5, seed=0)
    for stranger in (3, 5000):
        with pytest.raises(DataError, match=f"gid {stranger}"):
            pairs.draw(np.array([0, stranger]), 0)


def test_all_neighbors_in_order() -> None:
    """Nearest first; the image itself before them where it counts, alone at K = 0."""
    gids, ids = np.array([3, 7, 9]), np.array([[7, 9, 1], [3, 9, 2], [7, 3, 0]])
    asked = np.array([9, 3])
    assert NeighborPairs(gids, ids, 2, 0).all(asked).tolist() == [[7, 3], [7, 9]]
    assert NeighborPairs(gids, ids, 2, 0, includes_self=True).all(asked).tolist() == [[9, 7, 3], [3, 7, 9]]
    assert NeighborPairs(gids, ids, 0, 0).all(asked).tolist() == [[9], [3]]
    assert NeighborPairs(gids, ids, 0, 0).draw(asked, epoch=4).tolist() == [9, 3]


def test_the_image_itself_is_drawn_as_often_as_any_neighbor() -> None:
    """Once in K + 1 draws: 4,000 draws of three give 1,333 +- 30 (one deviation)."""
    gids = np.arange(4_000)
    ids = np.stack([(gids + 1) % 4_000, (gids + 2) % 4_000], axis=1)
    drawn = NeighborPairs(gids, ids, 2, 0, includes_self=True).draw(gids, epoch=0)
    counts = np.bincount((drawn - gids) % 4_000, minlength=3)[:3]
    assert counts.sum() == 4_000
    assert abs(counts - 4_000 / 3).max() < 150


def test_fewer_neighbors_of_some_images() -> None:
    """One is drawn from those there are; where all places are filled, each counts K / (its number)."""
    gids = np.arange(6_000)
    counts = gids % 3 + 1
    ids = gids[:, None] * 10 + np.arange(4)
    pairs = NeighborPairs(gids, ids, 3, 0, counts=counts)
    drawn = pairs.draw(gids, epoch=2) % 10
    filled = pairs.all(gids, epoch=2) % 10
    assert np.array_equal(pairs.all(gids, epoch=2) // 10, np.repeat(gids[:, None], 3, axis=1))
    for count in (1, 2, 3):
        mine = counts == count
        assert drawn[mine].max() == count - 1
        assert abs(np.bincount(drawn[mine], minlength=count) - 2_000 / count).max() < 110
        assert np.array_equal(filled[mine, :count], np.tile(np.arange(count), (2_000, 1)))
        assert filled[mine].max() == count - 1
    # Of 2 neighbors in 3 places, the third place is each of them half of the time: 1,000 +- 22.
    assert abs(int(filled[counts == 2, 2].sum()) - 1_000) < 110
    assert np.any(pairs.all(gids, epoch=3) != pairs.all(gids, epoch=2))
    whole = NeighborPairs(gids, ids, 3, 0, counts=np.full(6_000, 3))
    assert np.array_equal(whole.draw(gids, 7), NeighborPairs(gids, ids, 3, 0).draw(gids, 7))
    assert np.array_equal(whole.all(gids, 7), NeighborPairs(gids, ids, 3, 0).all(gids, 7))


def test_the_image_itself_beside_fewer_neighbors() -> None:
    gids, ids = np.array([3, 7]), np.array([[7, 0], [3, 9]])
    pairs = NeighborPairs(gids, ids, 2, 0, includes_self=True, counts=np.array([1, 2]))
    for epoch in range(20):
        met = pairs.all(gids, epoch)
        assert met[0, :2].tolist() == [3, 7] and met[0, 2] in (3, 7)
        assert met[1].tolist() == [7, 3, 9]
        assert pairs.draw(gids, epoch)[0] in (3, 7)
    alone = NeighborPairs(gids, ids[:, :0], 0, 0, counts=np.array([0, 0]))
    assert alone.draw(gids, 4).tolist() == [3, 7]
