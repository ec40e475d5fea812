"""Small groups joined into clusters of any size, by the links between them in a neighbour graph.

k-means cuts a large class before it leaves a small one whole. Many small groups cut all of them, and what the
graph links most is put together again, however large it gets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from rayscan.consensus.discriminant import cluster_means
from rayscan.types import Ints

Values = NDArray[np.float64]
Rule = Callable[[Values, Values], Values]
"""Of links between pairs of groups and the products of their ends: which pair belongs together most."""
LEAST = 0.1
"""Share of the mean size of the clusters below which a group is never one: copies of one picture link to
themselves alone."""


def _cosine(links: Values, ends: Values) -> Values:
    """e_ij / sqrt(a_i a_j): leaves small groups apart as long as large ones link more."""
    likeness: Values = links / np.sqrt(np.maximum(ends, np.finfo(np.float64).tiny))
    return likeness


def _modularity(links: Values, ends: Values) -> Values:
    """e_ij - a_i a_j, half the gain of modularity (Clauset, Newman, Moore 2004, Eq. 8)."""
    return links - ends


RULES: Mapping[str, Rule] = {"cosine": _cosine, "modularity": _modularity}


def joined(graph: csr_array, rows: NDArray[np.float32], labels: Ints, num_clusters: int, rule: Rule) -> Ints:
    """Join the best pair, again and again, until so many clusters are left; tiny groups first.

    Args:
        graph: Links, symmetric, [N, N].
        rows: Coordinates the groups were found in, [N, q]; a tiny group without a link joins the nearest.
        labels: Groups, [N].
        num_clusters: C.
        rule: One of `RULES`.

    Returns:
        Clusters 0..C'-1, int64 [N]; C' is C, or the number of groups if that is less.
    """
    groups = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    count = int(groups.max()) + 1
    member = csr_array((np.ones(len(groups)), (np.arange(len(groups)), groups)), shape=(len(groups), count))
    links = np.asarray((member.T @ graph.astype(np.float64, copy=False) @ member).toarray())
    links /= links.sum()
    ends, sizes = links.sum(axis=1), np.bincount(groups).astype(np.float64)
    means, _ = cluster_means(rows, groups, count)
    likeness = rule(links, np.outer(ends, ends))
    np.fill_diagonal(likeness, -np.inf)
    into, least = np.arange(count), LEAST * len(groups) / num_clusters
    for _ in range(count - num_clusters):
        small = int(sizes.argmin())
        if sizes[small] < least:
            pair = small, _partner(small, links, likeness, means, sizes)
        else:
            pair = divmod(int(likeness.argmax()), count)
        kept, gone = min(pair), max(pair)
        means[kept] = (sizes[kept] * means[kept] + sizes[gone] * means[gone]) / (sizes[kept] + sizes[gone])
        sizes[kept] += sizes[gone]
        sizes[gone] = np.inf  # so that it is never the least
        links[kept] += links[gone]
        links[:, kept] += links[:, gone]
        ends[kept] += ends[gone]
        likeness[gone] = likeness[:, gone] = -np.inf
        alive = np.isfinite(sizes)
        alive[kept] = False
        likeness[kept] = np.where(alive, rule(links[kept], ends[kept] * ends), -np.inf)
        likeness[:, kept] = likeness[kept]
        into[into == gone] = kept
    return np.unique(into[groups], return_inverse=True)[1].astype(np.int64)


def _partner(small: int, links: Values, likeness: Values, means: Values, sizes: Values) -> int:
    """The group a tiny one joins: that of greatest likeness, or the nearest if none has a link to it."""
    others = np.isfinite(sizes)
    others[small] = False
    if (links[small] * others).any():
        return int(likeness[small].argmax())
    away = np.square(means - means[small]).sum(axis=1)
    return int(np.where(others, away, np.inf).argmin())
