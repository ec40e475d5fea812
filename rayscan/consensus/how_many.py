"""How many clusters these features suggest, by their neighbour graph: a suggestion with a range, no more."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

from rayscan.consensus.coding_length import coding_curve
from rayscan.consensus.communities import communities, counted, spectral_count
from rayscan.consensus.diffusion import diffusion_map, graph_eigenvectors
from rayscan.consensus.graphs import NEIGHBORS, adjacency
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.space import Space
from rayscan.consensus.threads import threads_for
from rayscan.consensus.views import REGULARISATION
from rayscan.metrics.merging import Merging, merge_clusters
from rayscan.types import Ints

COARSE, USUAL, FINE = 0.3, 0.6, 1.0
"""Resolutions of the lower end, the suggestion and the upper end; 0.6 was best on five sets of features."""
MANY_EIGENVALUES = 25
"""Above so many the spectral count is suggested: modularity cannot see groups much smaller than sqrt(2m)."""
MANY = 40
"""From so many clusters on no estimator measured was near."""
START, ROWS_EACH = 200, 10
"""Groups the merging starts from, at most, and the rows there shall be for each."""
VECTORS = 128


@dataclass(frozen=True)
class Estimate:
    """Numbers of clusters that estimators give, and one of them as a suggestion."""

    suggested: int
    low: int
    high: int
    table: tuple[tuple[str, int], ...]
    """(estimator, number), the rule's own first."""
    curve: tuple[tuple[int, float], ...]
    """(K, nats a row of the coding length), most groups first."""
    modularity: tuple[tuple[int, float], ...]
    """(K, modularity) along the same merging."""

    @property
    def caution(self) -> str:
        """What was measured of such a number, in words."""
        if self.high >= MANY:
            return (
                "where sets had 40 clusters or more, every estimator measured was too low, by a fifth up to "
                "five times: take more than you think, and merge"
            )
        return (
            "with 10 classes or fewer, 9 of 12 sets measured were within 25 %; many small groups that the "
            "features do not tell apart stay unseen: with doubt take more, and merge"
        )


def how_many(space: Space, seed: int) -> Estimate:
    """Estimate the number of clusters; deterministic for a seed.

    Communities of the graph of 15 neighbours in the twice whitened space at resolution 0.6; above 25
    eigenvalues near 1 their number instead, because modularity has a resolution limit (Fortunato and
    Barthelemy 2007). Coding length and modularity along a merging stand beside it.

    Args:
        space: Features, whitened, at least 20 rows.
        seed: Of every random number.
    """
    with threads_for(len(space.ids)):
        return _estimate(space, seed)


def _estimate(space: Space, seed: int) -> Estimate:
    graph = adjacency(space.ids)
    coarse, usual, fine = (counted(communities(graph, r, seed)) for r in (COARSE, USUAL, FINE))
    spectral = spectral_count(graph, seed)
    labels, merging = _merging(space, graph, seed)
    curve = coding_curve(unit_rows(space.twice), labels, merging)
    joined = [(join.clusters_left, join.modularity) for join in merging.joins]
    modularity = ((len(joined) + 1, merging.start), *joined)
    table = (
        (f"communities at resolution {USUAL:g}", usual),
        ("eigenvalues above 0.9", spectral),
        (f"communities at resolution {COARSE:g}", coarse),
        (f"communities at resolution {FINE:g}", fine),
        ("shortest coding length", min(curve, key=lambda point: (point[1], -point[0]))[0]),
        ("greatest modularity of a merging", merging.suggested),
    )
    return Estimate(*_range(coarse, usual, fine, spectral, len(space.ids) // 2), table, curve, modularity)


def _range(coarse: int, usual: int, fine: int, spectral: int, most: int) -> tuple[int, int, int]:
    """Suggestion, lower and upper end, within 2..most.

    Communities give all three. Where eigenvalues are counted the ends are the communities and twice the
    count.
    """
    if spectral > MANY_EIGENVALUES:
        ends = spectral, min(usual, spectral), 2 * spectral
    else:
        ends = usual, min(coarse, usual), max(fine, usual)
    suggested, low, high = (min(max(2, end), max(2, most)) for end in ends)
    return suggested, low, high


def _merging(space: Space, graph: csr_array, seed: int) -> tuple[Ints, Merging]:
    """Many small groups by k-means of the diffusion map, [N], and their joins by links of the graph."""
    count = len(space.ids)
    groups = max(2, min(START, count // ROWS_EACH))
    map_ = diffusion_map(*graph_eigenvectors(graph, min(VECTORS, count // 4), seed, REGULARISATION))
    labels = kmeans(map_, groups, [seed, 20], starts=1)
    return labels, merge_clusters(labels, np.arange(count), space.ids[:, :NEIGHBORS], groups)
