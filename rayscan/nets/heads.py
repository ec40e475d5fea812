"""Heads: features [B, D] -> projections [B, P] or cluster logits [H, B, C]."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from rayscan.nets.batchnorm import GlobalBatchNorm1d


class ProjectionHead(nn.Sequential):
    """Linear, ReLU, Linear: the projection of SimCLR (arXiv 2002.05709, Sec. 3)."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int) -> None:
        """[B, dim] -> [B, out_dim]."""
        super().__init__(nn.Linear(dim, hidden_dim), nn.ReLU(inplace=True), nn.Linear(hidden_dim, out_dim))


class NormalizedHead(nn.Sequential):
    """Linear, batch normalisation, ReLU, Linear: projection and prediction of BYOL (arXiv 2006.07733)."""

    def __init__(self, dim: int, hidden_dim: int, out_dim: int, *, is_sync: bool = True) -> None:
        """[B, dim] -> [B, out_dim]; `is_sync` normalises over the global batch."""
        norm = GlobalBatchNorm1d if is_sync else nn.BatchNorm1d
        super().__init__(
            nn.Linear(dim, hidden_dim, bias=False),
            norm(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, out_dim),
        )


class ProjectedNet(nn.Module):
    """Backbone and projection: [B, 3, S, S] -> [B, P]."""

    def __init__(self, backbone: nn.Module, projection: nn.Module) -> None:
        """Join them."""
        super().__init__()
        self.backbone = backbone
        self.projection = projection

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, P]."""
        projected: Tensor = self.projection(self.backbone(pixels))
        return projected


class ClusterHeads(nn.Module):
    """H linear classifiers side by side (SCAN Sec. 2.2): [B, D] -> [H, B, C]."""

    def __init__(self, num_heads: int, dim: int, num_clusters: int, *, temperature: float = 1.0) -> None:
        """Initialise each head as `nn.Linear` does: uniform in +-1 / sqrt(D), over the temperature.

        Training logits / T is training weights that start 1 / T as large, 1 / T as fast (under Adam); those
        need no temperature afterwards.
        """
        super().__init__()
        bound = dim**-0.5 / temperature
        self.weight = nn.Parameter(torch.empty(num_heads, num_clusters, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_heads, num_clusters).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [H, B, C].

        One product with the rows of all heads, as the features are the same: on a CPU H thin ones
        (`torch.baddbmm`) take many times as long.
        """
        logits = nn.functional.linear(features, self.weight.flatten(0, 1), self.bias.flatten())
        of_heads: Tensor = logits.unflatten(1, self.bias.shape).transpose(0, 1)
        return of_heads


class ClusterNet(nn.Module):
    """Backbone and cluster heads: [B, 3, S, S] -> [H, B, C]."""

    def __init__(self, backbone: nn.Module, heads: ClusterHeads, *, is_normalized: bool) -> None:
        """Join them.

        Args:
            backbone: Pixels to features.
            heads: Features to logits.
            is_normalized: Scale features to unit length first, as heads trained on stored embeddings expect.
        """
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.is_normalized = is_normalized

    def features(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [B, D], as the heads take them."""
        features: Tensor = self.backbone(pixels)
        return nn.functional.normalize(features, dim=1) if self.is_normalized else features

    def forward(self, pixels: Tensor) -> Tensor:
        """[B, 3, S, S] -> [H, B, C]."""
        logits: Tensor = self.heads(self.features(pixels))
        return logits


def heads_of(net: nn.Module) -> ClusterHeads:
    """The cluster heads of a net: itself, or its `heads`."""
    heads = net if isinstance(net, ClusterHeads) else net.heads
    assert isinstance(heads, ClusterHeads)
    return heads


def one_head(net: nn.Module) -> nn.Module:
    """A copy of a net with the first of its cluster heads alone, without gradient."""
    one = copy.deepcopy(net).requires_grad_(requires_grad=False)
    heads = heads_of(one)
    heads.weight = nn.Parameter(heads.weight[:1].clone(), requires_grad=False)
    heads.bias = nn.Parameter(heads.bias[:1].clone(), requires_grad=False)
    return one


def one_head_state(net: nn.Module, head: int) -> dict[str, Tensor]:
    """The state of a net with that one of its cluster heads alone; no copy."""
    state: dict[str, Tensor] = net.state_dict()
    prefix = "" if heads_of(net) is net else "heads."
    return state | {prefix + k: state[prefix + k][head : head + 1] for k in ("weight", "bias")}
