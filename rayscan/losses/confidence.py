"""Self-labelling (arXiv 2005.12320, Sec. 2.3): a strong view learns the confident label of the weak one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def confident(weak_logits: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Pseudo-labels of the weak view: [B, C] -> labels [B] int64 and mask [B], true above the threshold."""
    best, labels = weak_logits.softmax(-1).max(-1)
    return labels, best > threshold


def class_weights(counts: Tensor, *, is_balanced: bool) -> Tensor:
    """Weight of each cluster, inverse to its confident samples: [C] -> [C].

    Scaled so that the weights of all confident samples sum to their number; clusters without any get 0.

    Args:
        counts: Confident samples per cluster in the global batch.
        is_balanced: False gives weight 1 to every sample.
    """
    if not is_balanced:
        return torch.ones_like(counts)
    present = (counts > 0).to(counts.dtype)
    return present * counts.sum() / (counts.clamp(min=1) * present.sum().clamp(min=1))


def weighted_cross_entropy(strong_logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Sum over the batch of w_i * CE: [B, C], [B], [B] -> []; zero, with zero gradient, if all w_i are 0."""
    return (functional.cross_entropy(strong_logits, labels, reduction="none") * weights).sum()
