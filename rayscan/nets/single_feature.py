"""What a backbone has to give: one row of features of a picture, whatever it pools."""

from __future__ import annotations

import torch

from rayscan.errors import ConfigError
from rayscan.nets.backbone import Backbone


def require_single_feature(net: Backbone, size_px: int, name: str) -> None:
    """Refuse a network that makes no [B, D] of such pictures.

    Args:
        net: In eval mode and on the meta device, where a pass costs little.
        size_px: Side of the pictures.
        name: Of the network, for the message.

    Raises:
        ConfigError: it cannot take pictures of that size, or gives maps or tokens.
    """
    expected = f"[1, {net.dim}] of a picture of {size_px} px"
    try:
        with torch.no_grad():
            shape = net(torch.empty(1, 3, size_px, size_px)).shape
    except (AssertionError, RuntimeError) as error:
        raise ConfigError(
            "the network cannot take pictures of this size", expected=expected, got=error, where=name
        ) from error
    if tuple(shape) != (1, net.dim):
        raise ConfigError(
            "the network gives no single feature of a picture",
            expected=expected,
            got=list(shape),
            where=name,
            fix="take a network that pools its tokens or places",
        )
