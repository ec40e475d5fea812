"""Linear heads that maximise the mutual information of neighbours' clusters, side by side.

The objective of IIC (Ji, Henriques, Vedaldi, arXiv 1807.06653, Eq. 3) with the mean of the neighbours in
place of an augmented picture. Nothing to weigh: no prior, no entropy weight. Starts from groupings, never at
random.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from rayscan.consensus.adam import CosineAdam
from rayscan.consensus.discriminant import LinearRule, discriminant_rule
from rayscan.consensus.graphs import lists
from rayscan.consensus.sparse import Product, product
from rayscan.consensus.whitening import total_scatter
from rayscan.types import Ints

NEIGHBORS = 20
LEARNING_RATE = 0.05
SOFTNESS = 0.5
"""The starting rules are multiplied by it: sure enough to hold, soft enough to learn."""
TINY = 1e-12
HELD_OUTPUTS = 100_000_000
"""Outputs of heads that are trained side by side, N x C of each; four such arrays are held."""


def steps_for(num_clusters: int) -> int:
    """Steps of training: 60, 40 above 20 clusters."""
    return 60 if num_clusters <= 20 else 40


def joint(probabilities: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
    """Sum of p_i q_i' of each head: [C, H, N] twice -> [H, C, C]; those of row ranges add up."""
    return torch.bmm(probabilities.transpose(0, 1), neighbors.permute(1, 2, 0))


def information_loss(table: torch.Tensor) -> torch.Tensor:
    """- sum J log J + 2 sum m log m of each head's joint distribution, the negative mutual information.

    Args:
        table: J, [H, C, C], sums to 1; made symmetric here.

    Returns:
        [H].
    """
    table = (table + table.transpose(1, 2)) / 2
    margin = table.sum(dim=2)
    own = (table * torch.log(table + TINY)).sum(dim=(1, 2))
    return 2 * (margin * torch.log(margin + TINY)).sum(dim=1) - own


def information_gradient(probabilities: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
    """Gradient of the sum of the heads' losses by the outputs, whose softmax the probabilities are.

    The neighbours' means are constants, as the views of others.

    Args:
        probabilities: p, [C, H, N].
        neighbors: q, means over the neighbours, [C, H, N].

    Returns:
        [C, H, N].
    """
    count = probabilities.shape[2]
    table = (joint(probabilities, neighbors) / count).requires_grad_()
    information_loss(table).sum().backward()
    assert table.grad is not None
    by_probability = torch.bmm(table.grad / count, neighbors.transpose(0, 1)).transpose(0, 1)
    gradient = by_probability.mul_(probabilities)
    return gradient.sub_(probabilities * gradient.sum(dim=0))


def trained_heads(
    rows: NDArray[np.float32], ids: Ints, starts: Sequence[Ints], num_clusters: int
) -> list[LinearRule]:
    """Heads trained from groupings by Adam on all rows, the learning rate falling to zero along a cosine.

    Args:
        rows: Whitened and centred, [N, q]; each column is divided by its standard deviation here.
        ids: Neighbours, nearest first, [N, K]; 20 are used.
        starts: Groupings [N]; the rule of linear discriminant analysis of each is a head's start.
        num_clusters: C.

    Returns:
        Rules on `rows` as they came, one a grouping.
    """
    scale = rows.std(axis=0)
    scaled = rows / scale
    total = total_scatter(scaled) / len(scaled)
    rules = [discriminant_rule(scaled, total, labels, num_clusters) for labels in starts]
    used = ids[:, :NEIGHBORS]
    means = product(lists(used, np.full(used.shape, 1 / used.shape[1], np.float32)), np.float32)
    at_once = max(1, HELD_OUTPUTS // (len(rows) * num_clusters))
    found = []
    for first in range(0, len(rules), at_once):
        found += _trained(torch.from_numpy(scaled), means, rules[first : first + at_once])
    return [LinearRule(np.ascontiguousarray(rule.weights / scale[:, None]), rule.bias) for rule in found]


def _trained(x: torch.Tensor, means: Product[np.float32], starts: Sequence[LinearRule]) -> list[LinearRule]:
    """Heads from their starts, side by side."""
    # Clusters first: a softmax over the first dimension is many times as fast as over a last one of few.
    weights = torch.from_numpy(np.stack([SOFTNESS * rule.weights.T for rule in starts], axis=1))  # [C, H, q]
    bias = torch.from_numpy(np.stack([SOFTNESS * rule.bias for rule in starts], axis=1))  # [C, H]
    columns = x.T.contiguous()
    steps = steps_for(len(bias))
    optimizer = CosineAdam([weights, bias], LEARNING_RATE, steps)
    for _ in range(steps):
        outputs = torch.addmm(bias.view(-1, 1), weights.flatten(0, 1), columns)
        probabilities = outputs.view(len(bias), -1).softmax(dim=0).view(*bias.shape, -1)
        near = torch.from_numpy(means(probabilities.flatten(0, 1).T.numpy())).T.contiguous()
        gradient = information_gradient(probabilities, near.view(probabilities.shape))
        weights.grad = (gradient.flatten(0, 1) @ x).view_as(weights)
        bias.grad = gradient.sum(dim=2)
        optimizer.step()
    return [
        LinearRule(np.ascontiguousarray(weights[:, head].numpy().T), bias[:, head].numpy().copy())
        for head in range(len(starts))
    ]
