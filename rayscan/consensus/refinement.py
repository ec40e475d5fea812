"""One round of refinement: heads from groupings, their merits, their vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import LinearRule
from rayscan.consensus.information_heads import trained_heads
from rayscan.consensus.score import Score
from rayscan.consensus.vote import vote, weights_by_merit
from rayscan.types import Ints


@dataclass(frozen=True)
class Refined:
    """Heads of one round and what they agree on."""

    labels: Ints
    """The vote, [N]."""
    heads: list[LinearRule]
    groupings: list[Ints]
    """Clusters by each head, [N]."""
    merits: list[float]
    weights: NDArray[np.float64]
    """Of the heads in the vote, [H]."""


def refine(
    rows: NDArray[np.float32],
    ids: Ints,
    starts: Sequence[Ints],
    score: Score,
    num_clusters: int,
    key: Sequence[int],
) -> Refined:
    """Train heads from groupings, rank them, and let them vote.

    Args:
        rows: Whitened and centred, [N, q].
        ids: Neighbours in them, [N, K].
        starts: Groupings, [N] each.
        score: Of groupings.
        num_clusters: C.
        key: Of the vote's random numbers.
    """
    heads = trained_heads(rows, ids, starts, num_clusters)
    groupings = [np.asarray(head.outputs(rows).argmax(axis=1), np.int64) for head in heads]
    merits = score.merit(groupings)
    weights = weights_by_merit(merits)
    return Refined(vote(groupings, weights, num_clusters, key), heads, groupings, merits, weights)
