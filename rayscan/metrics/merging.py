"""Which clusters of an over-clustered result would join: greedy modularity over the mined neighbors.

e_ij is the share of neighbor links between clusters i and j, a_i the share of link ends in i. Joining i and j
changes the modularity sum_i (e_ii - a_i^2) by 2 (e_ij - a_i a_j) (Clauset, Newman, Moore 2004, Eq. 8). The
best pair joins, again and again; the modularity is highest where the graph itself falls into groups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayscan.types import Ints


@dataclass(frozen=True)
class Join:
    """One step: two clusters become one, under the lower number."""

    into: int
    joined: int
    gain: float
    """Change of the modularity; below 0 the graph speaks against it."""
    modularity: float
    """After the step."""
    clusters_left: int


@dataclass(frozen=True)
class Merging:
    """All steps, from the clusters given down to one."""

    joins: tuple[Join, ...]
    start: float
    """Modularity before the first."""
    num_clusters: int

    @property
    def suggested(self) -> int:
        """Number of clusters with the highest modularity, the most clusters at a tie."""
        best, number = self.start, self.num_clusters
        for join in self.joins:
            if join.modularity > best + 1e-12:
                best, number = join.modularity, join.clusters_left
        return number

    def mapping(self, num_clusters: int) -> Ints:
        """Old cluster -> new cluster 0..C'-1 when C' are left; empty clusters of the start go to 0.

        Args:
            num_clusters: C', at most the clusters that hold an image.
        """
        of = np.arange(self.num_clusters)
        held = {join.into for join in self.joins} | {join.joined for join in self.joins}
        for join in self.joins:
            if join.clusters_left < num_clusters:
                break
            of[of == join.joined] = join.into
        kept = sorted({int(c) for i, c in enumerate(of) if i in held or not self.joins})
        number = {c: n for n, c in enumerate(kept)}
        return np.array([number.get(int(c), 0) for c in of], np.int64)


def merge_clusters(cluster_of: Ints, anchors: Ints, ids: Ints, num_clusters: int) -> Merging:
    """Join clusters by the links of the neighbor graph until one is left.

    Args:
        cluster_of: Cluster by gid, below 0 for images that take no part [N].
        anchors: Gids with neighbors [n].
        ids: Their neighbors [n, K].
        num_clusters: C; clusters without a link take no part.
    """
    ends = np.repeat(cluster_of[anchors], ids.shape[1]), cluster_of[ids].ravel()
    both = (ends[0] >= 0) & (ends[1] >= 0)
    flat = np.bincount((ends[0] * num_clusters + ends[1])[both], minlength=num_clusters**2)
    links = flat.reshape(num_clusters, num_clusters).astype(np.float64)
    e = (links + links.T) / (2 * links.sum())
    a = e.sum(1)
    alive = np.flatnonzero(a > 0)
    start = modularity = float(np.trace(e) - (a**2).sum())
    joins = []
    while len(alive) > 1:
        gains = 2 * (e - np.outer(a, a))[np.ix_(alive, alive)]
        gains[np.tril_indices(len(alive))] = -np.inf
        i, j = np.unravel_index(int(gains.argmax()), gains.shape)
        into, joined, gain = int(alive[i]), int(alive[j]), float(gains[i, j])
        e[into] += e[joined]
        e[:, into] += e[:, joined]
        e[joined] = e[:, joined] = 0.0
        a[into], a[joined] = a[into] + a[joined], 0.0
        alive = np.delete(alive, j)
        modularity += gain
        joins.append(Join(into, joined, gain, modularity, len(alive)))
    return Merging(tuple(joins), start, num_clusters)
