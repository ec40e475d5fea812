"""Self-labelling (arXiv 2005.12320, Sec. 2.3): a strong view learns the confident label of the weak one."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def confident(weak_logits: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """Pseudo-labels of the weak view: [B, C] -> labels [B] int64 and mask [B], true above the threshold.

    Args:
        weak_logits: [B, C].
        threshold: One for all clusters, or one for each [C].
    """
    best, labels = weak_logits.softmax(-1).max(-1)
    return labels, best > (threshold[labels] if isinstance(threshold, Tensor) else threshold)


def class_thresholds(counts: Tensor, num_images: int, threshold: float, floor: float) -> Tensor:
    """One threshold per cluster, lower where few images are confident (FlexMatch, arXiv 2110.08263).

    b_c = counts_c / max(max counts, images that are not confident), T_c = threshold * b_c / (2 - b_c).
    Deviation: a floor, since a cluster nobody is sure of would else take any image.

    Args:
        counts: Images above `threshold` in each cluster, over all workers [C].
        num_images: Images that were looked at.
        threshold: Of the cluster learnt best.
        floor: Least value.

    Returns:
        [C].
    """
    beta = counts / torch.clamp(counts.max(), min=(num_images - counts.sum()).clamp(min=1))
    return torch.clamp(threshold * beta / (2 - beta), min=floor)


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
