"""Where k-means begins: k-means++ (Arthur and Vassilvitskii 2007) on a sample of the rows.

Drawing C seeds from all rows takes C passes over them; from a sample of some rows per cluster it takes C
passes over that sample, in one process, and the seeds are spread as well.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ROWS_PER_CLUSTER = 16
MIN_ROWS = 8192


def seed_sample(num_rows: int, num_clusters: int, seed: int) -> NDArray[np.int64]:
    """Numbers of the sampled rows, ascending: all of them if there are few."""
    size = min(num_rows, max(MIN_ROWS, ROWS_PER_CLUSTER * num_clusters))
    rng = np.random.default_rng([seed, 0])
    return np.sort(rng.choice(num_rows, size, replace=False, shuffle=False))


def plus_plus(rows: NDArray[np.float32], num_clusters: int, seed: int) -> NDArray[np.float32]:
    """Each seed is a row drawn with probability proportional to its squared distance to the nearest before.

    Once all rows are seeds or equal to one, the rest is drawn evenly: such clusters are repaired later.

    Args:
        rows: [n, D].
        num_clusters: C <= n.
        seed: Of the draws.

    Returns:
        float32 [C, D].
    """
    rng = np.random.default_rng([seed, 1])
    lengths = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = rng.integers(len(rows))
    nearest = np.full(len(rows), np.inf)
    for number in range(1, num_clusters):
        last = chosen[number - 1]
        distances = lengths + lengths[last] - 2 * (rows @ rows[last]).astype(np.float64)
        np.minimum(nearest, np.maximum(distances, 0), out=nearest)
        nearest[last] = 0.0  # float32 leaves a little of it
        mass = np.cumsum(nearest)
        at = rng.random() * mass[-1]
        drawn = int(np.searchsorted(mass, at, side="right")) if mass[-1] > 0 else rng.integers(len(rows))
        chosen[number] = min(drawn, len(rows) - 1)
    return rows[chosen]
