"""The precision of a net's forward pass. Losses, weights and statistics stay in fp32 in any case."""

from __future__ import annotations

import torch
from torch import nn

from rayscan.processor import has_bf16_units


def is_half(precision: str, device: str, net: nn.Module) -> bool:
    """Whether the forward runs under bf16 autocast.

    auto: on GPUs; on CPUs where there are units for it and convolutions that gain (measured 2x).
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.device(device).type != "cpu":
        return True
    return has_bf16_units() and any(isinstance(m, nn.Conv2d) for m in net.modules())
