"""Whitening by clusters in place of neighbours: the space of the second round."""

from __future__ import annotations

import numpy as np

from rayscan.consensus.discriminant import cluster_means, within_covariance
from rayscan.consensus.neighbors import nearest_rows, unit_rows
from rayscan.consensus.refinement import Field
from rayscan.consensus.space import Space
from rayscan.consensus.whitening import contrast
from rayscan.types import Ints


def cluster_whitening(space: Space, labels: Ints, num_clusters: int) -> Field:
    """Rows Z V with the leading columns V of eigh(St, Sw + trace(Sw)/d I), Sw within the clusters.

    The same whitening with clusters in the place of neighbour pairs.
    """
    means, shares = cluster_means(space.rows, labels, num_clusters)
    projection = contrast(space.total, within_covariance(space.total, means, shares)).astype(np.float32)
    rows = space.rows @ projection
    return Field(projection, rows, nearest_rows(unit_rows(rows), space.ids.shape[1]))
