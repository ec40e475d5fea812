from __future__ import annotations

import numpy as np
import pytest

from rayscan.errors import ConfigError, DataError
from rayscan.vectors.kmeans import inertia, kmeans, seed_centroids
from rayscan.vectors.nearest import nearest_centroid, nearest_centroids
from testing.matrices import Rows


def bundles(seed: int, n: int = 3000) -> Rows:
    """Eight overlapping bundles in 5 dimensions."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(8, 5))[rng.integers(0, 8, n)] + 0.4 * rng.normal(size=(n, 5))).astype(np.float32)


def lloyd(x: Rows, start: Rows, iterations: int) -> np.ndarray:
    """Lloyd's algorithm as the textbook has it, in float64."""
    centroids = start.astype(np.float64)
    for _ in range(iterations):
        labels = np.square(x[:, None].astype(np.float64) - centroids).sum(-1).argmin(1)
        centroids = np.stack([x[labels == c].astype(np.float64).mean(0) for c in range(len(centroids))])
    return centroids


@pytest.mark.parametrize("iterations", [1, 3, 10])
def test_equals_lloyd_from_the_same_start_on_all_rows(iterations):
    """750 rows per centroid: faiss by itself would use 256 of them."""
    x = bundles(0)
    start = x[[5, 500, 1000, 1500]]
    centroids, total = kmeans(x, 4, seed=0, iterations=iterations, start=start)
    want = lloyd(x, start, iterations)
    np.testing.assert_allclose(centroids, want, atol=2e-3 * iterations / 10 + 1e-5)
    distances = np.square(x[:, None].astype(np.float64) - centroids.astype(np.float64)).sum(-1)
    np.testing.assert_allclose(total, distances.min(1).sum(), rtol=1e-9)
    np.testing.assert_array_equal(nearest_centroid(x, centroids)[0], distances.argmin(1))


def test_same_seed_same_result_and_restarts_help():
    x = bundles(1)
    one, again = kmeans(x, 8, seed=3, restarts=2), kmeans(x, 8, seed=3, restarts=2)
    np.testing.assert_array_equal(one[0], again[0])
    assert one[1] == again[1]
    seeds = [kmeans(x, 8, seed=seed, iterations=10)[0] for seed in (3, 4)]
    assert not np.array_equal(*seeds)
    even = np.random.default_rng(0).normal(size=(600, 6)).astype(np.float32)  # many local optima
    single, many = (kmeans(even, 30, seed=0, restarts=restarts, iterations=10)[1] for restarts in (1, 10))
    assert many < single


def test_as_many_clusters_as_rows_and_empty_ones():
    x = bundles(2, 40)
    centroids, total = kmeans(x, 40, seed=0)
    assert total == pytest.approx(0, abs=1e-6) and sorted(nearest_centroid(x, centroids)[0]) == list(
        range(40)
    )
    far = np.concatenate([x, x[:1] + 1000])
    centroids, _ = kmeans(
        far, 3, seed=0, start=np.full((3, 5), 1e4, np.float32) + np.eye(3, 5, dtype=np.float32)
    )
    assert np.isfinite(centroids).all() and len(set(nearest_centroid(far, centroids)[0])) >= 2


def test_refuses_what_cannot_be_clustered():
    x = bundles(0, 10)
    for wrong in (0, 11):
        with pytest.raises(ConfigError, match=rf"(?s)1\.\.10.*got: +{wrong}.*num_clusters"):
            kmeans(x, wrong, seed=0)
    x[4, 1] = np.nan
    with pytest.raises(DataError, match="1 rows that are not"):
        kmeans(x, 2, seed=0)


def test_inertia_in_blocks(monkeypatch):
    x, centroids = bundles(0), bundles(5, 6)
    whole = inertia(x, centroids)
    monkeypatch.setattr("rayscan.vectors.kmeans.ROWS_AT_ONCE", 7)
    assert inertia(x, centroids) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("restart", [0, 1, 4])
def test_seeds_are_those_of_the_restarts(restart):
    """Lloyd from these seeds is what faiss does in its restart of that number."""
    x = bundles(3)
    seeds = seed_centroids(x, 8, seed=5, restart=restart)
    assert all((x == seed).all(axis=1).any() for seed in seeds)
    fits = [
        kmeans(x, 8, seed=0, iterations=6, start=seed_centroids(x, 8, seed=5, restart=r)) for r in range(3)
    ]
    best = min(fits, key=lambda fit: fit[1])
    np.testing.assert_allclose(kmeans(x, 8, seed=5, restarts=3, iterations=6)[0], best[0], atol=1e-5)


@pytest.mark.parametrize("k", [1, 5, 12])
def test_nearest_centroids_are_in_the_order_of_distance(k):
    x, centroids = bundles(6, 500), bundles(7, 9)
    centroids[7] = centroids[2]  # a tie: the lower number comes first
    labels, distances = nearest_centroids(x, centroids, k)
    exact = np.square(x[:, None].astype(np.float64) - centroids).sum(-1)
    order = np.argsort(exact, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(labels, order)
    np.testing.assert_allclose(distances, np.take_along_axis(exact, order, axis=1), atol=1e-5)
    assert nearest_centroids(x[:0], centroids, k)[0].shape == (0, min(k, 9))
