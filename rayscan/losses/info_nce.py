"""InfoNCE with a queue of earlier keys, the loss of MoCo (arXiv 1911.05722, Eq. 1)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def info_nce(queries: Tensor, keys: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Sum over the queries of -log softmax of their own key among it and the queue.

    Args:
        queries: q, [n, P] unit rows.
        keys: k+, [n, P] unit rows, the other view of each query; no gradient.
        queue: [Q, P] unit rows of earlier keys.
        temperature: tau > 0.

    Returns:
        Scalar sum.
    """
    positive = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([positive, queries @ queue.T], dim=1) / temperature
    return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64), reduction="sum")
