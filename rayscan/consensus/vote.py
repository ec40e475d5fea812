"""Consensus of groupings: rows that the same heads put together lie together.

Cluster ensembles as a feature space of votes (Strehl and Ghosh 2002; Topchy, Jain, Punch 2005), reduced by
singular vectors. The numbers of clusters need not match. Sums over rows: one table of all pairs of clusters.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rayscan.consensus.breathing import breathed
from rayscan.consensus.discriminant import cluster_means
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.probe import MANY
from rayscan.types import Ints

TEMPERATURE = 0.01
"""Of the weights."""
STARTS = 10


def weights_by_merit(merits: Sequence[float]) -> NDArray[np.float64]:
    """exp((m - max m) / 0.01), summing to 1: [H]."""
    raw = np.exp((np.asarray(merits) - max(merits)) / TEMPERATURE)
    shares: NDArray[np.float64] = raw / raw.sum()
    return shares


def vote_rows(
    groupings: Sequence[Ints], weights: NDArray[np.float64], num_clusters: int
) -> NDArray[np.float32]:
    """One-hot clusters times square roots of weights, side by side, centred, in 2C leading directions.

    Args:
        groupings: H of [N].
        weights: [H], summing to 1.
        num_clusters: C.

    Returns:
        float32 [N, min(2C, H C)].
    """
    count, heads = len(groupings[0]), len(groupings)
    columns = np.stack(groupings, axis=1) + num_clusters * np.arange(heads)
    data = np.tile(np.sqrt(weights), count)
    votes = csr_array(
        (data, columns.ravel(), np.arange(0, heads * count + 1, heads)), shape=(count, heads * num_clusters)
    )
    mean = np.asarray(votes.mean(axis=0))
    pairs = (votes.T @ votes).toarray() - count * np.outer(mean, mean)
    _, vectors = np.linalg.eigh((pairs + pairs.T) / 2)
    vectors = vectors[:, ::-1][:, : 2 * num_clusters]
    rows: NDArray[np.float32] = (votes @ vectors - mean @ vectors).astype(np.float32)
    return rows


def vote(
    groupings: Sequence[Ints], weights: NDArray[np.float64], num_clusters: int, key: Sequence[int]
) -> Ints:
    """The grouping that weighted groupings agree on: int64 [N].

    k-means of `vote_rows`, from ten starts; above 100 clusters, where random ones are dear and bad, breathing
    k-means from the heaviest voter.
    """
    rows = vote_rows(groupings, weights, num_clusters)
    if num_clusters <= MANY:
        return kmeans(rows, num_clusters, key, STARTS)
    start, _ = cluster_means(rows, groupings[int(np.argmax(weights))], num_clusters)
    return breathed(rows, start.astype(np.float32), key)
