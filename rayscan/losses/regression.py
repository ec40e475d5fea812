"""Distance of unit vectors, the loss of BYOL (arXiv 2006.07733, Eq. 2)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def unit_distance(predictions: Tensor, targets: Tensor) -> Tensor:
    """Sum over the rows of |q / |q| - z / |z||^2 = 2 - 2 cos(q, z): [n, P] twice -> []."""
    cosine = (functional.normalize(predictions, dim=1) * functional.normalize(targets, dim=1)).sum(1)
    return (2 - 2 * cosine).sum()
