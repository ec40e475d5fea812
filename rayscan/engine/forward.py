"""Forward passes without training: pixels in, rows out, in the order asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rayscan.engine import watchdog

Gids = np.ndarray[Any, np.dtype[np.int64]]


@torch.inference_mode()
def forward(
    net: Callable[[Tensor], Tensor],
    fetch: Callable[[Gids], Tensor],
    gids: Gids,
    *,
    batch_size: int,
    device: str,
) -> Tensor:
    """Outputs of `net` for `gids`, on the CPU in float32.

    Batches are padded to one size, so that a row's bits do not depend on how many rows are asked for
    (kernels differ by batch size).

    Args:
        net: [B, 3, S, S] -> [B, ...], in eval mode.
        fetch: gids -> pixels [B, 3, S, S].
        gids: [n].
        batch_size: Images per forward.
        device: Where `net` is.

    Returns:
        [n, ...] float32.
    """
    is_half = torch.device(device).type == "cuda"
    rows = []
    for first in range(0, len(gids), batch_size):
        part = gids[first : first + batch_size]
        pixels = fetch(part)
        if len(part) < batch_size:
            pixels = torch.cat([pixels, pixels.new_zeros((batch_size - len(part), *pixels.shape[1:]))])
        with torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=is_half):
            out = net(pixels.to(device))
        rows.append(out[: len(part)].float().cpu())
        watchdog.heartbeat()  # a pass over all images in mid-training is no stall
    return torch.cat(rows) if rows else torch.empty(0)
