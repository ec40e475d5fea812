"""NT-Xent, the contrastive loss of SimCLR (arXiv 2002.05709, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(
    anchors: Tensor, everything: Tensor, positions: Tensor, positives: Tensor, temperature: float
) -> Tensor:
    """Sum over the anchors of -log softmax of their positive among all others.

    The mean over a global batch of B images is the sum over workers divided by 2B (both views are anchors:
    the symmetric form of the paper).

    Args:
        anchors: [n, P] unit rows.
        everything: [2B, P] unit rows of both views of the global batch; holds the anchors.
        positions: [n] row of each anchor in `everything`: itself is no negative.
        positives: [n] row of its other view.
        temperature: tau > 0.

    Returns:
        Scalar sum.
    """
    logits = anchors @ everything.T / temperature
    own = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, positions.unsqueeze(1), value=True)
    logits = logits.masked_fill(own, -torch.inf)
    return functional.cross_entropy(logits, positives, reduction="sum")
