"""A network that takes bytes: normalisation is its first layer, computed where the network is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from rayscan.config.preprocessing import Preprocessing


class Normalised(nn.Module):
    """uint8 [B, 3, S, S] -> net((pixels / 255 - mean) / std)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, preprocessing: Preprocessing) -> None:
        """Wrap.

        Args:
            net: [B, 3, S, S] -> [B, D], in eval mode.
            preprocessing: Mean and standard deviation.
        """
        super().__init__()
        self.net = net
        mean, std = (
            torch.tensor(values, dtype=torch.float64).reshape(1, 3, 1, 1)
            for values in (preprocessing.mean, preprocessing.std)
        )
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 3, S, S] -> [B, D]."""
        features: Tensor = self.net(pixels.float() * self.scale + self.shift)
        return features
