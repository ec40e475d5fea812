"""Where k-means begins: k-means++ (Arthur and Vassilvitskii 2007) on a sample of the rows, or k-means||.

Drawing C seeds from all rows takes C passes over them; from a sample of some rows per cluster it takes C
passes over that sample, in one process, and the seeds are spread as well. k-means|| (Bahmani et al., Scalable
k-means++, VLDB 2012) looks at all rows in a few passes, so it finds small clusters that a sample may miss:
each pass draws many candidates at once, far rows more likely; weighted by the rows that are nearest to them,
they are what k-means++ then draws from.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints

ROWS_PER_CLUSTER = 16
MIN_ROWS = 8192

ROUNDS = 5
"""Passes of k-means|| (r): the paper's Sec. 5 sees no gain from more."""
OVERSAMPLING = 2.0
"""Candidates expected per cluster and pass (l / C), as the paper's best rows."""


class Pool(Protocol):
    """The shards: all are asked the same and answer in shard order."""

    def ask(self, method: str, *arguments: Any) -> list[Any]:
        """What `method` of every `ClusterShard` returns."""
        ...


def seed_sample(num_rows: int, num_clusters: int, seed: int) -> Ints:
    """Numbers of the sampled rows, ascending: all of them if there are few."""
    size = min(num_rows, max(MIN_ROWS, ROWS_PER_CLUSTER * num_clusters))
    rng = np.random.default_rng([seed, 0])
    return np.sort(rng.choice(num_rows, size, replace=False, shuffle=False))


def parallel(pool: Pool, num_rows: int, num_clusters: int, seed: int) -> NDArray[np.float32]:
    """k-means|| over all rows of the shards, and k-means++ over its candidates.

    A row is drawn by its own uniform number, keyed by the block of rows it is in, and costs are added up
    without rounding: the seeds do not depend on the shards.

    Args:
        pool: The rows.
        num_rows: N.
        num_clusters: C <= N.
        seed: Of the draws.

    Returns:
        float32 [C, D].
    """
    numbers = np.random.default_rng([seed, 2]).integers(num_rows, size=1)
    rounds = [np.concatenate(pool.ask("take", numbers))]
    for number in range(ROUNDS):
        cost = math.fsum(value for values in pool.ask("costs", rounds) for value in values)
        if not cost > 0:
            break  # every row is a candidate, or equal to one
        drawn = pool.ask("draw", rounds, OVERSAMPLING * num_clusters / cost, [seed, 3, number])
        if sum(map(len, drawn)):
            rounds.append(np.concatenate(drawn))
    if sum(map(len, rounds)) < num_clusters:  # few rows, or equal ones
        rounds.append(np.concatenate(pool.ask("take", seed_sample(num_rows, num_clusters, seed))))
    candidates = np.concatenate(rounds)
    weights = np.sum(pool.ask("weigh", candidates), axis=0)
    return plus_plus(candidates, num_clusters, seed, weights)


def plus_plus(
    rows: NDArray[np.float32], num_clusters: int, seed: int, weights: Ints | None = None
) -> NDArray[np.float32]:
    """Each seed is a row drawn with probability proportional to its squared distance to the nearest before.

    Once all rows are seeds or equal to one, the rest is drawn evenly: such clusters are repaired later.

    Args:
        rows: [n, D].
        num_clusters: C <= n.
        seed: Of the draws.
        weights: Rows that each row stands for, one if none: [n].

    Returns:
        float32 [C, D].
    """
    rng = np.random.default_rng([seed, 1])
    lengths = np.einsum("nd,nd->n", rows, rows, dtype=np.float64)
    chosen = np.empty(num_clusters, np.int64)
    chosen[0] = rng.integers(len(rows)) if weights is None else _drawn(rng, np.cumsum(weights))
    nearest = np.full(len(rows), np.inf)
    for number in range(1, num_clusters):
        last = chosen[number - 1]
        distances = lengths + lengths[last] - 2 * (rows @ rows[last]).astype(np.float64)
        np.minimum(nearest, np.maximum(distances, 0), out=nearest)
        nearest[last] = 0.0  # float32 leaves a little of it
        chosen[number] = _drawn(rng, np.cumsum(nearest if weights is None else nearest * weights))
    return rows[chosen]


def _drawn(rng: np.random.Generator, mass: NDArray[Any]) -> int:
    """A position with probability proportional to its step in `mass`; any, where there is none."""
    at = rng.random() * mass[-1]
    drawn = int(np.searchsorted(mass, at, side="right")) if mass[-1] > 0 else int(rng.integers(len(mass)))
    return min(drawn, len(mass) - 1)
