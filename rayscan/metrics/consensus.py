"""One grouping out of several of the same images: heads of a run, or runs of several seeds.

Cluster numbers mean nothing across groupings, so each is first matched to a reference one to one, then images
vote (Dimitriadou, Weingessel, Hornik 2002: voting after matching), and the vote becomes the next reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from rayscan.errors import DataError
from rayscan.metrics.contingency import Contingency
from rayscan.metrics.scores import ari
from rayscan.types import Ints

MAX_ROUNDS = 50


@dataclass(frozen=True)
class Consensus:
    """The vote."""

    clusters: Ints
    """Cluster of each image [N], numbered as in the reference."""
    agreement: NDArray[np.float64]
    """Share of the groupings that vote for it [N]."""
    pairwise_ari: NDArray[np.float64]
    """ARI between the groupings [R, R]: how stable they are."""

    @property
    def stability(self) -> float:
        """Mean ARI over pairs of different groupings; 1 for a single one."""
        count = len(self.pairwise_ari)
        return float((self.pairwise_ari.sum() - count) / (count * (count - 1))) if count > 1 else 1.0


def consensus(groupings: Ints, num_clusters: int) -> Consensus:
    """Vote over groupings [R, N] with clusters 0..C-1.

    The reference begins as the grouping most like all others (highest mean ARI, the first at a tie). Rounds
    of matching and voting end when nothing changes; a tied image keeps the lower cluster number.

    Raises:
        DataError: a cluster number is out of range.
    """
    groupings = np.asarray(groupings, np.int64)
    if groupings.size == 0 or groupings.min() < 0 or groupings.max() >= num_clusters:
        raise DataError(
            "the groupings do not fit the number of clusters",
            expected=f"clusters 0..{num_clusters - 1}",
            got="none" if groupings.size == 0 else f"{groupings.min()}..{groupings.max()}",
        )
    alike = pairwise_ari(groupings, num_clusters)
    reference, votes = groupings[int(alike.mean(1).argmax())], np.empty(0)
    for _ in range(MAX_ROUNDS):
        votes = np.zeros((groupings.shape[1], num_clusters), np.int32)
        for grouping in groupings:
            votes[np.arange(len(grouping)), matched(grouping, reference, num_clusters)] += 1
        voted = votes.argmax(1)
        if np.array_equal(voted, reference):
            break
        reference = voted
    return Consensus(reference, votes.max(1) / len(groupings), alike)


def matched(grouping: Ints, reference: Ints, num_clusters: int) -> Ints:
    """The grouping with its clusters renumbered for the largest overlap with the reference: [N] -> [N]."""
    overlap = Contingency.count(grouping, reference, num_clusters, num_clusters).dense()
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    mapping = np.empty(num_clusters, np.int64)
    mapping[rows] = columns
    renumbered: Ints = mapping[grouping]
    return renumbered


def pairwise_ari(groupings: Ints, num_clusters: int) -> NDArray[np.float64]:
    """ARI between all pairs: [R, N] -> [R, R]."""
    count = len(groupings)
    alike = np.eye(count)
    for i in range(count):
        for j in range(i):
            table = Contingency.count(groupings[i], groupings[j], num_clusters, num_clusters)
            alike[i, j] = alike[j, i] = ari(table)
    return alike
