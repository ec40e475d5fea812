"""k-means over shards: Lloyd's algorithm, and the mini-batch variant of arXiv 2008.10312 (Sec. 2).

The shards see rows, the driver sees sums of C rows, C counts and a few far rows: 16 C D bytes a shard and
iteration, whatever N is. Everything here is a function of these sums, so it is the same for any sharding.

Letters: N rows, D wide, C clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.errors import ConfigError
from rayscan.types import Ints
from rayscan.vectors.cluster_shard import ClusterSums, Extent
from rayscan.vectors.seeding import Pool, parallel, plus_plus, seed_sample

FAR_ROWS = 64
"""Far rows a shard names per iteration; so many empty clusters can be repaired at once."""

MIN_BATCH = 2048
"""Rows of a mini-batch; more for more clusters: max(2048, 2^ceil(log2 C)), as the paper's code has it."""


@dataclass(frozen=True, kw_only=True)
class KMeans:
    """How to cluster."""

    num_clusters: int
    iterations: int = 100
    """At most so many moves of the centroids; passes over the rows with `is_minibatch`."""
    tolerance: float = 1e-4
    """Lloyd stops when the inertia falls by less than this share."""
    is_spherical: bool = False
    """Centroids of unit length: clusters by cosine."""
    is_minibatch: bool = False
    """Centroids move after each batch of rows rather than after all."""


@dataclass(frozen=True)
class State:
    """Where a fit stands; enough to go on from."""

    centroids: NDArray[np.float32]
    """[C, D]."""
    history: tuple[float, ...] = ()
    """Inertia before each move of the centroids so far; of a mini-batch pass, while they move."""
    counts: Ints | None = None
    """Rows each centroid has seen, mini-batch only: [C]."""
    is_over: bool = False
    """Nothing is left to do; the last entry of the history is the inertia of these centroids."""

    @property
    def inertia(self) -> float:
        """Sum over the rows of the squared distance to their centroid, once it is over."""
        return self.history[-1]


def seeds(
    pool: Pool, extent: Extent, num_clusters: int, seed: int, kind: str = "plus_plus"
) -> NDArray[np.float32]:
    """k-means++ on a sample of the rows, drawn by number, or k-means|| (`parallel`): float32 [C, D].

    Raises:
        ConfigError: there are fewer rows than clusters.
    """
    if not 1 <= num_clusters <= extent.num_rows:
        raise ConfigError(
            "k-means cannot form that many clusters",
            expected=f"1..{extent.num_rows}, the number of images",
            got=num_clusters,
            where="num_clusters",
            fix="pass a smaller --num-clusters",
        )
    if kind == "parallel":
        return parallel(pool, extent.num_rows, num_clusters, seed)
    numbers = seed_sample(extent.num_rows, num_clusters, seed)
    return plus_plus(np.concatenate(pool.ask("take", numbers)), num_clusters, seed)


def fit(
    pool: Pool,
    extent: Extent,
    state: State,
    settings: KMeans,
    *,
    seed: int = 0,
    on_state: Callable[[State], None] = lambda _: None,
) -> State:
    """Go on from a state until it is over.

    Args:
        pool: The rows.
        extent: Of all rows.
        state: Seeds, or where an earlier attempt stood.
        settings: What to do.
        seed: Of the order of mini-batches.
        on_state: Told of every move of the centroids; write it down to go on from there.
    """
    move = _batches if settings.is_minibatch else _lloyd
    while not state.is_over:
        state = move(pool, extent, state, settings, seed)
        on_state(state)
    return state


def _lloyd(pool: Pool, extent: Extent, state: State, settings: KMeans, _seed: int) -> State:
    found = ClusterSums.joined(pool.ask("cluster_sums", state.centroids, extent.grid, FAR_ROWS), FAR_ROWS)
    value = inertia(extent, found, state.centroids)
    history = (*state.history, value)
    is_settled = bool(state.history) and state.history[-1] - value <= settings.tolerance * state.history[-1]
    if (is_settled and (found.counts > 0).all()) or len(state.history) >= settings.iterations:
        return State(state.centroids, history, is_over=True)
    return State(moved(found, state.centroids, is_spherical=settings.is_spherical), history)


def _batches(pool: Pool, extent: Extent, state: State, settings: KMeans, seed: int) -> State:
    """One pass over the rows in random order; each centroid is the mean of all rows it was ever given."""
    centroids = state.centroids
    seen = np.zeros(settings.num_clusters, np.int64) if state.counts is None else state.counts.copy()
    if len(state.history) >= settings.iterations:
        found = ClusterSums.joined(pool.ask("cluster_sums", centroids, extent.grid, 0), 0)
        return State(centroids, (*state.history, inertia(extent, found, centroids)), seen, is_over=True)
    size = max(MIN_BATCH, 1 << (settings.num_clusters - 1).bit_length())
    order = np.random.default_rng([seed, len(state.history)]).permutation(extent.num_rows)
    total = 0.0
    for at in range(0, extent.num_rows, size):
        numbers = np.sort(order[at : at + size])
        found = ClusterSums.joined(
            pool.ask("cluster_sums_of", centroids, extent.grid, FAR_ROWS, numbers), FAR_ROWS
        )
        total += found.distance
        seen += found.counts
        held = found.counts > 0
        step = (found.sums[held] - found.counts[held, None] * centroids[held].astype(np.float64)) / seen[
            held, None
        ]
        centroids = centroids.copy()
        centroids[held] = centroids[held] + step
        if settings.is_spherical:
            centroids = _unit(centroids.astype(np.float64)).astype(np.float32)
    centroids = _repaired(centroids, seen == 0, found)
    return State(centroids, (*state.history, total), seen)


def moved(found: ClusterSums, centroids: NDArray[np.float32], *, is_spherical: bool) -> NDArray[np.float32]:
    """The mean of each cluster; an empty one moves to a row that is far from its own centroid: [C, D]."""
    held = found.counts > 0
    means = centroids.astype(np.float64)
    means[held] = found.sums[held] / found.counts[held, None]
    if is_spherical:
        means = _unit(means)
    return _repaired(means.astype(np.float32), ~held, found)


def _repaired(
    centroids: NDArray[np.float32], is_empty: NDArray[np.bool_], found: ClusterSums
) -> NDArray[np.float32]:
    """Empty clusters take the farthest rows in turn, equal rows once; what is left over stays as it was."""
    vectors, taken = iter(found.far_vectors), set[bytes]()
    for cluster in np.flatnonzero(is_empty):
        for vector in vectors:
            if vector.tobytes() not in taken:
                taken.add(vector.tobytes())
                centroids[cluster] = vector
                break
    return centroids


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(rows, lengths, out=rows.copy(), where=lengths > 0)
    return units


def inertia(extent: Extent, found: ClusterSums, centroids: NDArray[np.float32]) -> float:
    """Sum over the rows of |x - c|^2 = |x|^2 - 2 c x + |c|^2, from the sums of each cluster, in float64."""
    c = centroids.astype(np.float64)
    cross = float(np.einsum("cd,cd->", c, found.sums))
    own = float(found.counts @ np.square(c).sum(axis=1))
    return max(0.0, extent.total_squares - 2 * cross + own)


def best_of(states: Sequence[State], tolerance: float = 0.0) -> int:
    """The number of the fit of lowest inertia, the first at a tie.

    Args:
        states: Fits that are over.
        tolerance: Share by which inertias are taken for equal: two fits of one partition differ by rounding.
    """
    inertias = np.array([state.inertia for state in states])
    return int(np.flatnonzero(inertias <= inertias.min() * (1 + tolerance))[0])
