"""How near the features of two engines are, and whether neighbors find as many of their own class."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize


def cosine(ours: Tensor, exact: Tensor) -> float:
    """Mean cosine of rows [n, D]."""
    return float(cosine_similarity(ours.double(), exact.double()).mean())


def purity(features: Tensor, classes: np.ndarray, neighbors: int = 20) -> float:
    """Share of an image's nearest neighbors by cosine, itself excluded, that are of its class; percent."""
    unit = normalize(features.double())
    similar = unit @ unit.T
    similar.fill_diagonal_(-2)
    nearest = similar.topk(neighbors).indices.numpy()
    return float(100 * (classes[nearest] == classes[:, None]).mean())
