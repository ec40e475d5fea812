"""Exact search by bfloat16 proposals: nothing is missed, whatever the rows look like."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rayscan.vectors import half_search, merge, shard_search
from rayscan.vectors.half_search import HalfSearch, lowest, rounded
from rayscan.vectors.merge import MARGIN
from rayscan.vectors.shard_search import ShardSearch


@pytest.fixture
def _small(monkeypatch):
    """Many tiles, groups and blocks of few rows."""
    for name, value in {
        "QUERY_BLOCK": 7,
        "ROW_TILE": 128,
        "TILES": 3,
        "GROUP": 2,
        "CROWD": 50,
        "MOST": 100,
    }.items():
        monkeypatch.setattr(half_search, name, value)
    monkeypatch.setattr(shard_search, "MIN_ROWS", 1)
    monkeypatch.setattr(shard_search, "MAX_WIDTH", 16)


def unit(x):
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


def half_place(score):
    """Half a unit in the last place of a bfloat16, which has 8 bits: 2^-8 for scores from 1 to 2."""
    return 2.0 ** (np.floor(np.log2(np.maximum(np.abs(score), 1e-30))) - 8)


def spread_out(rng, n=413, dim=24):
    return unit(rng.normal(size=(n, dim)) + 1.0)


def crowded(rng):
    """Tight crowds of 30 and of 180 rows, all within the bound of each other, with exact ties among them."""
    sizes = [30] * 8 + [180]
    rows = unit(np.repeat(rng.normal(size=(9, 24)), sizes, axis=0) + rng.normal(size=(420, 24)) * 1e-4)
    rows[1::14] = rows[::14]
    return rows


def half_way(rng):
    """Values as far from bfloat16 as can be: half a unit of its last place away."""
    signs = np.where(rng.random((413, 24)) < 0.2, -1, 1)
    whole = 1 + rng.integers(0, 8, (413, 24)) * 2.0**-4
    return unit(signs * (whole + 2.0**-8 * (1 - 2.0**-12)))


KINDS = {"spread out": spread_out, "crowded": crowded, "half way": half_way}


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "threads"), [(1, 1), (9, 2)])
def test_the_best_are_those_of_float64(kind, width, threads):
    rows = KINDS[kind](np.random.default_rng(0))
    queries = np.concatenate([rows[:30], spread_out(np.random.default_rng(1), 20, rows.shape[1])])
    exact = queries.astype(np.float64) @ rows.astype(np.float64).T
    scores, found, is_found = HalfSearch(rows, threads).search(queries, width)
    assert scores.shape == found.shape == (50, width)
    assert is_found.mean() > (0.6 if kind == "crowded" else 0.95)
    best = -np.sort(-exact, axis=1)[:, :width]
    for query in np.flatnonzero(is_found):
        assert len(set(found[query])) == width
        np.testing.assert_allclose(exact[query, found[query]], best[query], atol=2e-7)
        np.testing.assert_allclose(scores[query], best[query], atol=1e-6)


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("kind", KINDS)
def test_products_are_off_by_no_more_than_the_bound(kind):
    rows = KINDS[kind](np.random.default_rng(2))
    half, left_over, length = rounded(rows)
    bound = HalfSearch(rows, 1)._error(left_over, length)
    sums = torch.mm(half.to(torch.float64), half.to(torch.float64).T).numpy()
    off = np.abs(sums - rows.astype(np.float64) @ rows.astype(np.float64).T)
    assert (off <= bound[:, None]).all()
    assert off.max() > (0.02 if kind == "half way" else 0.01) * bound.max()
    told = torch.mm(half, half.T).to(torch.float64).numpy()
    assert (np.abs(told - sums) <= half_place(told) + 24 * 2.0**-23).all()


def test_the_cut_is_below_whatever_may_be_among_the_best():
    """A row whose product is below the cut has an exact score under that of any row that reaches the last."""
    rng = np.random.default_rng(3)
    score = torch.from_numpy(rng.uniform(0.001, 1, 500)).to(torch.bfloat16)
    error = rng.uniform(0, 0.004, 500)
    bits = lowest(score.view(torch.int16).numpy(), error)
    cut = torch.from_numpy(bits).view(torch.bfloat16).to(torch.float64).numpy()
    last = score.to(torch.float64).numpy()
    has_cut = bits > 0
    assert has_cut.any()
    assert not has_cut.all()

    lower = torch.from_numpy(bits - 1).view(torch.bfloat16).to(torch.float64).numpy()  # the next below
    off = error + half_place(last)
    assert (lower + error + half_place(lower) < last - off)[has_cut].all()
    assert (cut >= last - 2 * off - 2 * half_place(last))[has_cut].all()  # no lower than it has to be


@pytest.mark.usefixtures("_small")
def test_what_it_cannot_settle_is_left():
    rows = spread_out(np.random.default_rng(4))
    queries = rows[:4].copy()
    queries[1] = np.nan
    queries[2] = -rows[2]  # all scores below zero
    *_, is_found = HalfSearch(rows, 1).search(queries, 5)
    assert is_found.tolist() == [True, False, False, True]


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize(("name", "value"), [("CROWD", 1000), ("MOST", 1000)])
def test_a_query_in_a_crowd_is_left(name, value, monkeypatch):
    """By its candidates in one tile, and by those in all."""
    one = np.repeat(spread_out(np.random.default_rng(4))[:1], 400, axis=0)
    assert not HalfSearch(one, 1).search(one[:1], 5)[2].any()
    monkeypatch.setattr(half_search, name, value)
    assert not HalfSearch(one, 1).search(one[:1], 5)[2].any()


class OneShard:
    """`merge.Shards` of one shard in this process."""

    nprobe = None
    margin = MARGIN

    def __init__(self, rows, *, has_units, monkeypatch):
        monkeypatch.setattr(shard_search, "has_bf16_units", lambda: has_units)
        self.shard = ShardSearch(rows, threads=1, use_gpu=False, where="test")
        self.sizes = [len(rows)]
        self.settled = [0, 0]

    def propose(self, queries, width):
        proposal = self.shard.search(queries, width)
        self.settled[0] += self.shard.by_half
        self.settled[1] += self.shard.by_float
        return [proposal]

    def score(self, queries, pairs):
        return [self.shard.score(queries, *pairs[0])]


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("kind", KINDS)
def test_neighbors_are_those_of_float32_to_the_last_bit(kind, monkeypatch):
    """Ties and rows within a rounding of each other included; what is left to float32 is counted."""
    rows = KINDS[kind](np.random.default_rng(5))
    plain = OneShard(rows, has_units=False, monkeypatch=monkeypatch)
    half = OneShard(rows, has_units=True, monkeypatch=monkeypatch)
    expected, found = merge.nearest(rows, plain, 6), merge.nearest(rows, half, 6)
    assert np.array_equal(expected[0], found[0])
    assert np.array_equal(expected[1], found[1])
    assert plain.settled[0] == 0
    assert half.settled[0] > 0
    assert half.settled[1] >= (180 if kind == "crowded" else 0)
    assert kind == "crowded" or half.settled[1] == 0


def test_rows_of_the_usual_size_are_found(monkeypatch):
    rng = np.random.default_rng(6)
    rows = unit(rng.normal(size=(shard_search.MIN_ROWS + 77, 12)))
    monkeypatch.setattr(shard_search, "has_bf16_units", lambda: True)
    shard = ShardSearch(rows, threads=1, use_gpu=False, where="test")
    scores, _ = shard.search(rows[-40:], 20)
    assert shard.by_half == 40
    exact = -np.sort(-(rows[-40:].astype(np.float64) @ rows.astype(np.float64).T), axis=1)[:, :20]
    np.testing.assert_allclose(scores, exact, atol=1e-6)
    shard.search(rows[:3], shard_search.MAX_WIDTH + 1)
    assert (shard.by_half, shard.by_float) == (0, 3)
