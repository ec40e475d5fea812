"""k-means on the fleet: actors that each hold a shard of the train rows, or of their principal components."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.artifacts import Artifact
from rayscan.fleet.connect import Fleet
from rayscan.fleet.pool import ActorPool
from rayscan.fleet.shard_layout import shards_and_threads
from rayscan.vectors.cluster_shard import BLOCK_ROWS, ClusterShard, Extent, shard_bounds
from rayscan.vectors.kmeans import seed_centroids
from rayscan.vectors.lloyd import KMeans, State, best_of, fit
from rayscan.vectors.parts import EmbeddingRows
from rayscan.vectors.pca import Pca
from rayscan.vectors.seeding import ROWS_PER_CLUSTER, Pool

SEED_VALUES = 1 << 25
"""Values of the rows that seeds are drawn from, 128 MiB: all rows up to 65,536 x 512."""
SAME_INERTIA = 1e-9
"""Share by which fits that ended in one partition may differ."""


@dataclass(frozen=True)
class Shard:
    """Train rows [first, stop) that one actor keeps in memory."""

    rows: EmbeddingRows
    pca: Artifact | None
    first: int
    stop: int
    threads: int


@contextmanager
def kmeans_pool(
    fleet: Fleet, rows: EmbeddingRows, num_shards: int | None, pca: Artifact | None = None
) -> Iterator[Pool]:
    """Load all train rows into actors, which end with the context.

    Args:
        fleet: The machines.
        rows: The matrix.
        num_shards: Shards, if the user says.
        pca: Components to project the rows onto, once, as an actor loads them.
    """
    shards, threads = shards_and_threads(fleet.joined(), num_shards)
    items = [Shard(rows, pca, first, stop, threads) for first, stop in shard_bounds(rows.train_rows, shards)]
    with ActorPool(load_shard, items, what="a shard of the rows") as pool:
        yield pool


def load_shard(shard: Shard) -> ClusterShard:
    """Read and project the rows of a shard; block by block, so that other shards would give the same."""
    pca = None if shard.pca is None else Pca.read(shard.pca)
    where = f"rows {shard.first}..{shard.stop} of {shard.rows.artifact.place.uri}"
    dim = shard.rows.dim if pca is None else len(pca.variances)
    out = np.empty((shard.stop - shard.first, dim), np.float32)
    for first in range(shard.first, shard.stop, BLOCK_ROWS):
        stop = min(first + BLOCK_ROWS, shard.stop)
        x = shard.rows.read(first, stop)
        out[first - shard.first : stop - shard.first] = x if pca is None else pca.project(x)
    return ClusterShard(out, shard.first, threads=shard.threads, where=where)


@dataclass(frozen=True)
class SeedTask:
    """The seeds of one restart, to be drawn by one task."""

    rows: EmbeddingRows
    num_clusters: int
    seed: int
    restart: int


def draw_seeds(task: SeedTask) -> NDArray[np.float32]:
    """k-means++ seeds by faiss: float32 [C, D]; from all train rows, or a sample of SEED_VALUES values."""
    rows, total = task.rows, task.rows.train_rows
    size = max(SEED_VALUES // rows.dim, ROWS_PER_CLUSTER * task.num_clusters)
    if size >= total:
        x = rows.read(0, total)
    else:
        rng = np.random.default_rng([task.seed, 0])
        x = rows.take(np.sort(rng.choice(total, size, replace=False, shuffle=False)))
    return seed_centroids(x, task.num_clusters, seed=task.seed, restart=task.restart)


def fit_kmeans(
    fleet: Fleet, rows: EmbeddingRows, num_clusters: int, *, seed: int, n_init: int, iterations: int
) -> NDArray[np.float32]:
    """The centroids of Lloyd's algorithm over all train rows, by shards: the best of `n_init` fits.

    Args:
        fleet: The machines.
        rows: The matrix.
        num_clusters: C.
        seed: Of all seedings.
        n_init: Fits from seeds of their own.
        iterations: At most so many moves of the centroids.

    Returns:
        float32 [C, D].

    Raises:
        ConfigError: there are fewer rows than clusters.
        DataError: a value is NaN or infinite.
    """
    tasks = [SeedTask(rows, num_clusters, seed, restart) for restart in range(n_init)]
    seeds = fleet.map(draw_seeds, tasks)
    settings = KMeans(num_clusters=num_clusters, iterations=iterations, tolerance=0.0)
    with kmeans_pool(fleet, rows, None) as pool:
        extent = Extent.joined(pool.ask("extent"))
        fits = [fit(pool, extent, State(centroids), settings) for centroids in seeds]
    return fits[best_of(fits, SAME_INERTIA)].centroids
