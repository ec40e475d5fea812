"""k-means over shards against a slow twin in float64, and for any sharding against itself, bit by bit."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.cluster import KMeans as SklearnKMeans
from sklearn.datasets import load_digits

from rayscan.errors import ConfigError, DataError
from rayscan.vectors import cluster_shard
from rayscan.vectors.cluster_shard import ClusterShard, ClusterSums, Extent
from rayscan.vectors.lloyd import FAR_ROWS, KMeans, State, best_of, fit, moved, seeds
from testing.matrices import unit
from testing.shard_pool import LocalPool

Rows = NDArray[np.float32]


def pool_of(x: Rows, num_shards: int = 1) -> tuple[LocalPool, Extent]:
    pool = LocalPool(x, num_shards)
    return pool, Extent.joined(pool.ask("extent"))


def blobs(n: int = 3000, dim: int = 12, centers: int = 20, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(centers, dim))[rng.integers(centers, size=n)] + 0.4 * rng.normal(size=(n, dim))
    ).astype(np.float32)


def naive_lloyd(x: Rows, start: Rows, moves: int) -> tuple[NDArray[np.float64], list[float]]:
    """Textbook Lloyd in float64; centroids are rounded to float32 after each move, as ours are stored."""
    c, history = start.astype(np.float64), []
    for move in range(moves + 1):
        distances = ((x[:, None].astype(np.float64) - c[None]) ** 2).sum(axis=2)
        labels = distances.argmin(axis=1)
        history.append(float(distances[np.arange(len(x)), labels].sum()))
        if move < moves:
            c = np.array([x[labels == k].astype(np.float64).mean(axis=0) for k in range(len(c))])
            c = c.astype(np.float32).astype(np.float64)
    return c, history


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster_shard, "BLOCK_ROWS", 128)


@pytest.mark.parametrize("num_shards", [1, 3, 8])
def test_equals_textbook_lloyd_from_the_same_seeds(small_blocks: None, num_shards: int) -> None:
    x = blobs()
    pool, extent = pool_of(x, num_shards)
    start = seeds(pool, extent, 20, seed=3)
    state = fit(pool, extent, State(start), KMeans(num_clusters=20, iterations=9, tolerance=-1))
    want, history = naive_lloyd(x, start, 9)
    np.testing.assert_allclose(state.centroids, want, rtol=0, atol=2e-7)
    np.testing.assert_allclose(state.history, history, rtol=1e-9)
    assert state.is_over
    assert len(state.history) == 10


@pytest.mark.parametrize("settings", [{}, {"is_spherical": True}, {"is_minibatch": True, "iterations": 3}])
def test_any_sharding_gives_the_same_bits(small_blocks: None, settings: dict[str, Any]) -> None:
    x = unit(blobs(seed=1)).astype(np.float16).astype(np.float32)
    found = []
    for num_shards in (1, 3, 8):
        pool, extent = pool_of(x, num_shards)
        assert len(pool.shards) == num_shards
        start = seeds(pool, extent, 17, seed=5)
        found.append(fit(pool, extent, State(start), KMeans(num_clusters=17, **settings), seed=5))
    for other in found[1:]:
        assert other.centroids.tobytes() == found[0].centroids.tobytes()
        assert other.history == pytest.approx(found[0].history, rel=1e-12)
    if settings.get("is_spherical"):
        np.testing.assert_allclose(np.linalg.norm(found[0].centroids, axis=1), 1, atol=1e-6)


def test_sums_are_exact_whoever_adds_them_up() -> None:
    """Rows of very different size: float32 sums in another order would differ."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(4000, 5)) * 10.0 ** rng.uniform(-4, 3, size=(4000, 1))).astype(np.float32)
    whole, extent = pool_of(x)
    want = ClusterSums.joined(whole.ask("cluster_sums", x[:7], extent.grid, 3), 3)
    order = rng.permutation(4000)
    parts = [
        whole.shards[0].cluster_sums_of(x[:7], extent.grid, 3, np.sort(o)) for o in np.array_split(order, 13)
    ]
    got = ClusterSums.joined([parts[i] for i in rng.permutation(13)], 3)
    assert got.sums.tobytes() == want.sums.tobytes()
    assert got.far_rows.tolist() == want.far_rows.tolist()
    labels = whole.shards[0].labels(x[:7])
    exact = np.array([x[labels == k].astype(np.float64).sum(axis=0) for k in range(7)])
    np.testing.assert_allclose(want.sums, exact, atol=4000 * extent.grid / 2)


def test_goes_on_from_any_state(small_blocks: None) -> None:
    x = blobs(seed=2)
    for settings in (KMeans(num_clusters=11), KMeans(num_clusters=11, iterations=4, is_minibatch=True)):
        pool, extent = pool_of(x, 3)
        states: list[State] = []
        whole = fit(pool, extent, State(seeds(pool, extent, 11, 0)), settings, seed=1, on_state=states.append)
        again = fit(pool, extent, states[1], settings, seed=1)
        assert again.centroids.tobytes() == whole.centroids.tobytes()
        assert again.history == whole.history


def test_stops_when_little_changes_and_never_rises() -> None:
    x = unit(load_digits().data)
    pool, extent = pool_of(x)
    start = seeds(pool, extent, 10, seed=0)
    loose = fit(pool, extent, State(start), KMeans(num_clusters=10, tolerance=1e-2))
    tight = fit(pool, extent, State(start), KMeans(num_clusters=10, tolerance=0))
    assert len(loose.history) < len(tight.history) < 100
    assert (np.diff(tight.history) <= 0).all()
    theirs = SklearnKMeans(10, init=start, n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(x)
    assert tight.inertia == pytest.approx(theirs.inertia_, rel=1e-6)


def test_an_empty_cluster_takes_the_farthest_row() -> None:
    x = np.array([[0, 0], [0.1, 0], [9, 0], [9, 0], [9.5, 0]], np.float32)
    start = np.array([[0, 0], [100, 0], [200, 0]], np.float32)  # all rows are nearest to the first
    pool, extent = pool_of(x)
    found = ClusterSums.joined(pool.ask("cluster_sums", start, extent.grid, FAR_ROWS), FAR_ROWS)
    assert found.counts.tolist() == [5, 0, 0]
    centroids = moved(found, start, is_spherical=False)
    assert centroids[1:].tolist() == [[9.5, 0], [9, 0]]  # the equal rows count once
    state = fit(pool, extent, State(start), KMeans(num_clusters=3))
    assert state.inertia == pytest.approx(0.005, abs=1e-6)


def test_minibatch_of_all_rows_is_lloyd_at_first() -> None:
    """One batch that holds every row: the first pass moves centroids to the means of their clusters."""
    x = blobs(1500)
    pool, extent = pool_of(x)
    start = seeds(pool, extent, 8, 0)
    state = fit(pool, extent, State(start), KMeans(num_clusters=8, iterations=1, is_minibatch=True))
    want, _ = naive_lloyd(x, start, 1)
    np.testing.assert_allclose(state.centroids, want, atol=1e-6)


def test_minibatch_equals_one_row_after_the_other() -> None:
    """Sculley (WWW 2010), Alg. 1: a batch is assigned, then each row moves its centroid by 1 / (rows had)."""
    x = blobs(7000, seed=4)
    pool, extent = pool_of(x)
    start = seeds(pool, extent, 20, 0)
    state = fit(pool, extent, State(start), KMeans(num_clusters=20, iterations=2, is_minibatch=True), seed=9)
    c, given = start.astype(np.float64), np.zeros(20, int)
    for epoch in range(2):
        order = np.random.default_rng([9, epoch]).permutation(7000)
        for batch in np.split(x[order].astype(np.float64), [2048, 4096, 6144]):
            labels = ((batch[:, None] - c[None]) ** 2).sum(axis=2).argmin(axis=1)
            for row, k in zip(batch, labels, strict=True):
                given[k] += 1
                c[k] += (row - c[k]) / given[k]
    np.testing.assert_allclose(state.centroids, c, atol=2e-6)
    assert state.counts.tolist() == given.tolist()


def test_the_fit_of_lowest_inertia_is_kept() -> None:
    states = [State(np.zeros((1, 1), np.float32), (9.0, value)) for value in (3.0, 1.0, 1.0)]
    assert best_of(states) == 1


def test_seeds_are_rows_that_lie_apart() -> None:
    x = blobs(seed=6)
    pool, extent = pool_of(x)
    picked = seeds(pool, extent, 20, seed=0)
    assert {row.tobytes() for row in picked} <= {row.tobytes() for row in x}
    assert len({row.tobytes() for row in picked}) == 20
    spread = [
        fit(pool, extent, State(s), KMeans(num_clusters=20, iterations=1)).history[0]
        for s in (picked, x[:20])
    ]
    assert spread[0] < 0.8 * spread[1]


def test_refusals() -> None:
    pool, extent = pool_of(blobs(50))
    with pytest.raises(ConfigError, match="num-clusters"):
        seeds(pool, extent, 51, 0)
    x = blobs(50)
    x[7, 3] = np.nan
    with pytest.raises(DataError, match="1 rows that are not"):
        pool_of(x)


def test_a_shard_needs_little_memory_beside_its_rows() -> None:
    """Two million rows are gigabytes: nothing as large as the rows is made of them."""
    rows = np.random.default_rng(0).standard_normal((100_000, 64), np.float32)
    tracemalloc.start()
    try:
        shard = ClusterShard(rows, 0, threads=1, where="rows")
        extent = shard.extent()
        shard.cluster_sums(rows[:10].copy(), extent.grid, 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < rows.nbytes / 2
    assert extent.largest == float(np.abs(rows).max())
