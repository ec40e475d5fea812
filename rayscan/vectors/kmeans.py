"""k-means by faiss over rows in memory: for inverted lists and pixels, and the seeds of the baseline."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import NDArray

from rayscan.errors import ConfigError, DataError
from rayscan.vectors.nearest import nearest_centroid

ROWS_AT_ONCE = 65_536
RESTART_SEEDS = 15_486_557
"""faiss seeds its restart r with the seed plus r times this."""


def kmeans(
    x: NDArray[np.float32],
    num_clusters: int,
    *,
    seed: int,
    restarts: int = 1,
    iterations: int = 25,
    start: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Lloyd's algorithm from k-means++ seeds; every row is used, and the restart of lowest inertia is kept.

    An empty cluster takes half of a large one. The same arguments give the same centroids.

    Args:
        x: [n, D], finite.
        num_clusters: C.
        seed: Of the seeding.
        restarts: Independent runs; unused with `start`, where all would be equal.
        iterations: Lloyd iterations of each run.
        start: Centroids to begin with instead of seeds: [C, D].

    Returns:
        Centroids float32 [C, D], and the inertia: the sum over the rows of the squared distance to the
        nearest.

    Raises:
        ConfigError: there are fewer rows than clusters.
        DataError: a value is NaN or infinite.
    """
    x = np.ascontiguousarray(x, np.float32)
    _require_rows(x, num_clusters)
    lloyd = faiss.Kmeans(
        x.shape[1],
        num_clusters,
        niter=iterations,
        nredo=restarts if start is None else 1,
        seed=seed,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        min_points_per_centroid=1,
        max_points_per_centroid=len(x),  # faiss draws a subsample above C times this many rows; here never
    )
    lloyd.train(x, init_centroids=None if start is None else np.ascontiguousarray(start, np.float32))
    centroids = np.array(lloyd.centroids, np.float32)
    return centroids, inertia(x, centroids)


def seed_centroids(
    x: NDArray[np.float32], num_clusters: int, *, seed: int, restart: int
) -> NDArray[np.float32]:
    """The k-means++ seeds that restart number `restart` of `kmeans` begins with: [n, D] -> float32 [C, D].

    Raises:
        ConfigError: there are fewer rows than clusters.
        DataError: a value is NaN or infinite.
    """
    return kmeans(x, num_clusters, seed=seed + restart * RESTART_SEEDS, iterations=0)[0]


def _require_rows(x: NDArray[np.float32], num_clusters: int) -> None:
    if not 1 <= num_clusters <= len(x):
        raise ConfigError(
            "k-means cannot form that many clusters",
            expected=f"1..{len(x)}, the number of images",
            got=num_clusters,
            where="num_clusters",
            fix="pass a smaller --num-clusters",
        )
    if not np.isfinite(x).all():
        raise DataError(
            "k-means needs finite rows", got=f"{int((~np.isfinite(x)).any(axis=1).sum())} rows that are not"
        )


def inertia(x: NDArray[np.float32], centroids: NDArray[np.float32]) -> float:
    """Sum of squared distances to the nearest centroid, in float64: [n, D] and [C, D] -> scalar."""
    total = 0.0
    for first in range(0, len(x), ROWS_AT_ONCE):
        some = x[first : first + ROWS_AT_ONCE]
        total += float(
            np.square(some.astype(np.float64) - centroids[nearest_centroid(some, centroids)[0]]).sum()
        )
    return total
