"""What the method gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.candidates import Candidate
from rayscan.consensus.ensemble import Ensemble
from rayscan.types import Ints


@dataclass(frozen=True)
class Result:
    """Clusters of all rows, how sure they are, and how they came about."""

    labels: Ints
    """Cluster of each row, the largest cluster is 0: int64 [N]."""
    probabilities: NDArray[np.float32]
    """Mean softmax outputs of the heads, in these clusters, tempered: [N, C]."""
    agreement: NDArray[np.float32]
    """How far the heads agree on the row's cluster, 0..1: [N]."""
    groupings: tuple[Ints, ...]
    """Clusters by each head of the round it comes from, in the head's own numbers: [N] each."""
    ensemble: Ensemble
    """These heads as one model, which gives `probabilities` for any rows."""
    score: float
    """S of the labels, 0..1, mean over the readings: how far the features carry them."""
    bound: float
    """The most S that clusters of these sizes could have, 0..1; 1 of equal ones."""
    trust: float
    """What the mean confidence is set to: S, over its bound if sizes are uneven, or the share of rows that
    the better half of the candidates put into the matching cluster, whichever is less. Both tend to be above
    the accuracy."""
    table: tuple[tuple[str, float], ...]
    """Name and merit of every candidate (`score.Score.merit`), best first."""
    kept: tuple[Candidate, ...]
    """Those that heads started from, best first."""
    first_round: Ints
    """The vote before the second round, numbered otherwise: [N]."""
    is_uneven: bool = False
    """Whether they were found without regard to their sizes."""
    is_plain: bool = False
    """Whether the features are so weak that the clusters are those of k-means, whatever else was found."""

    @property
    def runner_up(self) -> Ints:
        """The likeliest other cluster of each row: int64 [N]."""
        others = self.probabilities.copy()
        others[np.arange(len(others)), self.labels] = -1
        return np.asarray(others.argmax(axis=1), np.int64)


def by_size(labels: Ints, num_clusters: int) -> Ints:
    """The grouping with its clusters numbered by size, the largest first: [N] -> int64 [N].

    Of equal sizes the one that comes first in the rows is first, so that the numbers before do not matter.
    """
    sizes = np.bincount(labels, minlength=num_clusters)
    first = np.full(num_clusters, len(labels))
    np.minimum.at(first, labels, np.arange(len(labels)))
    order = np.lexsort((first, -sizes))
    numbers = np.empty(num_clusters, np.int64)
    numbers[order] = np.arange(num_clusters)
    renamed: Ints = numbers[labels]
    return renamed
