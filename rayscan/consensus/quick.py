"""A quick grouping: one view, one start of the method, to look at and not to keep."""

from __future__ import annotations

from rayscan.consensus.diffusion import diffusion_map, graph_eigenvectors
from rayscan.consensus.discriminant import refined
from rayscan.consensus.graphs import adjacency
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.result import by_size
from rayscan.consensus.space import Space
from rayscan.consensus.views import MAX_VECTORS, REGULARISATION
from rayscan.types import Ints


def quick_grouping(space: Space, num_clusters: int, seed: int) -> Ints:
    """k-means of the diffusion map and one discriminant refinement; the largest cluster is 0: int64 [N].

    Args:
        space: Features, whitened.
        num_clusters: C.
        seed: Of the starts.
    """
    count = min(2 * num_clusters, MAX_VECTORS, len(space.ids) - 1)
    view = diffusion_map(*graph_eigenvectors(adjacency(space.ids), count, seed, REGULARISATION))
    found = kmeans(view, num_clusters, [seed, 21])
    return by_size(refined(space.rows, space.total, found, num_clusters), num_clusters)
