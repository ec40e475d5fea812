"""What all backbones have in common."""

from __future__ import annotations

from torch import nn


class Backbone(nn.Module):
    """A network without its classifier: [B, 3, S, S] -> [B, D]."""

    dim: int
    """Feature width (D)."""
