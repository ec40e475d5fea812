"""The SCAN loss (arXiv 2005.12320, Eq. 2): consistency with neighbors, minus lambda times the entropy."""

from __future__ import annotations

import torch
from torch import Tensor


def consistency(anchor_logits: Tensor, neighbor_logits: Tensor) -> Tensor:
    """Sum over the pairs of -log <p, p_k>: [H, ..., C] twice, of shapes that broadcast -> [H].

    In log space, so a vanishing dot product keeps its gradient.
    Deviation: the paper sums over all K neighbors; one is drawn per anchor and step, as the authors do, or
    the mean over all K is taken, so that lambda means the same for any K.
    """
    log_dot = torch.logsumexp(anchor_logits.log_softmax(-1) + neighbor_logits.log_softmax(-1), dim=-1)
    return -log_dot.flatten(1).sum(-1)


def entropy(mean_probs: Tensor) -> Tensor:
    """Entropy in nats of the mean assignment: [H, C] -> [H]; at most log C, at uniform."""
    return -torch.xlogy(mean_probs, mean_probs.clamp(min=1e-8)).sum(-1)


def entropy_term(mean_probs: Tensor, prior: Tensor | None = None) -> Tensor:
    """The term that lambda weighs: the entropy, or -KL(mean || prior) where the clusters' shares are known.

    SCAN Sec. 2.2 names the second; for the uniform prior the two differ by log C.

    Args:
        mean_probs: [H, C].
        prior: [C] positive, sums to 1.

    Returns:
        [H].
    """
    if prior is None:
        return entropy(mean_probs)
    return entropy(mean_probs) + (mean_probs * prior.to(mean_probs).log()).sum(-1)


def scan_loss(
    consistency_mean: Tensor, mean_probs: Tensor, entropy_weight: float, prior: Tensor | None = None
) -> Tensor:
    """The loss of Eq. 2, per head: [H] and [H, C] -> [H].

    Args:
        consistency_mean: -log <p, p_k>, averaged over the global batch.
        mean_probs: Anchor probabilities averaged over the global batch.
        entropy_weight: lambda >= 0.
        prior: Known share of each cluster [C], see `entropy_term`.
    """
    return consistency_mean - entropy_weight * entropy_term(mean_probs, prior)
