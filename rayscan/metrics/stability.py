"""Neighbor stability: how far the nearest neighbors of fixed images still move between two looks.

Needs no label. It rises to 1 as a training settles: when it no longer grows, more epochs no longer change
what SCAN would be given. It says nothing of whether the neighbors are good.
"""

from __future__ import annotations

import torch
from torch import Tensor

STABILITY_NEIGHBORS = 10


def nearest_rows(features: Tensor, count: int = STABILITY_NEIGHBORS) -> Tensor:
    """Rows with the highest dot products, the row itself left out: unit [n, D] -> int64 [n, k], k < n."""
    scores = features @ features.T
    scores.fill_diagonal_(-torch.inf)
    return scores.topk(min(count, len(features) - 1), dim=1).indices


def neighbor_overlap(before: Tensor, now: Tensor) -> float:
    """Mean share of a row's neighbors that were among its neighbors before: [n, k] twice -> 0..1."""
    shared = (before.unsqueeze(2) == now.unsqueeze(1)).any(1)
    return float(shared.double().mean())
