"""What can be said of a grouping without a single label: whether it collapsed, and whether neighbors agree.

Comes from the assignments and the mined neighbors, goes to `stages.evaluate`, the report and the search.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayscan.metrics.contingency import (
    Contingency,
    ContingencySum,
    entropy,
    mutual_information,
)
from rayscan.types import Ints

GRAPH_NEIGHBORS = 5
"""Neighbors per image of the fixed graph that every run and trial is judged on."""


def collapse(clusters: NDArray[Any], num_clusters: int) -> dict[str, float]:
    """Facts that show a degenerate grouping (`size_facts`), from the cluster of each image, integers [n]."""
    return size_facts(np.bincount(np.asarray(clusters, np.int64), minlength=num_clusters))


def size_facts(sizes: Ints) -> dict[str, float]:
    """Facts that show a degenerate grouping.

    Args:
        sizes: Images of each cluster, int64 [C] with C >= 2.

    Returns:
        used_clusters: how many hold an image. balance: entropy of the sizes / log C, 1 when all are
            equal. largest_share: of the images, in the largest cluster. A long tail is legitimate;
            balance near 0 is not.
    """
    return {
        "used_clusters": int(np.count_nonzero(sizes)),
        "balance": entropy(sizes) / math.log(len(sizes)),
        "largest_share": float(sizes.max() / sizes.sum()),
    }


def nmi_nn(cluster_of: NDArray[Any], anchors: Ints, ids: Ints, num_clusters: int) -> float:
    """I(c_i; c_j) / log C over neighbor pairs (i, j), see `pair_nmi` and `pair_clusters`."""
    pairs = ContingencySum(num_clusters, num_clusters)
    pairs.add(*pair_clusters(cluster_of, anchors, ids))
    return pair_nmi(pairs.table)


def pair_nmi(pairs: Contingency) -> float:
    """I(c_i; c_j) / log C over neighbor pairs (i, j): consistency and balance in one number.

    The joint distribution of the two clusters of a pair is counted in both directions, as in IIC (arXiv
    1807.06653, Eq. 2 with hard assignments), so it is symmetric. Confidence does not enter. 1 when
    neighbors always agree and all clusters are equally large; 0 when all images are in one cluster or
    neighbors say nothing of each other.

    Args:
        pairs: Clusters of one of a pair against those of the other, C >= 2.
    """
    return mutual_information(pairs) / math.log(pairs.num_clusters)


def pair_clusters(cluster_of: NDArray[Any], anchors: Ints, ids: Ints) -> tuple[NDArray[Any], NDArray[Any]]:
    """The clusters of both of every neighbor pair, in both directions: integers [2 n 5] each.

    Args:
        cluster_of: Cluster by gid, integers [N].
        anchors: gid of each row, int64 [n].
        ids: gids of its neighbors, nearest first, int64 [n, K] with K >= 5; the first 5 are used.
    """
    neighbor = np.asarray(cluster_of)[ids[:, :GRAPH_NEIGHBORS]].ravel()
    anchor = np.repeat(np.asarray(cluster_of)[anchors], neighbor.size // len(anchors))
    return np.concatenate([anchor, neighbor]), np.concatenate([neighbor, anchor])


def has_fallen(before: float, after: float, tolerated: float) -> bool:
    """Whether a score that is better higher lost more than the share `tolerated` of what it was."""
    return after < before * (1 - tolerated)
