"""k-means of rows in memory: several starts side by side, every step one matrix product.

Lloyd's algorithm from greedy k-means++ (Arthur and Vassilvitskii 2007: of several drawn rows the one that
lowers the inertia most). `vectors.lloyd` is for rows in shards; here there are few columns and many fits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csc_array

from rayscan.types import Ints

ROUNDS = 100
SEED_ROWS = 32
"""Rows for each cluster that seeds are looked for among, of many a drawn sample, but no fewer than 10,000."""
FEWEST_SEED_ROWS = 10_000
OUTPUTS = 1 << 24
"""Distances that are held together."""
TOLERANCE = 1e-5
"""A start stops when its inertia falls by less than this share."""


def kmeans(rows: NDArray[np.float32], num_clusters: int, key: Sequence[int], starts: int = 3) -> Ints:
    """The fit of least inertia among several starts, the first at a tie: int64 [N].

    Args:
        rows: [N, q], N >= C.
        num_clusters: C.
        key: Of the random numbers; each start adds its number.
        starts: How many.
    """
    rows = np.ascontiguousarray(rows, np.float32)
    centroids = np.stack(
        [plus_plus(rows, num_clusters, np.random.default_rng([*key, number])) for number in range(starts)]
    )
    labels, inertia = lloyd(rows, centroids)
    best: Ints = labels[int(inertia.argmin())]
    return best


def plus_plus(rows: NDArray[np.float32], num_clusters: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Greedy k-means++: each centroid is the best of 2 + log C rows drawn by squared distance: [C, q]."""
    tries = 2 + int(math.log(num_clusters))
    most = max(FEWEST_SEED_ROWS, SEED_ROWS * num_clusters)
    if len(rows) > most:
        rows = rows[np.sort(rng.choice(len(rows), most, replace=False))]
    lengths = np.einsum("nq,nq->n", rows, rows)
    chosen = [int(rng.integers(len(rows)))]
    nearest = _distances(rows, lengths, np.array(chosen))[0]
    for _ in range(num_clusters - 1):
        mass = np.cumsum(nearest, dtype=np.float64)
        drawn = np.searchsorted(mass, rng.random(tries) * mass[-1], side="right")
        drawn = np.minimum(drawn, len(rows) - 1)
        closer = np.minimum(_distances(rows, lengths, drawn), nearest)
        best = int(closer.sum(axis=1, dtype=np.float64).argmin())
        chosen.append(int(drawn[best]))
        nearest = closer[best]
    return rows[chosen]


def _distances(rows: NDArray[np.float32], lengths: NDArray[np.float32], of: Ints) -> NDArray[np.float32]:
    """Squared distances of all rows to some: [m, N]."""
    distances = lengths + lengths[of][:, None] - 2 * (rows[of] @ rows.T)
    distances[np.arange(len(of)), of] = 0.0  # float32 leaves a little of it
    return np.maximum(distances, 0)


def lloyd(
    rows: NDArray[np.float32], centroids: NDArray[np.float32], rounds: int = ROUNDS
) -> tuple[Ints, NDArray[np.float64]]:
    """Lloyd's algorithm from some starts, each until its inertia settles.

    Args:
        rows: [N, q].
        centroids: [R, C, q].
        rounds: At most so many moves.

    Returns:
        Labels int64 [R, N], and inertia less the rows' squared lengths, [R].
    """
    centroids = centroids.copy()
    count = len(centroids)
    labels, inertia = np.zeros((count, len(rows)), np.int64), np.full(count, np.inf)
    lengths = float(np.einsum("nq,nq->", rows, rows, dtype=np.float64))
    going = np.arange(count)
    for number in range(rounds + 1):
        assigned, costs = _assigned(rows, centroids[going])
        value = costs.sum(axis=1, dtype=np.float64)
        settled = inertia[going] - value <= TOLERANCE * np.maximum(value + lengths, 0)
        labels[going], inertia[going] = assigned, value
        going, assigned, costs = going[~settled], assigned[~settled], costs[~settled]
        if not len(going) or number == rounds:
            break
        centroids[going] = _moved(rows, assigned, costs, centroids.shape[1])
    return labels, inertia


def _assigned(rows: NDArray[np.float32], centroids: NDArray[np.float32]) -> tuple[Ints, NDArray[np.float32]]:
    """Nearest centroids and |c|^2 - 2 c x of them, from [R, C, q]: [R, N] each."""
    count, clusters, width = centroids.shape
    flat = centroids.reshape(-1, width)
    lengths, twice = np.einsum("cq,cq->c", flat, flat), 2 * flat.T
    labels = np.empty((count, len(rows)), np.int64)
    costs = np.empty((count, len(rows)), np.float32)
    at_once = max(1, OUTPUTS // len(flat))
    for first in range(0, len(rows), at_once):
        some = slice(first, first + at_once)
        scores = (lengths - rows[some] @ twice).reshape(-1, count, clusters)
        nearest = scores.argmin(axis=2)
        labels[:, some] = nearest.T
        costs[:, some] = np.take_along_axis(scores, nearest[..., None], axis=2)[..., 0].T
    return labels, costs


def _moved(
    rows: NDArray[np.float32], labels: Ints, costs: NDArray[np.float32], clusters: int
) -> NDArray[np.float32]:
    """Means of the clusters; an empty one takes the row that is farthest from its own: [R, C, q]."""
    count = len(labels)
    sums, sizes = cluster_sums(rows, (labels + clusters * np.arange(count)[:, None]).T, count * clusters)
    means = sums / np.maximum(sizes, 1)[:, None]
    empty = np.flatnonzero(sizes == 0)
    for start in np.unique(empty // clusters):
        mine = empty[empty // clusters == start]
        far = costs[start] + np.einsum("nq,nq->n", rows, rows)
        means[mine] = rows[np.argsort(-far, kind="stable")[: len(mine)]]
    return means.reshape(count, clusters, -1).astype(np.float32)


def cluster_sums(rows: NDArray[np.float32], labels: Ints, clusters: int) -> tuple[NDArray[np.float32], Ints]:
    """Sums of the rows [C, q] and their number [C] by label; those of row ranges add up.

    Args:
        rows: [N, q].
        labels: [N], or [N, R] for R groupings whose numbers do not overlap.
        clusters: C.
    """
    width = labels.size // len(rows)
    members = csc_array(
        (np.ones(labels.size, rows.dtype), np.ravel(labels), np.arange(0, labels.size + 1, width)),
        shape=(clusters, len(rows)),
    )
    sums: NDArray[np.float32] = members @ rows
    return sums, np.bincount(np.ravel(labels), minlength=clusters)
