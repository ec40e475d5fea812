"""Linear heads on unit features from groupings in their whitened space: where training begins, or its vote.

A rule on the whitened rows, X2 = (U - mean) V P, is one on the features: W' = V P W, b' = b - mean W'.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rayscan.consensus.cluster import Sizes, consensus
from rayscan.consensus.discriminant import LinearRule, discriminant_rule
from rayscan.consensus.information_heads import SOFTNESS
from rayscan.consensus.kmeans import kmeans
from rayscan.consensus.neighbors import unit_rows
from rayscan.consensus.score import Score
from rayscan.consensus.space import Space
from rayscan.consensus.vote import vote, weights_by_merit
from rayscan.consensus.whitening import total_scatter
from rayscan.nets.heads import ClusterHeads
from rayscan.training.whitened import SampledSpace
from rayscan.types import Ints

NEGLIGIBLE = 1e-3
"""Heads with less weight beside the best one's do not vote."""
TABLE = 4096
"""Clusters of all voters together at most: the table of all pairs of them is decomposed."""


def start_from_groupings(
    heads: ClusterHeads, sampled: SampledSpace, seed: int, _sizes: Sizes = "auto"
) -> None:
    """Give each head the rule of a k-means grouping of the whitened rows, one random start a head.

    Args:
        heads: Any number of heads on the features; their weights are replaced.
        sampled: The whitened space.
        seed: Of the run.
    """
    units, num_clusters = unit_rows(sampled.space.twice), heads.bias.shape[1]
    _start(heads, sampled, [kmeans(units, num_clusters, [seed, 16, h], 1) for h in range(len(heads.bias))])


def start_from_consensus(
    heads: ClusterHeads, sampled: SampledSpace, seed: int, sizes: Sizes = "auto"
) -> None:
    """Give the first head the rule of what the method consensus finds, and others those of its voters.

    More heads than the voters and their vote begin alike in pairs.

    Args:
        heads: Any number of heads on the features; their weights are replaced.
        sampled: The whitened space.
        seed: Of the run.
        sizes: Of the clusters, as the method takes it.

    Raises:
        ConfigError: there are too few rows for the clusters.
    """
    found = consensus(sampled.space.units, heads.bias.shape[1], seed, sizes=sizes)
    _start(heads, sampled, list(islice(cycle((found.labels, *found.groupings)), len(heads.bias))))


START: Mapping[str, Callable[[ClusterHeads, SampledSpace, int, Sizes], None]] = {
    "grouping": start_from_groupings,
    "consensus": start_from_consensus,
}
"""`scan.start` -> what sets the heads; at random they stay as they are."""


def _start(heads: ClusterHeads, sampled: SampledSpace, groupings: Sequence[Ints]) -> None:
    weight, bias = heads_of_groupings(sampled.space, groupings, heads.bias.shape[1], SOFTNESS)
    with torch.no_grad():
        heads.weight.copy_(weight)
        heads.bias.copy_(bias)


def heads_of_groupings(
    space: Space, groupings: Sequence[Ints], num_clusters: int, softness: float = 1.0
) -> tuple[Tensor, Tensor]:
    """The rules of linear discriminant analysis of groupings, as heads on unit features.

    Args:
        space: The whitened space of n rows.
        groupings: H of [n].
        num_clusters: C.
        softness: What the outputs are multiplied by.

    Returns:
        Weights float32 [H, C, D] and biases float32 [H, C].
    """
    total = total_scatter(space.twice) / len(space.twice)
    folded = [folded_rule(space, discriminant_rule(space.twice, total, g, num_clusters)) for g in groupings]
    weights = np.stack([softness * rule.weights.T for rule in folded])
    biases = np.stack([softness * rule.bias for rule in folded])
    return torch.from_numpy(weights.astype(np.float32)), torch.from_numpy(biases.astype(np.float32))


def folded_rule(space: Space, rule: LinearRule) -> LinearRule:
    """The rule on unit features [D, C] that gives what one on the whitened rows gives [q, C]."""
    weights = np.asarray(space.components @ space.projection @ rule.weights, np.float32)
    return LinearRule(weights, np.asarray(rule.bias - space.mean @ weights, np.float32))


def voted_head(
    sampled: SampledSpace, groupings: NDArray[np.integer], num_clusters: int, seed: int
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The vote of heads, weighted by S, as one linear head: the discriminant rule of what they agree on.

    Args:
        sampled: The whitened space.
        groupings: Cluster of each train row by each head, [H, N].
        num_clusters: C.
        seed: Of the run.

    Returns:
        The state of `ClusterHeads` with one head, and facts: S of the vote and of the best head, voters.
    """
    voices = [np.asarray(one[sampled.rows], np.int64) for one in groupings]
    score = Score(sampled.space, num_clusters, seed)
    scores = np.array(score.of(voices))
    order = np.argsort(-scores, kind="stable")[: max(1, TABLE // num_clusters)]
    weights = weights_by_merit(scores[order].tolist())
    order = order[weights >= NEGLIGIBLE * weights[0]]
    shares = weights_by_merit(scores[order].tolist())
    labels = vote([voices[head] for head in order], shares, num_clusters, [seed, 17])
    weight, bias = heads_of_groupings(sampled.space, [labels], num_clusters)
    facts = {"score": score.of([labels])[0], "best_score": float(scores.max()), "voters": float(len(order))}
    return {"weight": weight, "bias": bias}, facts
