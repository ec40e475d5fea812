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
from scipy.sparse import csr_array

from rayscan.consensus.adam import CosineAdam
from rayscan.consensus.discriminant import LinearRule, discriminant_rule
from rayscan.consensus.graphs import lists
from rayscan.consensus.whitening import total_scatter
from rayscan.types import Ints

NEIGHBORS = 20
LEARNING_RATE = 0.05
SOFTNESS = 0.5
"""The starting rules are multiplied by it: sure enough to hold, soft enough to learn."""
TINY = 1e-12


def steps_for(num_clusters: int) -> int:
    """Steps of training: 60, 40 above 20 clusters."""
    return 60 if num_clusters <= 20 else 40


def joint(probabilities: torch.Tensor, neighbors: torch.Tensor) -> torch.Tensor:
    """Sum of p_i q_i' of each head: [N, H, C] twice -> [H, C, C]; those of row ranges add up."""
    return torch.einsum("nhc,nhk->hck", probabilities, neighbors)


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
    weights = torch.tensor(
        np.stack([SOFTNESS * r.weights for r in rules], axis=1)
    ).requires_grad_()  # [q, H, C]
    bias = torch.tensor(np.stack([SOFTNESS * r.bias for r in rules])).requires_grad_()  # [H, C]
    x, graph = torch.from_numpy(scaled), _neighbor_means(ids)
    steps = steps_for(num_clusters)
    optimizer = CosineAdam([weights, bias], LEARNING_RATE, steps)
    for _ in range(steps):
        outputs = (x @ weights.flatten(1)).view(len(x), *bias.shape) + bias
        probabilities = outputs.softmax(dim=2)
        means = graph @ probabilities.detach().flatten(1).numpy()
        neighbors = torch.from_numpy(means).view_as(probabilities)
        information_loss(joint(probabilities, neighbors) / len(x)).sum().backward()
        optimizer.step()
    found = weights.detach().numpy() / scale[:, None, None]
    return [
        LinearRule(np.ascontiguousarray(found[:, head]), bias.detach().numpy()[head])
        for head in range(len(starts))
    ]


def _neighbor_means(ids: Ints) -> csr_array:
    """Sparse [N, N] that takes the mean over the neighbours."""
    used = ids[:, :NEIGHBORS]
    return lists(used, np.full(used.shape, 1 / used.shape[1], np.float32))
