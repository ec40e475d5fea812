"""One round of refinement: heads from groupings in every space, their merits, their vote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayscan.consensus.discriminant import LinearRule, discriminant_rule
from rayscan.consensus.information_heads import trained_heads
from rayscan.consensus.score import JointScore
from rayscan.consensus.vote import vote, weights_by_merit
from rayscan.consensus.whitening import total_scatter
from rayscan.types import Ints


@dataclass(frozen=True)
class Field:
    """A whitened space, as heads are trained in it."""

    projection: NDArray[np.float32]
    """Z projection are the rows: [d, q]."""
    rows: NDArray[np.float32]
    """Whitened and centred, [N, q]."""
    ids: Ints
    """Neighbours in them, [N, K]."""


@dataclass(frozen=True)
class Round:
    """Heads of one round and what they agree on; H heads in each of the F fields."""

    fields: tuple[Field, ...]
    labels: Ints
    """The vote of all heads, [N]."""
    heads: list[list[LinearRule]]
    """F lists of H."""
    groupings: list[list[Ints]]
    """Clusters by each head, [N]."""
    merits: list[float]
    """Of all heads, field after field: [F H]."""

    @property
    def voters(self) -> list[Ints]:
        """Groupings of all heads, field after field: [F H] of [N]."""
        return [labels for of_field in self.groupings for labels in of_field]


def refine(
    fields: tuple[Field, ...],
    starts: Sequence[Ints],
    score: JointScore,
    num_clusters: int,
    key: Sequence[int],
) -> Round:
    """Train heads from the same groupings in every field, rank them, and let them vote.

    Args:
        fields: One for each reading of the features.
        starts: Groupings, H of [N].
        score: Of groupings.
        num_clusters: C.
        key: Of the vote's random numbers.
    """
    heads, groupings = [], []
    for field in fields:
        trained = trained_heads(field.rows, field.ids, starts, num_clusters)
        heads.append(trained)
        groupings.append([np.asarray(head.outputs(field.rows).argmax(axis=1), np.int64) for head in trained])
    voters = [labels for of_field in groupings for labels in of_field]
    merits = score.merit(voters)
    labels = vote(voters, weights_by_merit(merits), num_clusters, key)
    return Round(fields, labels, heads, groupings, merits)


def without_heads(fields: tuple[Field, ...], labels: Ints, num_clusters: int) -> Round:
    """A grouping [N] that needs no heads, with its own discriminant rule in every field as the head."""
    heads = [
        [discriminant_rule(of.rows, total_scatter(of.rows) / len(of.rows), labels, num_clusters)]
        for of in fields
    ]
    return Round(fields, labels, heads, [[labels]] * len(fields), [])
