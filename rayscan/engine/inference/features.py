"""A pass over images: some are decoded while the network computes on others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from rayscan.data.loader import Prefetcher
from rayscan.engine import watchdog
from rayscan.engine.inference.frozen import FrozenNet
from rayscan.types import Ints

AHEAD = 2
"""Batches decoded before they are asked for."""


def features(net: FrozenNet, fetch: Callable[[Ints], Tensor], gids: Ints, *, batch_size: int = 64) -> Tensor:
    """Features of images in the order asked; at most AHEAD + 2 batches of pixels are in memory.

    Args:
        net: From `fast_net`.
        fetch: gids -> uint8 [B, 3, S, S], such as `PictureLoader.pictures`; called in one background thread.
        gids: Images [n].
        batch_size: Images per fetch, rounded up to whole chunks of the network; no bit depends on it.

    Returns:
        float32 [n, D] on the CPU.

    Raises:
        DataError: an image cannot be read.
    """
    size = -(-batch_size // net.chunk) * net.chunk
    batches = [gids[first : first + size] for first in range(0, len(gids), size)]
    rows = []
    with Prefetcher(lambda number: fetch(batches[number]), range(len(batches)), AHEAD) as coming:
        for pixels in coming:
            rows.append(net(pixels))
            watchdog.heartbeat()  # a long pass is no stall
    return torch.cat(rows) if rows else torch.empty(0)
