"""Numbers of groups that a neighbour graph shows: communities by modularity, and eigenvalues near 1."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, csr_matrix
from sknetwork.clustering import Louvain, get_modularity

from rayscan.consensus.diffusion import graph_eigenvectors
from rayscan.types import Ints

DRAWS = 5
"""Orders of the nodes: what is found depends on it, by a community or two."""
MIN_ROWS, MIN_SHARE = 5, 0.002
"""Communities below both are leavings, and not counted."""
NEAR_ONE = 0.9
FIRST_VECTORS, MAX_VECTORS = 64, 1024


def communities(graph: csr_array, resolution: float, seed: int) -> Ints:
    """Community of every row by the Louvain method (Blondel et al. 2008), the best of five: int64 [N].

    Maximises sum over communities of (ends of links inside / 2m - resolution (ends / 2m)^2), the modularity
    with a resolution (Reichardt and Bornholdt 2006).
    Deviation: not the Leiden algorithm: that of scikit-network draws from the C library's generator, which no
    seed reaches, so that the same call gives other communities each time.

    Args:
        graph: Symmetric, [N, N].
        resolution: Greater ones give more communities.
        seed: Of the orders of the nodes.
    """
    links = csr_matrix(graph.astype(np.float64))
    best, found = -np.inf, np.zeros(graph.shape[0], np.int64)
    for draw in range(DRAWS):
        louvain = Louvain(
            resolution, modularity="newman", shuffle_nodes=True, random_state=DRAWS * seed + draw
        )
        labels = np.asarray(louvain.fit_predict(links), np.int64)
        modularity = float(get_modularity(links, labels, resolution=resolution))
        if modularity > best:
            best, found = modularity, labels
    return found


def counted(labels: Ints) -> int:
    """Number of the communities that hold at least max(5, 0.2 % of N) rows."""
    return int((np.bincount(labels) >= max(MIN_ROWS, MIN_SHARE * len(labels))).sum())


def spectral_count(graph: csr_array, seed: int) -> int:
    """Number of eigenvalues of D^-1/2 A D^-1/2 above 0.9, counted up to 1,024.

    A component has the eigenvalue 1, and k groups with few links between them have k eigenvalues near it.

    Args:
        graph: A, symmetric, [N, N].
        seed: Of the eigenvectors' start.
    """
    most = min(MAX_VECTORS, graph.shape[0])
    wanted = min(FIRST_VECTORS, most)
    while True:
        values, _, _ = graph_eigenvectors(graph, wanted, seed)
        above = int((values > NEAR_ONE).sum())
        if above < wanted or wanted == most:
            return above
        wanted = min(2 * wanted, most)
