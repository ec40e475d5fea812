"""Which class a cluster stands for: one-to-one (Hungarian), many-to-one (majority), or one after the other.

Comes from a contingency table, goes to `scores`. A mapping is int64 [C]: the class of each cluster, -1
for none. The mapping is fitted on the images it then scores, as in the SCAN paper (arXiv 2005.12320, Sec.
3.1): it names the clusters, it does not train them.

Letters: C clusters, L classes.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from rayscan.metrics.contingency import Contingency
from rayscan.types import Ints

NO_CLASS = -1
DENSE_CELLS = 1 << 24
"""Largest whole table that is matched as such: 128 MB. Beyond, only cells that hold images are."""


def hungarian(table: Contingency) -> Ints:
    """The one-to-one mapping with the most right images (Kuhn 1955; "ACC" of the clustering literature).

    With C > L the clusters left over have no class and count as wrong; with C < L the classes left over do.

    Returns:
        int64 [C].
    """
    if table.num_clusters * table.num_classes > DENSE_CELLS:
        return _sparse_hungarian(table)
    mapping = np.full(table.num_clusters, NO_CLASS, np.int64)
    clusters, classes = linear_sum_assignment(table.dense(), maximize=True)
    mapping[clusters] = classes
    return mapping


def _sparse_hungarian(table: Contingency) -> Ints:
    """The one-to-one mapping from cells that hold an image; clusters without one take the classes left over.

    Every cluster may also stay alone with a column of its own. One is added to all weights, which changes no
    best match of all clusters, because the matching takes a weight of zero for no edge.
    """
    num_clusters, num_classes = table.num_clusters, table.num_classes
    alone = np.arange(num_clusters)
    weights = np.concatenate([table.counts + 1, np.ones(num_clusters, np.int64)]).astype(np.float64)
    rows, columns = (
        np.concatenate([table.clusters, alone]),
        np.concatenate([table.classes, num_classes + alone]),
    )
    graph = csr_array((weights, (rows, columns)), shape=(num_clusters, num_classes + num_clusters))
    clusters, found = min_weight_full_bipartite_matching(graph, maximize=True)
    mapping = np.full(num_clusters, NO_CLASS, np.int64)
    mapping[clusters] = np.where(found < num_classes, found, NO_CLASS)
    unmatched = np.flatnonzero(mapping == NO_CLASS)
    free = np.setdiff1d(np.arange(num_classes), mapping)[: len(unmatched)]
    mapping[unmatched[: len(free)]] = free
    return mapping


def majority(table: Contingency) -> Ints:
    """Each cluster's most frequent class, several clusters to one class allowed; ties go to the lowest class.

    Returns:
        int64 [C], -1 for empty clusters.
    """
    mapping = np.full(table.num_clusters, NO_CLASS, np.int64)
    order = np.lexsort((table.classes, -table.counts, table.clusters))
    clusters, first = np.unique(table.clusters[order], return_index=True)
    mapping[clusters] = table.classes[order[first]]
    return mapping


def hungarian_then_majority(table: Contingency) -> Ints:
    """One-to-one first, so that every class keeps a cluster; then the majority for those left over.

    Returns:
        int64 [C]; equal to `hungarian` when C <= L.
    """
    mapping = hungarian(table)
    return np.where(mapping == NO_CLASS, majority(table), mapping)


def accuracy(table: Contingency, mapping: Ints) -> float:
    """Share of the images whose cluster maps to their class, 0..1."""
    right = mapping[table.clusters] == table.classes
    return float(table.counts[right].sum() / table.total)
