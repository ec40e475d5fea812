"""RankMe: how many directions features really use, without a label (arXiv 2210.02885, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor


def effective_rank(features: Tensor, eps: float = 1e-7) -> float:
    """Exponential of the entropy of the normalised singular values: [n, D] -> 1..min(n, D).

    Comparable between epochs of one training, not between methods.
    """
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum().clamp(min=eps) + eps
    return float(torch.exp(-(shares * shares.log()).sum()))
