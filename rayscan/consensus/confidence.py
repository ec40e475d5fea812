"""How sure the consensus is of a row: what its heads say, translated into the clusters of the result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import LinearRule
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


def probabilities(
    heads: Sequence[LinearRule],
    rows: NDArray[np.float32],
    groupings: Sequence[Ints],
    labels: Ints,
    num_clusters: int,
) -> NDArray[np.float32]:
    """Mean over the heads of their softmax outputs in clusters of the result: float32 [N, C], rows sum to 1.

    Args:
        heads: Rules on `rows`.
        rows: [N, q].
        groupings: Clusters by each head, [N].
        labels: The result, [N].
        num_clusters: C.
    """
    total = np.zeros((len(rows), num_clusters), np.float32)
    for head, grouping in zip(heads, groupings, strict=True):
        outputs = head.outputs(rows)
        outputs = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        outputs /= outputs.sum(axis=1, keepdims=True)
        total += outputs @ translation(grouping, labels, num_clusters).astype(np.float32)
    return total / np.float32(len(heads))
