"""How sure the consensus is of a row: what its heads say, translated into the clusters of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.types import Ints


def translation(grouping: Ints, labels: Ints, num_clusters: int) -> NDArray[np.float64]:
    """Shares of the clusters of the result in each cluster of a head: [C of the head, C of the result].

    A cluster that the head leaves empty says nothing: all shares equal.
    """
    pairs = np.bincount(grouping * num_clusters + labels, minlength=num_clusters**2)
    table = pairs.reshape(num_clusters, num_clusters).astype(np.float64)
    sizes = table.sum(axis=1, keepdims=True)
    shares: NDArray[np.float64] = np.where(sizes > 0, table / np.maximum(sizes, 1), 1 / num_clusters)
    return shares


def agreement(groupings: Sequence[Ints], labels: Ints, num_clusters: int) -> NDArray[np.float32]:
    """Share of its cluster by a head that is in its cluster of the result, mean over heads: [N], 0..1."""
    total = np.zeros(len(labels))
    for grouping in groupings:
        total += translation(grouping, labels, num_clusters)[grouping, labels]
    return (total / len(groupings)).astype(np.float32)
