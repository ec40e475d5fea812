"""Nearest centroids by bfloat16 proposals: labels of exact distances, whatever the rows look like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from rayscan.vectors import cluster_shard, exact_distances, half_limits, half_nearest
from rayscan.vectors.cluster_shard import ClusterShard, ClusterSums, Extent
from rayscan.vectors.half_nearest import HalfNearest, Rounding, highest
from rayscan.vectors.lloyd import KMeans, State, fit, seeds
from rayscan.vectors.nearest import nearest_centroid
from testing.matrices import unit
from testing.shard_pool import LocalPool

Rows = NDArray[np.float32]


def spread_out(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Centroids among the rows: some rows are at a distance of zero."""
    x = unit(rng.normal(size=(300, 24)))
    return x, np.concatenate([x[:20], unit(rng.normal(size=(31, 24))) / 2])


def copies(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Equal centroids, and rows half way between two others."""
    x, c = spread_out(rng)
    return np.concatenate([x, (c[:20] + c[20:40]) / 2]), np.concatenate([c[30:], c, c[:40]])


def crowded(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """All centroids within the bound of each other, more than may be told apart one by one."""
    x = unit(rng.normal(size=(300, 24)))
    return x, (unit(np.ones((1, 24))) + rng.normal(size=(90, 24)) * 1e-4).astype(np.float32)


def half_way(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Values as far from bfloat16 as can be: half a unit of its last place away."""
    x = (1 + rng.integers(0, 8, (340, 24)) * 2.0**-4 + 2.0**-8 * (1 - 2.0**-12)).astype(np.float32)
    x *= np.where(rng.random(x.shape) < 0.2, -1, 1)
    return x[:300], x[300:]


def far_away(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """An offset many times the distances, where bfloat16 says nothing."""
    x = (rng.normal(size=(340, 24)) + 1000).astype(np.float32)
    return x[:300], x[300:]


def tiny_and_large(rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Rows of lengths from 1e-18 to 1e18."""
    x, c = spread_out(rng)
    return (x * 10.0 ** rng.integers(-18, 19, (300, 1))).astype(np.float32), c


KINDS = {
    "spread out": spread_out,
    "copies": copies,
    "crowded": crowded,
    "half way": half_way,
    "far away": far_away,
    "tiny and large": tiny_and_large,
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 rows, few of their candidates looked at one by one."""
    monkeypatch.setattr(half_nearest, "PIECE_VALUES", 1)
    monkeypatch.setattr(exact_distances, "VALUES_AT_ONCE", 100)


def squares_of(x: Rows, c: Rows) -> NDArray[np.float64]:
    """Squared distances as they are defined: [n, C]."""
    return np.array(np.square(x[:, None].astype(np.float64) - c[None]).sum(axis=2))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_labels_are_those_of_exact_distances(kind: str, seed: int) -> None:
    """The first at a tie; distances lie between the bounds; every row is counted."""
    x, c = KINDS[kind](np.random.default_rng(seed))
    found = HalfNearest(c, threads=1 + seed % 2).nearest(x)
    exact = squares_of(x, c)
    least = exact.min(axis=1)
    if kind == "copies":
        assert (np.sort(exact, axis=1)[:, 0] == np.sort(exact, axis=1)[:, 1]).mean() > 0.5
    differ = found.labels != exact.argmin(axis=1)
    # the order of float64 additions decides where two distances are equal but for the last bit
    at = np.flatnonzero(differ)
    np.testing.assert_allclose(exact[at, found.labels[at]], least[at], rtol=1e-15)
    assert differ.mean() < 0.02 or kind == "tiny and large"
    assert (found.low <= least * (1 + 1e-15)).all()
    assert (found.high >= least * (1 - 1e-15)).all()
    assert found.settled.sum() == len(x)


@pytest.mark.usefixtures("small")
def test_equal_centroids_give_the_first() -> None:
    rng = np.random.default_rng(1)
    x, c = spread_out(rng)
    places = rng.permutation(np.repeat(np.arange(len(c)), 3))
    many = c[places]
    first = np.array([np.flatnonzero(places == number)[0] for number in range(len(c))])
    np.testing.assert_array_equal(
        HalfNearest(many).nearest(x).labels, first[HalfNearest(c).nearest(x).labels]
    )


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("kind", KINDS)
def test_what_settles_a_row_is_counted(kind: str) -> None:
    x, c = KINDS[kind](np.random.default_rng(9))
    alone, few, many = HalfNearest(c).nearest(x).settled
    if kind in ("crowded", "far away"):
        assert many > 0.9 * len(x)
    elif kind in ("spread out", "copies"):
        assert alone > 0.5 * len(x)
        assert few > 0
        assert many == 0


@pytest.mark.parametrize("kind", KINDS)
def test_products_are_off_by_no_more_than_the_bound(kind: str) -> None:
    x, c = KINDS[kind](np.random.default_rng(2))
    half, known = HalfNearest(c), Rounding.of(x)
    left = torch.cat([torch.from_numpy(x).bfloat16(), known.squares, torch.ones(len(x), 2).bfloat16()], dim=1)
    told = torch.mm(left, half._half.T).double().numpy()[:, : len(half._centroids)]
    off = np.abs(told - squares_of(x, half._centroids) / 2)
    place = 2.0 ** (np.floor(np.log2(np.maximum(np.abs(told), 1e-40))) - 8)
    assert (off <= half._error(known)[:, None] + place).all()
    assert off.max() > 0.01 * half._error(known).min()


def test_the_cut_is_above_whatever_may_be_the_nearest() -> None:
    """A centroid whose product is above the cut is farther than the one whose product is known."""
    rng = np.random.default_rng(3)
    score = torch.from_numpy(rng.uniform(-0.001, 1, 500)).bfloat16()
    error = rng.uniform(0.001, 0.004, 500)
    known = score.double().numpy()
    bits = highest(known, error)
    assert (bits > 0).all()
    above = torch.from_numpy(bits + np.int16(1)).view(torch.bfloat16).double().numpy()  # the next above
    place = 2.0 ** (np.floor(np.log2(np.abs(known))) - 8)
    place_above = 2.0 ** (np.floor(np.log2(above)) - 8)
    assert (above - place_above - error > known + place + error).all()
    cut = torch.from_numpy(bits).view(torch.bfloat16).double().numpy()
    assert (cut <= (known + place + 2 * error) * (1 + 2.0**-6)).all()  # no higher than it has to be
    assert highest(np.array([np.nan, np.inf, 1.0]), np.array([1.0, 1.0, np.inf])).tolist() == [0, 0, 0]


def fitted(
    x: Rows, num_shards: int, *, has_units: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[State, Any]:
    """k-means of 24 clusters; with the rows that were assigned by bfloat16."""
    monkeypatch.setattr(cluster_shard, "BLOCK_ROWS", 128)
    monkeypatch.setattr(cluster_shard, "has_bf16_units", lambda: has_units)
    monkeypatch.setattr(half_limits, "MIN_CENTROIDS", 2)
    monkeypatch.setattr(half_limits, "MIN_VALUES", 2)
    pool = LocalPool(x, num_shards)
    extent = Extent.joined(pool.ask("extent"))
    start = State(seeds(pool, extent, 24, seed=0))
    start.centroids[-3:] = start.centroids[:3]  # equal ones: three are empty and move to far rows
    state = fit(pool, extent, start, KMeans(num_clusters=24, iterations=12, tolerance=-1))
    return state, np.sum([shard.settled for shard in pool.shards], axis=0)


@pytest.mark.parametrize("seed", range(6))
def test_centroids_are_those_of_float32_to_the_last_bit(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of few small integers: many ties at first, which float32 sees exactly, and copies all along."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (1000, 8)).astype(np.float32)
    expected, none = fitted(x, 1, has_units=False, monkeypatch=monkeypatch)
    assert none.sum() == 0
    for num_shards in (1, 3):
        state, settled = fitted(x, num_shards, has_units=True, monkeypatch=monkeypatch)
        assert settled.sum() == 13 * len(x)
        assert (settled[:2] > 0).all()
        assert np.array_equal(state.centroids, expected.centroids)
        assert state.history == expected.history


@pytest.mark.parametrize("far", [0, 1, 60, 250, 700])
def test_the_farthest_rows_are_those_of_exact_distances(far: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    x = unit(rng.normal(size=(700, 16)))
    x[300:420] = x[:120]  # ties, in the order of their numbers
    c = x[rng.choice(700, 30, replace=False)]
    monkeypatch.setattr(cluster_shard, "has_bf16_units", lambda: True)
    monkeypatch.setattr(half_limits, "MIN_CENTROIDS", 2)
    monkeypatch.setattr(half_limits, "MIN_VALUES", 2)
    shard = ClusterShard(x, 0, threads=1, where="test")
    found: ClusterSums = shard.cluster_sums(c, shard.extent().grid, far)
    exact = squares_of(x, c).min(axis=1).astype(np.float32)
    want = np.lexsort((np.arange(700), -exact))[:far]
    np.testing.assert_array_equal(found.far_rows, want)
    np.testing.assert_allclose(found.far_distances, exact[want], rtol=1e-6)
    np.testing.assert_array_equal(found.far_vectors, x[want])


def test_labels_are_those_of_float32_where_it_can_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    x, c = unit(rng.normal(size=(3000, 200))), unit(rng.normal(size=(500, 200)))
    monkeypatch.setattr(cluster_shard, "has_bf16_units", lambda: True)
    shard = ClusterShard(x, 0, threads=2, where="test")
    labels = shard.labels(c)
    assert shard.settled[0] > 0.3 * len(x)
    two = np.sort(squares_of(x[:500], c), axis=1)[:, :2]
    is_clear = two[:, 1] - two[:, 0] > 1e-5
    assert is_clear.mean() > 0.95
    np.testing.assert_array_equal(labels[:500][is_clear], nearest_centroid(x, c)[0][:500][is_clear])
