"""Whitening by clusters in place of neighbours: the space of the second round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import cluster_means, within_covariance
from rayscan.consensus.space import Space
from rayscan.consensus.whitening import contrast
from rayscan.types import Ints


def cluster_whitening(space: Space, labels: Ints, num_clusters: int) -> NDArray[np.float32]:
    """The leading columns V of eigh(St, Sw + trace(Sw)/d I), Sw within the clusters: float32 [d, q].

    Z V is the same whitening with clusters in the place of neighbour pairs.
    """
    means, shares = cluster_means(space.rows, labels, num_clusters)
    return contrast(space.total, within_covariance(space.total, means, shares)).astype(np.float32)
