"""The SCAN loss (arXiv 2005.12320, Eq. 2): consistency with a neighbor, minus lambda times the entropy."""

from __future__ import annotations

import torch
from torch import Tensor


def consistency(anchor_logits: Tensor, neighbor_logits: Tensor) -> Tensor:
    """Sum over the batch of -log <p, p_k>: [H, B, C] twice -> [H].

    In log space, so a vanishing dot product keeps its gradient.
    Deviation: the paper sums over all K neighbors; one is drawn per anchor and step, as the authors do.
    """
    log_dot = torch.logsumexp(anchor_logits.log_softmax(-1) + neighbor_logits.log_softmax(-1), dim=-1)
    return -log_dot.sum(-1)


def entropy(mean_probs: Tensor) -> Tensor:
    """Entropy in nats of the mean assignment: [H, C] -> [H]; at most log C, at uniform."""
    return -torch.xlogy(mean_probs, mean_probs.clamp(min=1e-8)).sum(-1)


def scan_loss(consistency_mean: Tensor, mean_probs: Tensor, entropy_weight: float) -> Tensor:
    """Lambda of Eq. 2 per head: [H] and [H, C] -> [H].

    Args:
        consistency_mean: -log <p, p_k>, averaged over the global batch.
        mean_probs: Anchor probabilities averaged over the global batch.
        entropy_weight: lambda >= 0.
    """
    return consistency_mean - entropy_weight * entropy(mean_probs)
