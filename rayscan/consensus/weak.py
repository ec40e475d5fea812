"""Weak features: where no grouping scores well, the score cannot rank them, and k-means is not made better.

Whitening and neighbour graphs sharpen what features carry. Where that is hardly anything, as in the pixels of
photos, they sharpen what it is that pictures of all classes share; k-means of the features as they are then
did better on three of four sets (docs/results/clustering.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayscan.consensus.discriminant import LinearRule
from rayscan.consensus.ensemble import Member
from rayscan.consensus.kmeans import cluster_sums, kmeans
from rayscan.consensus.readings import Features, Reading
from rayscan.consensus.result import by_size
from rayscan.consensus.score import most_score
from rayscan.types import Ints

LEAST = 0.66
"""Least S over H(sizes) / log C, the most that clusters of these sizes can have. Chosen in the narrow gap
from .65 (pixels of steel) to .67 (an uneven part of the blood cells)."""
STARTS = 10


def are_weak(score: float, labels: Ints, num_clusters: int) -> bool:
    """Whether the best grouping found scores too little for its score to mean anything.

    Args:
        score: S of the grouping, in the source where it is greatest.
        labels: The grouping, [N].
        num_clusters: C.
    """
    return score < LEAST * most_score(labels, num_clusters)


def plain_kmeans(
    source: int, sources: Sequence[Features], num_clusters: int, seed: int
) -> tuple[Ints, Member]:
    """k-means of the unit rows of one source, the best of ten starts, and its rule for any rows.

    Args:
        source: Number of the matrix.
        sources: [N, D] each.
        num_clusters: C.
        seed: Of the starts.

    Returns:
        Clusters [N], the largest is 0, and one head whose outputs are -|x - c|^2 but for what all share.
    """
    reading = Reading(source, False)
    units = reading.units(sources)
    found = by_size(kmeans(units, num_clusters, [seed, 23], STARTS), num_clusters)
    mean = units.mean(axis=0)
    sums, sizes = cluster_sums(units, found, num_clusters)
    apart = (sums / np.maximum(sizes, 1)[:, None] - mean).astype(np.float32)
    rule = LinearRule(np.eye(num_clusters, dtype=np.float32), -np.square(apart).sum(axis=1))
    outputs = rule.outputs((units - mean) @ (2 * apart.T))
    labels = np.asarray(outputs.argmax(axis=1), np.int64)
    return labels, Member.of(reading, mean, 2 * apart.T, [rule], [labels], labels, num_clusters)
